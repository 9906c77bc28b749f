"""Specificity: how much better an answer serves the person that it was written for than another person's answer does.

An answer that is simply better for everybody scores high on every rubric and has a specificity of 0: each rubric is held
against the own and against the other person's answer, and only the difference counts. Lengths and breakage (answers that
a check of facts, safety or form found broken) stand beside it, because an answer can buy the one with the other.

The measure is this project's own; scores are on the 1 to 5 scale of absolute grading with rubrics (Kim et al. 2024,
"Prometheus 2", arXiv 2405.01535).
"""

from collections.abc import Mapping, Sequence
from itertools import permutations
from math import factorial, inf

import msgspec
import numpy as np

from shared.statistics.intervals import LEVEL, Interval, clipped, cluster_mean_interval

LOWEST_SCORE, HIGHEST_SCORE = 1.0, 5.0
MOST_PEOPLE = 8
"""All K! assignments are tried; 8 people have 40,320."""
_TIE = 1e-9

Scores = Sequence[Mapping[str, float | None]]


class ScoredInstruction(msgspec.Struct, frozen=True):
    """One instruction with K people: `rubrics[a]` the keys of person a's rubrics (equal keys are one shared rubric),
    `scores[a][key]` what the answer written for a got on that rubric, 1 to 5, None where no score was obtained.

    `words[a]` is the length of answer a; `broken[a]` whether it was found broken, None where nobody looked.
    """

    instruction: str
    rubrics: Sequence[Sequence[str]]
    scores: Scores
    words: Sequence[int] = ()
    broken: Sequence[bool | None] = ()


class InstructionSpecificity(msgspec.Struct, frozen=True):
    """`specificity` from -1 to 1, None where no pair could be compared.

    `pairs` ordered pairs compared; `pairs_without_own` left out because b shares every rubric of a; `pairs_unscored` left
    out because each rubric lacked a score; `missing_scores` how many scores these rubrics lacked.
    """

    specificity: float | None
    pairs: int
    pairs_without_own: int
    pairs_unscored: int
    missing_scores: int


class Matching(msgspec.Struct, frozen=True):
    """`share` of people given their own answer by the best assignment, `exact` 1 where all are; ties share equally.
    `chance` is the exact match of answers that nobody can tell apart, 1 / K!."""

    share: float
    exact: float
    chance: float


class SpecificitySummary(msgspec.Struct, frozen=True):
    """Over instructions, each interval with the instructions as clusters.

    `ratio` is the specificity divided by that of reference answers, over the instructions that have both. `own_score` is
    the mean score (1 to 5) of answers on their own person's rubrics: what specificity is not.
    """

    instructions: int
    specificity: Interval
    ratio: Interval | None
    own_score: Interval
    matched_share: Interval
    exact_match: Interval
    exact_match_by_chance: float | None
    words: Interval
    breakage: Interval
    pairs: int
    pairs_without_own: int
    pairs_unscored: int
    missing_scores: int
    instructions_unmatched: int


def utility(score: float) -> float:
    """u = (score - 1) / 4, 0 to 1. Raises ValueError for a score outside 1 to 5."""
    if not LOWEST_SCORE <= score <= HIGHEST_SCORE:
        raise ValueError(f"a score of {score} lies outside 1 to 5: leave what could not be scored out as None")
    return (score - LOWEST_SCORE) / (HIGHEST_SCORE - LOWEST_SCORE)


def instruction_specificity(scored: ScoredInstruction) -> InstructionSpecificity:
    """S = mean over ordered pairs a != b of u(y_a; R(a\\b)) - u(y_b; R(a\\b)), R(a\\b) = a's rubrics without b's.

    u over a set is the mean over its rubrics; a rubric that lacks one of the two scores is left out of both sides, so that
    K times the same answer gives exactly 0. Raises ValueError for lists of different length and for scores out of range.
    """
    _require_shape(scored)
    differences: list[float] = []
    empty = unscored = missing = 0
    for a, own_keys in enumerate(scored.rubrics):
        for b, other_keys in enumerate(scored.rubrics):
            if a == b:
                continue
            shared = set(other_keys)
            distinct = [key for key in dict.fromkeys(own_keys) if key not in shared]
            if not distinct:
                empty += 1
                continue
            parts = []
            for key in distinct:
                own, other = scored.scores[a].get(key), scored.scores[b].get(key)
                missing += (own is None) + (other is None)
                if own is not None and other is not None:
                    parts.append(utility(own) - utility(other))
            if parts:
                differences.append(sum(parts) / len(parts))
            else:
                unscored += 1
    mean = sum(differences) / len(differences) if differences else None
    return InstructionSpecificity(mean, len(differences), empty, unscored, missing)


def matching(scored: ScoredInstruction) -> Matching | None:
    """Which assignment of the K answers to the K people has the highest total u, and how many got their own.

    u of a person is the mean over those of the person's rubrics on which every answer has a score; None where a person has
    no such rubric, or K is 1. Raises ValueError for more than 8 people.
    """
    _require_shape(scored)
    people = len(scored.rubrics)
    if people > MOST_PEOPLE:
        raise ValueError(f"{people} people have {factorial(people):,} assignments: match {MOST_PEOPLE} at most")
    if people < 2:
        return None
    utilities = np.empty((people, people))  # answer x person
    for person, keys in enumerate(scored.rubrics):
        columns = []
        for key in dict.fromkeys(keys):
            values = [answer.get(key) for answer in scored.scores]
            known = [utility(value) for value in values if value is not None]
            if len(known) == people:
                columns.append(known)
        if not columns:
            return None
        utilities[:, person] = np.mean(columns, axis=0)
    assignments = np.array(list(permutations(range(people))))
    totals = utilities[assignments, np.arange(people)].sum(axis=1)
    own = (assignments[totals >= totals.max() - _TIE] == np.arange(people)).sum(axis=1)
    return Matching(float(own.mean()) / people, float((own == people).mean()), 1 / factorial(people))


def summarise(
    scored: Sequence[ScoredInstruction], reference: Sequence[ScoredInstruction] = (), *, level: float = LEVEL
) -> SpecificitySummary:
    """All figures over instructions. `reference`: the same instructions with the scores of reference answers, for `ratio`.

    Raises ValueError where an instruction stands twice in one of the two, and as `instruction_specificity` does.
    """
    _require_unique(scored)
    _require_unique(reference)
    found = {item.instruction: instruction_specificity(item) for item in scored}
    values = {name: result.specificity for name, result in found.items() if result.specificity is not None}
    matched = {item.instruction: matching(item) for item in scored}
    matches = {name: match for name, match in matched.items() if match is not None}
    own = [(item.instruction, value) for item in scored for value in _own_scores(item)]
    words = [(item.instruction, float(count)) for item in scored for count in item.words]
    broken = [(item.instruction, float(flag)) for item in scored for flag in item.broken if flag is not None]
    return SpecificitySummary(
        instructions=len(scored),
        specificity=clipped(cluster_mean_interval(list(values.values()), list(values), level=level), -1.0, 1.0),
        ratio=_ratio(values, reference, level) if reference else None,
        own_score=clipped(_interval(own, level), LOWEST_SCORE, HIGHEST_SCORE),
        matched_share=_interval([(name, match.share) for name, match in matches.items()], level, highest=1.0),
        exact_match=_interval([(name, match.exact) for name, match in matches.items()], level, highest=1.0),
        exact_match_by_chance=sum(match.chance for match in matches.values()) / len(matches) if matches else None,
        words=_interval(words, level),
        breakage=_interval(broken, level, highest=1.0),
        pairs=sum(result.pairs for result in found.values()),
        pairs_without_own=sum(result.pairs_without_own for result in found.values()),
        pairs_unscored=sum(result.pairs_unscored for result in found.values()),
        missing_scores=sum(result.missing_scores for result in found.values()),
        instructions_unmatched=len(scored) - len(matches),
    )


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float], *, level: float = LEVEL) -> Interval:
    """Mean of the numerators by mean of the denominators, item by item of one instruction each, linearised.

    The ratio's deviation is that of the mean of (n - ratio d) / mean(d). Where the interval of the denominators' mean holds
    0 the ratio can be anything: `low` and `high` are None, method `denominator_near_zero`. Raises ValueError for two
    lengths.
    """
    if len(numerators) != len(denominators):
        raise ValueError(f"{len(numerators)} numerators and {len(denominators)} denominators: they come in pairs")
    clusters = range(len(numerators))
    below = cluster_mean_interval(denominators, clusters, level=level)
    if below.estimate is None or below.estimate == 0:
        return Interval(None, None, None, level, below.clusters, "denominator_near_zero" if numerators else "nothing")
    ratio = float(np.mean(numerators)) / below.estimate
    if below.method != "no_variation" and (below.low is None or below.high is None):
        return Interval(ratio, None, None, level, below.clusters, below.method)
    if below.low is not None and below.high is not None and below.low <= 0 <= below.high:
        return Interval(ratio, None, None, level, below.clusters, "denominator_near_zero")
    residuals = (np.asarray(numerators) - ratio * np.asarray(denominators)) / below.estimate
    found = cluster_mean_interval(residuals, clusters, level=level)
    if found.low is None or found.high is None:
        return Interval(ratio, None, None, level, found.clusters, found.method)
    return Interval(ratio, ratio + found.low, ratio + found.high, level, found.clusters, "linearised_ratio")


def _ratio(values: Mapping[str, float], reference: Sequence[ScoredInstruction], level: float) -> Interval:
    pairs = [
        (values[item.instruction], own)
        for item in reference
        if item.instruction in values and (own := instruction_specificity(item).specificity) is not None
    ]
    return ratio_interval([own for own, _ in pairs], [other for _, other in pairs], level=level)


def _own_scores(scored: ScoredInstruction) -> list[float]:
    """The mean score of each answer on its own person's rubrics, of those that were scored at all."""
    means = []
    for keys, answer in zip(scored.rubrics, scored.scores, strict=True):
        known = [score for key in dict.fromkeys(keys) if (score := answer.get(key)) is not None]
        if known:
            means.append(sum(known) / len(known))
    return means


def _interval(observed: Sequence[tuple[str, float]], level: float, highest: float = inf) -> Interval:
    """Of a mean that lies between 0 and `highest`."""
    found = cluster_mean_interval([value for _, value in observed], [name for name, _ in observed], level=level)
    return clipped(found, 0.0, highest)


def _require_shape(scored: ScoredInstruction) -> None:
    people = len(scored.rubrics)
    for name, given in (("scores", scored.scores), ("words", scored.words), ("broken", scored.broken)):
        if len(given) != people and (given or name == "scores"):
            raise ValueError(
                f"instruction {scored.instruction!r} has rubrics of {people} people and {len(given)} entries in `{name}`: "
                "give one per person"
            )


def _require_unique(scored: Sequence[ScoredInstruction]) -> None:
    names = [item.instruction for item in scored]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"instruction {twice!r} stands twice: give each once, with all of its answers")
