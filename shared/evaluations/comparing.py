"""Two evaluations held against each other, figure by figure, paired item by item where both tell their items."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from shared.domain.evaluation_figures import Candidate, Figure, StatedInterval
from shared.evaluations.reading import ItemKey, StoredEvaluation
from shared.statistics.bootstrap import ROUNDS, bootstrap_difference
from shared.statistics.intervals import LEVEL, SEED, Interval, difference_interval


class FigureDifference(msgspec.Struct, frozen=True):
    """One figure of a candidate of the first evaluation minus that of one of the second.

    Over the `items` that both have, instructions drawn for both together. Where `items` is None the interval is made of those of
    the two figures, as if they were independent: of figures of the same instructions it is wider than it had to be.
    `first_value` and `second_value` are means over what the difference is taken of.
    """

    first: str
    second: str
    figure: str
    first_value: float
    second_value: float
    difference: Interval
    items: int | None

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves out 0."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and not low <= 0 <= high


class EvaluationComparison(msgspec.Struct, frozen=True):
    """`items`: how many the first asked, the second, and both (None where one of them does not tell). `notes`: what else than
    the candidates differs, and what weakens either, in sentences."""

    first: str
    second: str
    same_bench: bool
    items: tuple[int, int, int | None]
    notes: tuple[str, ...]
    differences: tuple[FigureDifference, ...]


def compare_evaluations(
    first: StoredEvaluation, second: StoredEvaluation, *, rounds: int = ROUNDS, seed: int = SEED
) -> EvaluationComparison:
    """All figures that two candidates share: of candidates called alike where there are any, else of all pairs of them."""
    one, two = first.document, second.document
    common = len(first.items & second.items) if first.items and second.items else None
    return EvaluationComparison(
        first=first.name,
        second=second.name,
        same_bench=one.bench.fingerprint == two.bench.fingerprint,
        items=(one.items, two.items, common),
        notes=tuple(_notes(first, second)),
        differences=tuple(
            difference
            for mine, theirs in _pairs(one.candidates, two.candidates)
            for difference in _differences(first, mine, second, theirs, rounds, seed)
        ),
    )


def _pairs(first: Sequence[Candidate], second: Sequence[Candidate]) -> list[tuple[Candidate, Candidate]]:
    alike = [(mine, theirs) for mine in first for theirs in second if mine.name == theirs.name]
    return alike or [(mine, theirs) for mine in first for theirs in second]


def _differences(
    first: StoredEvaluation, mine: Candidate, second: StoredEvaluation, theirs: Candidate, rounds: int, seed: int
) -> Iterator[FigureDifference]:
    ours, others = _figures(mine), _figures(theirs)
    for figure, stated in ours.items():
        if figure not in others:
            continue
        own = first.columns.get(f"{figure}:{mine.name}", {})
        other = second.columns.get(f"{figure}:{theirs.name}", {})
        keys = [key for key in own if key in other]
        if keys:
            yield _paired(mine.name, theirs.name, figure, keys, own, other, rounds, seed)
        elif stated.estimate is not None and (value := others[figure].estimate) is not None:
            yield FigureDifference(
                mine.name,
                theirs.name,
                figure,
                stated.estimate,
                value,
                difference_interval(stated, others[figure]),
                None,
            )


def _paired(
    mine: str,
    theirs: str,
    figure: str,
    keys: Sequence[ItemKey],
    own: Mapping[ItemKey, float],
    other: Mapping[ItemKey, float],
    rounds: int,
    seed: int,
) -> FigureDifference:
    rows = [row_id for row_id, _ in keys]
    first, second = [own[key] for key in keys], [other[key] for key in keys]
    difference = bootstrap_difference(first, rows, second, rows, rounds=rounds, seed=seed)
    return FigureDifference(
        mine, theirs, figure, sum(first) / len(keys), sum(second) / len(keys), difference, len(keys)
    )


def _figures(candidate: Candidate) -> dict[str, Interval]:
    """The figures of a candidate that can be compared, by their column in `items.csv`, as intervals."""
    found: dict[str, Figure | StatedInterval] = {}
    if candidate.absolute is not None:
        found["score"] = candidate.absolute.overall
        found |= {f"score.{part.name}": part for part in candidate.absolute.dimensions}
        if candidate.absolute.specificity is not None:
            found["specificity"] = candidate.absolute.specificity.specificity
    if candidate.conversation is not None:
        found["rating"] = candidate.conversation.overall
    found |= {"checks": candidate.checks.passed, "words": candidate.words.mean}
    return {name: _interval(figure) for name, figure in found.items()}


def _interval(figure: Figure | StatedInterval) -> Interval:
    clusters = figure.clusters if isinstance(figure, StatedInterval) else figure.instructions
    level = figure.level if isinstance(figure, StatedInterval) else LEVEL
    return Interval(figure.estimate, figure.low, figure.high, level, clusters, figure.method)


_HOW = ("absolute", "conversation")
"""Parts of `evaluate` that say how scores came about."""


def _notes(first: StoredEvaluation, second: StoredEvaluation) -> Iterator[str]:
    one, two = first.document, second.document
    if one.judge != two.judge:
        yield f"another judge: {_model(one.judge)} and {_model(two.judge)}; scores of two judges are not on one scale"
    for part in _HOW:
        mine, theirs = (_settings(document.configuration, part) for document in (one, two))
        if mine is None or theirs is None:
            continue
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name):
                yield f"evaluate.{part}.{name} is {mine.get(name)} and {theirs.get(name)}"
    for stored in (first, second):
        if not stored.items:
            yield f"{stored.name} has no items.csv beside it: its figures cannot be paired"
        for reason in stored.document.completeness.reasons:
            yield f"{stored.name} is incomplete: {reason}"
        if stored.document.simulated:
            yield f"{stored.name} is simulated: {', '.join(stored.document.simulated)}"
        for flag in stored.document.flags:
            yield f"{stored.name}: {flag}"


def _model(judge: Mapping[str, Any] | None) -> str:
    return "none" if judge is None else f"{judge.get('provider')}/{judge.get('model')}"


def _settings(configuration: Mapping[str, Any], part: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = (configuration.get("evaluate") or {}).get(part)
    return found
