"""The evaluation as tables that a spreadsheet opens: one line per grade, per comparison, per item."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.evaluation.figures.evaluation import Evaluation
from services.evaluation.figures.gathering import ItemKey, rows_of
from shared.domain.evaluations import COMPARE_PREFIX, JUDGE_PREFIX, RATE_PREFIX
from shared.stages.protocol import InputObject

_SCORES = (
    "candidate", "protocol", "row_id", "facet", "answer", "rubric_of", "rubric", "dimension", "subdimension", "run", "score",
    "fault", "words", "source", "level", "category",
)  # fmt: skip
_COMPARISONS = (
    "candidate",
    "baseline",
    "row_id",
    "facet",
    "order",
    "run",
    "verdict",
    "fault",
    "words",
    "baseline_words",
)


def scores_table(evaluation: Evaluation, inputs: Sequence[InputObject]) -> bytes:
    """Every verdict of absolute grading and of rated conversations, lost ones included with an empty score. `rubric_of` is the
    facet whose rubric it was; of a conversation `rubric` is the turn."""
    return _table(_SCORES, _scores(evaluation, inputs))


def comparisons_table(evaluation: Evaluation, inputs: Sequence[InputObject], baseline: str | None) -> bytes:
    """Every verdict on a pair, as the candidate sees it, lost ones included with an empty verdict."""
    return _table(_COMPARISONS, _comparisons(evaluation, inputs, baseline or ""))


def items_table(evaluation: Evaluation) -> bytes:
    """One line per item: what it is told by, and of every candidate the mean score, the score of each dimension, the rating, the
    share of checks passed and the length, empty where there is none. What two evaluations of one bench are compared by."""
    columns: dict[str, Mapping[ItemKey, float]] = {}
    for name in evaluation.answered:
        columns[f"score:{name}"] = evaluation.scores.get(name, {})
        for dimension, scores in evaluation.dimension_scores.get(name, {}).items():
            columns[f"score.{dimension}:{name}"] = scores
        columns[f"rating:{name}"] = evaluation.ratings.get(name, {})
        columns[f"checks:{name}"] = evaluation.item_checks[name]
        columns[f"words:{name}"] = evaluation.words[name]
    columns = {title: found for title, found in columns.items() if found}
    lines = (
        [
            *(item.row_id, item.facet, item.source, item.level, item.category),
            *(_cell(found.get(key)) for found in columns.values()),
        ]
        for key, item in evaluation.items.items()
    )
    return _table(["row_id", "facet", "source", "level", "category", *columns], lines)


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)


def _scores(evaluation: Evaluation, inputs: Sequence[InputObject]) -> Iterable[Sequence[Any]]:
    for name, words in evaluation.words.items():
        for prefix, protocol in ((JUDGE_PREFIX, "absolute"), (RATE_PREFIX, "conversation")):
            for row in rows_of(inputs, prefix + name):
                facets = {facet.index: facet for facet in row.facets}
                for facet in row.facets:
                    for one in facet.judgments:
                        owner = facets.get(one.facet)
                        graded = protocol == "absolute" and owner is not None
                        preferences = owner.preferences if graded and owner is not None else []
                        known = 0 <= one.rubric < len(preferences)
                        yield (
                            name,
                            protocol,
                            row.row_id,
                            facet.index,
                            one.answer,
                            one.facet,
                            one.rubric,
                            preferences[one.rubric].dimension if known else "",
                            preferences[one.rubric].subdimension if known else "",
                            one.run,
                            "" if one.score is None else f"{one.score:g}",
                            one.fault,
                            words.get((row.row_id, facet.index), ""),
                            row.main_source,
                            row.level,
                            row.category,
                        )


def _comparisons(evaluation: Evaluation, inputs: Sequence[InputObject], baseline: str) -> Iterable[Sequence[Any]]:
    for name in evaluation.battles:
        for row in rows_of(inputs, COMPARE_PREFIX + name):
            for facet in row.facets:
                key = (row.row_id, facet.index)
                for one in facet.comparisons:
                    yield (
                        name,
                        baseline,
                        row.row_id,
                        facet.index,
                        one.order,
                        one.run,
                        one.verdict,
                        one.fault,
                        evaluation.words[name].get(key, ""),
                        evaluation.words.get(baseline, {}).get(key, ""),
                    )


def _table(columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return text.getvalue().encode()
