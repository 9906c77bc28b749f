"""What came of an annotation task: how far people agree, who wins, and how well the job's judge says the same."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

import msgspec

from shared.artifacts.tables import iterate_rows
from shared.domain.annotations import Outcome
from shared.domain.rows import Comparison
from shared.metadata.tables import Annotation, AnnotationItem, AnnotationTask
from shared.statistics.agreement import (
    cohen_kappa_interval,
    fleiss_kappa_interval,
    krippendorff_alpha_interval,
    majority,
)
from shared.statistics.calibration import FIRST, SECOND, TIE, Calibration, JudgedPair, judge_against_people
from shared.statistics.intervals import Interval, cluster_mean_interval
from shared.statistics.pairwise import LOSS, WIN, Battle, WinRate, win_rate
from shared.statistics.pairwise import TIE as HALF

_OUTCOMES = {Outcome.FIRST: WIN, Outcome.SECOND: LOSS, Outcome.BOTH_GOOD: HALF, Outcome.BOTH_BAD: HALF}
_JUDGED = {
    "win": FIRST,
    "better": FIRST,
    "much_better": FIRST,
    "lose": SECOND,
    "worse": SECOND,
    "much_worse": SECOND,
    "both_good": TIE,
    "both_bad": TIE,
    "same": TIE,
}
"""A comparison's verdict -> the label of a pair whose first answer is the candidate's."""

Verdicts = Mapping[tuple[str, int], Sequence[Comparison]]


class PairKappa(msgspec.Struct, frozen=True):
    """Cohen's kappa of two annotators over the pairs that both judged."""

    annotators: tuple[str, str]
    pairs: int
    kappa: Interval


class AnnotatorFigures(msgspec.Struct, frozen=True):
    """One annotator: how many pairs they judged; of those where they took a side, the share that is the left one (sides are
    swapped for half of the pairs, so it is near one half for who reads); and the median of the seconds that a verdict took, None
    where no time was told."""

    name: str
    judged: int
    left: Interval
    median_seconds: float | None


class AnnotationResults(msgspec.Struct, frozen=True):
    """`majorities` counts pairs by the outcome that most annotators gave (`undecided`: none had most). `calibration` is None
    where the job's judge compared no such pair; `calibration_note` then says why."""

    items: int
    annotations: int
    annotators: tuple[AnnotatorFigures, ...]
    outcomes: dict[str, int]
    majorities: dict[str, int]
    win_rate: WinRate | None
    kappas: tuple[PairKappa, ...]
    fleiss: Interval
    krippendorff: Interval
    calibration: Calibration | None
    calibration_note: str


def results_of(
    task: AnnotationTask,
    items: Sequence[AnnotationItem],
    annotations: Sequence[Annotation],
    verdicts: Verdicts | None,
    note: str,
) -> AnnotationResults:
    """All figures of a task. `verdicts`: the judge's comparisons by row and facet, the task's first answer taken for the
    candidate's; None where there are none, and `note` says why."""
    names = sorted({one.annotator for one in annotations})
    said: dict[int, dict[str, str]] = {}
    for one in annotations:
        said.setdefault(one.number, {})[one.annotator] = one.outcome
    table = [[said[number].get(name) for name in names] for number in sorted(said)]
    by_number = {item.number: item for item in items}
    majorities: dict[str, int] = {outcome.value: 0 for outcome in Outcome} | {"undecided": 0}
    for row in table:
        majorities[str(majority(row) or "undecided")] += 1
    outcomes: dict[str, int] = {outcome.value: 0 for outcome in Outcome}
    for one in annotations:
        outcomes[one.outcome] += 1
    battles = [_battle(task, by_number[one.number], one) for one in annotations]
    return AnnotationResults(
        items=task.items,
        annotations=len(annotations),
        annotators=tuple(
            _annotator(name, by_number, [one for one in annotations if one.annotator == name]) for name in names
        ),
        outcomes=outcomes,
        majorities=majorities,
        win_rate=win_rate(battles) if battles else None,
        kappas=tuple(_kappas(table, names)),
        fleiss=fleiss_kappa_interval(table),
        krippendorff=krippendorff_alpha_interval(table),
        calibration=None if verdicts is None else _calibration(by_number, said, verdicts),
        calibration_note=note,
    )


def read_verdicts(paths: Iterable[Path], *, turned: bool) -> dict[tuple[str, int], list[Comparison]]:
    """The comparisons of a stage, by row and facet. `turned`: the task's first answer is the baseline's, so each is told the
    other way round."""
    found = {}
    for row in (row for path in paths for row in iterate_rows(path)):
        for facet in row.facets:
            found[row.row_id, facet.index] = [_turn(one) if turned else one for one in facet.comparisons]
    return found


_TURNED = {
    "win": "lose",
    "lose": "win",
    "better": "worse",
    "worse": "better",
    "much_better": "much_worse",
    "much_worse": "much_better",
}


def _turn(comparison: Comparison) -> Comparison:
    verdict = _TURNED.get(comparison.verdict, comparison.verdict)
    return msgspec.structs.replace(comparison, verdict=verdict, order=1 - comparison.order)


def _annotator(name: str, items: Mapping[int, AnnotationItem], annotations: Sequence[Annotation]) -> AnnotatorFigures:
    sides = [
        (items[one.number].row_id, (one.outcome == Outcome.SECOND) == items[one.number].swapped)
        for one in annotations
        if one.outcome in {Outcome.FIRST, Outcome.SECOND}
    ]
    seconds = [one.seconds for one in annotations if one.seconds is not None]
    return AnnotatorFigures(
        name=name,
        judged=len(annotations),
        left=cluster_mean_interval([float(left) for _, left in sides], [row_id for row_id, _ in sides]),
        median_seconds=median(seconds) if seconds else None,
    )


def _kappas(table: Sequence[Sequence[str | None]], names: Sequence[str]) -> Iterable[PairKappa]:
    for place, one in enumerate(names):
        for further in range(place + 1, len(names)):
            both = [(row[place], row[further]) for row in table if row[place] and row[further]]
            kappa = cohen_kappa_interval([first for first, _ in both], [second for _, second in both])
            yield PairKappa((one, names[further]), len(both), kappa)


def _battle(task: AnnotationTask, item: AnnotationItem, said: Annotation) -> Battle:
    outcome = Outcome(said.outcome)
    return Battle(
        instruction=item.row_id,
        first=f"{task.first} (first)",
        second=f"{task.second} (second)",
        outcome=_OUTCOMES[outcome],
        kind=outcome.value if outcome in {Outcome.BOTH_GOOD, Outcome.BOTH_BAD} else "",
        pair=str(item.facet_index),
        first_words=item.body["first_words"],
        second_words=item.body["second_words"],
    )


def _calibration(
    items: Mapping[int, AnnotationItem], said: Mapping[int, Mapping[str, str]], verdicts: Verdicts
) -> Calibration:
    pairs = []
    for number, labels in said.items():
        item = items[number]
        people = [label if label in {FIRST, SECOND} else TIE for label in labels.values()]
        pairs.append(
            JudgedPair(
                instruction=item.row_id,
                people=people,
                judge=_by_order(verdicts.get((item.row_id, item.facet_index), ())),
                first_words=item.body["first_words"],
                second_words=item.body["second_words"],
            )
        )
    return judge_against_people(pairs)


def _by_order(comparisons: Sequence[Comparison]) -> tuple[str | None, str | None]:
    """What most of the judge's runs say in each order; a tie where they are evenly split."""
    found: list[str | None] = []
    for order in (0, 1):
        labels = [_JUDGED[one.verdict] for one in comparisons if one.order == order and one.verdict]
        most = majority(labels)
        found.append(None if not labels else str(most) if most is not None else TIE)
    return found[0], found[1]
