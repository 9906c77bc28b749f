"""Machine checks: what programs say of every answer, for nothing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from services.evaluation.figures.gathering import ItemKey, rows_of, was_asked
from services.evaluation.figures.told import Draws
from shared.domain.checks import NECESSARY_KINDS, evaluate
from shared.domain.judged_answers import judged_answers
from shared.domain.rows import Check, Facet
from shared.stages.protocol import InputObject

QUESTION = "question"
"""What checks of the questions themselves are told under, beside the dimensions of the preferences."""


class Checked(msgspec.Struct, frozen=True):
    """One check on one answer. `passed` is None where it could not be measured."""

    key: ItemKey
    kind: str
    dimension: str
    passed: bool | None


class CheckedAnswers(msgspec.Struct):
    """All checks on one candidate's answers; `unanswered` counts those of questions without an answer that counts."""

    outcomes: list[Checked] = []
    unanswered: int = 0


def gather_checks(inputs: Sequence[InputObject], candidate: str) -> CheckedAnswers:
    """Every check of the preferences and of the question, evaluated on every answer that counts."""
    found = CheckedAnswers()
    for row in rows_of(inputs, candidate):
        for facet in filter(was_asked, row.facets):
            checks = list(_checks_of(facet))
            positions = judged_answers(facet)
            if not positions:
                found.unanswered += len(checks)
            for position in positions:
                for dimension, check in checks:
                    outcome = evaluate(check, facet.answers[position].text).outcome
                    passed = None if outcome == "not_applicable" else outcome == "pass"
                    found.outcomes.append(Checked((row.row_id, facet.index), check.kind, dimension, passed))
    return found


def _checks_of(facet: Facet) -> Iterator[tuple[str, Check]]:
    for preference in facet.preferences:
        if preference.check is not None:
            yield preference.dimension, preference.check
    for check in facet.checks:
        yield QUESTION, check


def check_figures(found: CheckedAnswers, draws: Draws) -> dict[str, Any]:
    """Share of checks passed among those that could be measured: `passed` in all, `sufficient` without the kinds that are only
    necessary, and by kind and dimension with the outcomes counted."""
    outcomes = found.outcomes
    kinds = _by([one.kind for one in outcomes], outcomes, draws)
    return {
        "passed": _share(outcomes, draws),
        "sufficient": _share([one for one in outcomes if one.kind not in NECESSARY_KINDS], draws),
        "kinds": [{**kind, "necessary": kind["name"] in NECESSARY_KINDS} for kind in kinds],
        "dimensions": _by([one.dimension for one in outcomes], outcomes, draws),
        "not_applicable": sum(one.passed is None for one in outcomes),
        "unanswered": found.unanswered,
    }


def _share(outcomes: Sequence[Checked], draws: Draws) -> dict[str, Any]:
    known = [one for one in outcomes if one.passed is not None]
    return draws.mean([float(bool(one.passed)) for one in known], [one.key[0] for one in known])


def _by(names: Sequence[str], outcomes: Sequence[Checked], draws: Draws) -> list[dict[str, Any]]:
    known = [(name, one) for name, one in zip(names, outcomes, strict=True) if one.passed is not None]
    shares = draws.means(
        [float(bool(one.passed)) for _, one in known], [one.key[0] for _, one in known], [name for name, _ in known]
    )
    counted = Counter((name, one.passed) for name, one in zip(names, outcomes, strict=True))
    return [
        {
            "name": name,
            **shares.get(name, draws.mean([], [])),
            "passed": counted[name, True],
            "failed": counted[name, False],
            "not_applicable": counted[name, None],
        }
        for name in sorted(set(names))
    ]


def item_checks(found: CheckedAnswers) -> dict[ItemKey, float]:
    """Share of its checks that each item passes, of the items on which one at least could be measured."""
    by_item: dict[ItemKey, list[bool]] = {}
    for one in found.outcomes:
        if one.passed is not None:
            by_item.setdefault(one.key, []).append(one.passed)
    return {key: sum(passed) / len(passed) for key, passed in by_item.items()}
