"""Instructions shown whole: what every candidate answered to every person, how it was graded, and what the judge said."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.evaluation.figures.absolute import Grade
from services.evaluation.figures.evaluation import Evaluation
from services.evaluation.figures.gathering import rows_of
from shared.domain.evaluations import COMPARE_PREFIX, JUDGE_PREFIX, RATE_PREFIX
from shared.domain.identifiers import seed_of
from shared.domain.jobs import JobSpec
from shared.domain.judged_answers import best_answer, conversation
from shared.domain.rows import Facet, InstructionRow
from shared.stages.protocol import InputObject


def examples(evaluation: Evaluation, inputs: Sequence[InputObject], spec: JobSpec, count: int) -> list[dict[str, Any]]:
    """`count` instructions: half of them those on which the candidates differ most, the others drawn by seed."""
    chosen = _chosen(evaluation, spec.seed, count)
    if not chosen:
        return []
    found: dict[str, dict[str, Any]] = {}
    for answer in spec.answer:
        grades = _by_item(evaluation.grades[answer.name].grades) if answer.name in evaluation.grades else {}
        stage = JUDGE_PREFIX + answer.name if grades else answer.name
        rated = _ratings(inputs, answer.name, chosen) if answer.name in evaluation.ratings else {}
        compared = _comparisons(inputs, answer.name, chosen) if answer.name in evaluation.battles else {}
        for row in rows_of(inputs, stage):
            if row.row_id not in chosen:
                continue
            example = found.setdefault(row.row_id, _example(row))
            for facet in row.facets:
                record = _answered(row, facet, grades.get((row.row_id, facet.index), {}))
                key = (row.row_id, facet.index)
                record |= {
                    "candidate": answer.name,
                    "ratings": rated.get(key, []),
                    "comparisons": compared.get(key, []),
                }
                example["facets"][facet.index]["answers"].append(record)
    return [{**found[row_id], "facets": list(found[row_id]["facets"].values())} for row_id in chosen if row_id in found]


def _chosen(evaluation: Evaluation, seed: int, count: int) -> list[str]:
    """Row ids: those of the largest differences first."""
    rows = list(dict.fromkeys(row_id for row_id, _ in evaluation.items))
    spans: dict[str, float] = {}
    for key in evaluation.items:
        judged = evaluation.scores or evaluation.ratings
        scores = [found[key] for found in judged.values() if key in found]
        if len(scores) > 1:
            spans[key[0]] = max(spans.get(key[0], 0.0), max(scores) - min(scores))
    differing = sorted((row for row in spans if spans[row] > 0), key=lambda row: (-spans[row], row))[: count // 2]
    drawn = sorted((row for row in rows if row not in differing), key=lambda row: seed_of(seed, "examples", row))
    return [*differing, *drawn[: count - len(differing)]]


def _example(row: InstructionRow) -> dict[str, Any]:
    return {
        "row_id": row.row_id,
        "instruction": row.instruction,
        "source": row.main_source,
        "category": row.category,
        "facets": {
            facet.index: {
                "index": facet.index,
                "system": facet.system,
                "reference": facet.response,
                "preferences": [
                    {
                        "dimension": one.dimension,
                        "description": one.description,
                        "criterion": facet.rubrics[place].criterion if place < len(facet.rubrics) else None,
                    }
                    for place, one in enumerate(facet.preferences)
                ],
                "answers": [],
            }
            for facet in row.facets
        },
    }


def _answered(row: InstructionRow, facet: Facet, grades: Mapping[int, Grade]) -> dict[str, Any]:
    answer = best_answer(facet)
    return {
        "text": None if answer is None else answer.text,
        "turns": conversation(row, answer) if answer is not None and row.turns else [],
        "fault": "" if answer is not None else (facet.rejection.reason if facet.rejection else "no_answer"),
        "reward": None if answer is None else answer.reward,
        "grades": [
            {"rubric": rubric, "score": grade.score, "feedback": grade.feedback}
            for rubric, grade in sorted(grades.items())
        ],
    }


def _by_item(grades: Sequence[Grade]) -> dict[tuple[str, int], dict[int, Grade]]:
    """Grades on own rubrics, by item and rubric."""
    found: dict[tuple[str, int], dict[int, Grade]] = {}
    for grade in grades:
        if grade.is_own:
            found.setdefault((grade.item.row_id, grade.item.facet), {})[grade.rubric] = grade
    return found


def _ratings(
    inputs: Sequence[InputObject], candidate: str, chosen: Sequence[str]
) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Of a conversation's turns the first verdict each."""
    wanted = set(chosen)
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows_of(inputs, RATE_PREFIX + candidate):
        for facet in row.facets if row.row_id in wanted else ():
            first = {one.rubric: one for one in reversed(facet.judgments)}
            found[row.row_id, facet.index] = [
                {"turn": turn, "score": one.score, "feedback": one.feedback} for turn, one in sorted(first.items())
            ]
    return found


def _comparisons(
    inputs: Sequence[InputObject], candidate: str, chosen: Sequence[str]
) -> dict[tuple[str, int], list[dict[str, Any]]]:
    wanted = set(chosen)
    return {
        (row.row_id, facet.index): [
            {"order": one.order, "verdict": one.verdict, "fault": one.fault, "feedback": one.feedback}
            for one in facet.comparisons
        ]
        for row in rows_of(inputs, COMPARE_PREFIX + candidate)
        if row.row_id in wanted
        for facet in row.facets
    }
