"""Ratings of conversations: 1 to 10 by turn and category, as MT-Bench tells them."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from services.evaluation.figures.gathering import ItemKey, by_frequency, rows_of, was_asked
from services.evaluation.figures.told import Draws
from shared.domain.evaluations import RATE_PREFIX
from shared.stages.protocol import InputObject


def conversation_figures(inputs: Sequence[InputObject], candidate: str, draws: Draws) -> dict[str, Any]:
    """`overall`: the mean over all rated turns (MT-Bench's score is that of both turns together), and the same by `turns` and
    `categories`; runs of one turn are averaged first."""
    scores: list[float] = []
    rows: list[str] = []
    turns: list[int] = []
    categories: list[str] = []
    lost: Counter[str] = Counter()
    asked = 0
    for row in rows_of(inputs, RATE_PREFIX + candidate):
        for facet in filter(was_asked, row.facets):
            by_turn: dict[tuple[int, int], list[float]] = {}
            for judgment in facet.judgments:
                asked += 1
                if judgment.score is None:
                    lost[judgment.fault] += 1
                else:
                    by_turn.setdefault((judgment.answer, judgment.rubric), []).append(judgment.score)
            for (_, turn), found in by_turn.items():
                scores.append(fmean(found))
                rows.append(row.row_id)
                turns.append(turn)
                categories.append(row.category)
    return {
        "overall": draws.mean(scores, rows),
        "turns": [
            {"turn": turn, **figure} for turn, figure in sorted(draws.means(scores, rows, turns).items(), key=_first)
        ],
        "categories": [
            {"name": name, **figure}
            for name, figure in sorted(draws.means(scores, rows, categories).items(), key=_first)
        ],
        "asked": asked,
        "lost": by_frequency(lost),
    }


def item_ratings(inputs: Sequence[InputObject], candidate: str) -> dict[ItemKey, float]:
    """Mean rating of each item over its runs, then its turns."""
    found: dict[ItemKey, float] = {}
    for row in rows_of(inputs, RATE_PREFIX + candidate):
        for facet in row.facets:
            by_turn: dict[tuple[int, int], list[float]] = {}
            for judgment in facet.judgments:
                if judgment.score is not None:
                    by_turn.setdefault((judgment.answer, judgment.rubric), []).append(judgment.score)
            if by_turn:
                found[row.row_id, facet.index] = fmean(map(fmean, by_turn.values()))
    return found


def _first(item: tuple[Any, dict[str, Any]]) -> Any:
    return item[0]
