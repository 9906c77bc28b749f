"""Absolute grades: mean over runs, then over an item's rubrics, then over items, as the paper does it (Lee et al. 2024).

Grades on other people's rubrics never enter these figures: they are what specificity is measured by.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import fmean, pstdev
from typing import Any

import msgspec

from services.evaluation.figures.gathering import Item, ItemKey, by_frequency, item_of, rows_of, was_asked
from services.evaluation.figures.told import Draws
from shared.domain.evaluations import JUDGE_PREFIX
from shared.domain.facet_matrix import rubric_keys
from shared.domain.rows import Facet, InstructionRow, Judgment
from shared.stages.protocol import InputObject
from shared.statistics.bootstrap import bootstrap_correlation
from shared.statistics.specificity import ScoredInstruction, instruction_specificity, summarise

NO_RUBRIC = -1


class Grade(msgspec.Struct, frozen=True):
    """An answer on one rubric: `score` is the mean over runs (and over answers where several count), None where all were lost.
    `feedback` is that of the first verdict that stands."""

    item: Item
    owner: int
    """Facet whose rubric it is: another person's where it is not the item's."""
    rubric: int
    dimension: str
    subdimension: str
    score: float | None
    spread: float | None
    """Standard deviation of the runs of one answer; None for fewer than two."""
    feedback: str = ""

    @property
    def is_own(self) -> bool:
        return self.owner == self.item.facet

    @property
    def key(self) -> ItemKey:
        return self.item.row_id, self.item.facet


class Grades(msgspec.Struct):
    """All grades of one candidate, and its verdicts counted."""

    grades: list[Grade] = []
    scored: list[ScoredInstruction] = []
    asked: int = 0
    lost: Counter[str] = msgspec.field(default_factory=Counter)


def gather_grades(inputs: Sequence[InputObject], candidate: str, words: Mapping[ItemKey, int]) -> Grades:
    """The grades of a candidate, from the parts of its stage `judge-…`."""
    found = Grades()
    for row in rows_of(inputs, JUDGE_PREFIX + candidate):
        facets = {facet.index: facet for facet in row.facets}
        by_rubric: dict[int, dict[tuple[int, int], Grade]] = {}
        for facet in filter(was_asked, row.facets):
            item = item_of(row, facet)
            grades = {}
            for judgment in facet.judgments:
                found.asked += 1
                if judgment.fault:
                    found.lost[judgment.fault] += 1
            for place, members in groupby(sorted(facet.judgments, key=_place), key=_place):
                if place[1] == NO_RUBRIC:
                    continue
                grades[place] = _grade(item, facets.get(place[0]), place, list(members))
            found.grades += grades.values()
            by_rubric[facet.index] = grades
        if (scored := _scored(row, by_rubric, words)) is not None:
            found.scored.append(scored)
    return found


def _place(judgment: Judgment) -> tuple[int, int]:
    return judgment.facet, judgment.rubric


def _grade(item: Item, owner: Facet | None, place: tuple[int, int], judgments: Sequence[Judgment]) -> Grade:
    by_answer: dict[int, list[float]] = {}
    for judgment in judgments:
        if judgment.score is not None:
            by_answer.setdefault(judgment.answer, []).append(judgment.score)
    preferences = [] if owner is None else owner.preferences
    preference = preferences[place[1]] if place[1] < len(preferences) else None
    spreads = [pstdev(runs) for runs in by_answer.values() if len(runs) > 1]
    return Grade(
        item=item,
        owner=place[0],
        rubric=place[1],
        dimension="" if preference is None else preference.dimension,
        subdimension="" if preference is None else preference.subdimension,
        score=fmean(fmean(runs) for runs in by_answer.values()) if by_answer else None,
        spread=fmean(spreads) if spreads else None,
        feedback=next((judgment.feedback for judgment in judgments if judgment.score is not None), ""),
    )


def _scored(
    row: InstructionRow, by_rubric: Mapping[int, Mapping[tuple[int, int], Grade]], words: Mapping[ItemKey, int]
) -> ScoredInstruction | None:
    """The row as specificity reads it: answers and rubrics of all people who have both; None for fewer than two of them."""
    people = [facet for facet in row.facets if facet.rubrics and (row.row_id, facet.index) in words]
    if len(people) < 2:
        return None
    keys = rubric_keys([facet.preferences for facet in people])
    key_of = {
        (facet.index, rubric): str(keys[number][rubric])
        for number, facet in enumerate(people)
        for rubric in range(min(len(facet.rubrics), len(keys[number])))
    }
    scores: list[dict[str, float | None]] = []
    for facet in people:
        scores.append(
            {key_of[place]: grade.score for place, grade in by_rubric[facet.index].items() if place in key_of}
        )
    return ScoredInstruction(
        instruction=row.row_id,
        rubrics=[
            [key_of[facet.index, rubric] for rubric in range(len(facet.rubrics)) if (facet.index, rubric) in key_of]
            for facet in people
        ],
        scores=scores,
        words=[words[row.row_id, facet.index] for facet in people],
    )


def item_scores(grades: Sequence[Grade]) -> dict[ItemKey, float]:
    """Mean over the rubrics of each item that has one score at least."""
    by_item: dict[ItemKey, list[float]] = {}
    for grade in grades:
        if grade.is_own and grade.score is not None:
            by_item.setdefault(grade.key, []).append(grade.score)
    return {key: fmean(scores) for key, scores in by_item.items()}


def dimension_scores(grades: Sequence[Grade]) -> dict[str, dict[ItemKey, float]]:
    """Mean over the rubrics of each dimension of each item, by dimension."""
    found: dict[str, list[Grade]] = {}
    for grade in grades:
        found.setdefault(grade.dimension, []).append(grade)
    return {dimension: item_scores(members) for dimension, members in sorted(found.items())}


def absolute_figures(found: Grades, words: Mapping[ItemKey, int], draws: Draws) -> dict[str, Any]:
    """`overall` (1 to 5, over items), and the same by dimension, subdimension, source and split level (over rubrics for the first
    two), each with the length of the answers; `run_spread`, `length_correlation`, `specificity`; how many items are partial or
    have no score."""
    own = [grade for grade in found.grades if grade.is_own]
    scores = item_scores(own)
    items = {grade.key: grade.item for grade in own}
    known = [grade for grade in own if grade.score is not None]
    keys = list(scores)
    rubrics_of = Counter(grade.key for grade in own)
    known_of = Counter(grade.key for grade in known)
    spreads = [(grade.spread, grade.item.row_id) for grade in known if grade.spread is not None]
    measured = [key for key in keys if key in words]
    by_rubric = [(grade.key, grade.score) for grade in known if grade.score is not None]
    by_item = list(scores.items())

    def grouped(observed: Sequence[tuple[ItemKey, float]], groups: Sequence[Any]) -> list[tuple[Any, dict[str, Any]]]:
        return _grouped(observed, groups, words, draws)

    return {
        "overall": draws.mean(list(scores.values()), [key[0] for key in keys]),
        "dimensions": _named(grouped(by_rubric, [grade.dimension for grade in known])),
        "subdimensions": [
            {"dimension": dimension, "name": name, **figure}
            for (dimension, name), figure in grouped(
                by_rubric, [(grade.dimension, grade.subdimension) for grade in known]
            )
        ],
        "sources": _named(grouped(by_item, [items[key].source for key in keys])),
        "levels": _named(grouped(by_item, [items[key].level for key in keys])),
        "run_spread": draws.mean([spread for spread, _ in spreads], [row for _, row in spreads]),
        "length_correlation": _correlation(
            [float(words[key]) for key in measured],
            [scores[key] for key in measured],
            [key[0] for key in measured],
            draws,
        ),
        "items": len(items),
        "items_scored": len(scores),
        "items_partial": sum(known_of[key] < rubrics_of[key] for key in keys),
        "asked": found.asked,
        "lost": by_frequency(found.lost),
        "specificity": specificity_figures(found.scored),
    }


def instruction_specificities(scored: Sequence[ScoredInstruction]) -> dict[str, float]:
    """Specificity of each instruction that has one, by row id."""
    found = {one.instruction: instruction_specificity(one).specificity for one in scored}
    return {row_id: value for row_id, value in found.items() if value is not None}


def specificity_figures(scored: Sequence[ScoredInstruction]) -> dict[str, Any] | None:
    """How much better answers serve the person they were written for; None where no instruction has two people with answers, or
    no answer was graded on another person's rubric."""
    if not scored:
        return None
    found = summarise(scored)
    if not found.pairs:
        return None
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain


def _correlation(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str], draws: Draws
) -> dict[str, Any]:
    interval = bootstrap_correlation(first, second, clusters, rounds=draws.rounds, seed=draws.seed)
    return {
        "estimate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "n": len(first),
        "instructions": interval.clusters,
        "method": interval.method,
    }


def _grouped(
    observed: Sequence[tuple[ItemKey, float]], groups: Sequence[Any], words: Mapping[ItemKey, int], draws: Draws
) -> list[tuple[Any, dict[str, Any]]]:
    """The mean of each group with the mean length of the answers that it rests on, by name."""
    means = draws.means([value for _, value in observed], [key[0] for key, _ in observed], groups)
    lengths: dict[Any, list[int]] = {}
    for (key, _), group in zip(observed, groups, strict=True):
        if key in words:
            lengths.setdefault(group, []).append(words[key])
    return [
        (group, {**figure, "words": fmean(lengths[group]) if group in lengths else None})
        for group, figure in sorted(means.items(), key=_group)
    ]


def _group(item: tuple[Any, dict[str, Any]]) -> Any:
    return item[0]


def _named(figures: Sequence[tuple[Any, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [{"name": name, **figure} for name, figure in figures]
