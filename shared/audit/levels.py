"""Figures by what a row shows that training has not, so that none stands only in the mix of train and test."""

import msgspec

from shared.audit.data import AuditData, AuditRow
from shared.audit.stated import checks_of
from shared.domain.checks import evaluate
from shared.domain.splits import SplitLevel
from shared.statistics.intervals import Interval, cluster_mean_interval


class LevelFigures(msgspec.Struct, frozen=True):
    """One split and level of the rows looked at: `facets` of `instructions`. `failed` is the share of the `demands` that a
    program can check which the answer fails; `words` the mean length of answers in words."""

    split: str
    level: str
    code: str
    facets: int
    instructions: int
    demands: int
    failed: Interval
    words: Interval


def level_figures(data: AuditData) -> tuple[LevelFigures, ...]:
    """Training first, then the levels of the test split in their order; empty for layouts without levels."""
    groups: dict[tuple[str, str], list[AuditRow]] = {}
    for row in data.rows:
        if row.split is not None and row.level is not None:
            groups.setdefault((row.split, row.level), []).append(row)
    order = [level.value for level in SplitLevel]
    names = sorted(
        groups, key=lambda name: (name[0] != "train", name[0], order.index(name[1]) if name[1] in order else len(order))
    )
    return tuple(_figures(*name, groups[name]) for name in names)


def _figures(split: str, level: str, rows: list[AuditRow]) -> LevelFigures:
    outcomes = [
        (row.cluster, evaluate(check, row.output or "").outcome)
        for row in rows
        for check in checks_of(row.system or "")
    ]
    judged = [(cluster, float(outcome == "fail")) for cluster, outcome in outcomes if outcome != "not_applicable"]
    known = level in {each.value for each in SplitLevel}
    return LevelFigures(
        split=split,
        level=level,
        code=SplitLevel(level).code if known and split != "train" else "",
        facets=len(rows),
        instructions=len({row.cluster for row in rows}),
        demands=len(judged),
        failed=cluster_mean_interval([value for _, value in judged], [cluster for cluster, _ in judged]),
        words=_not_negative(
            cluster_mean_interval(
                [float(len((row.output or "").split())) for row in rows], [row.cluster for row in rows]
            )
        ),
    )


def _not_negative(interval: Interval) -> Interval:
    """Student's interval of two or three instructions can reach below 0, where no length lies."""
    return msgspec.structs.replace(interval, low=max(interval.low, 0.0)) if interval.low is not None else interval
