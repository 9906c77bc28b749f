"""What a reward model says: how often it prefers what people prefer, and how the best of n grows with n."""

from collections.abc import Sequence
from typing import Any

from services.evaluation.figures.gathering import rows_of
from services.evaluation.figures.told import Draws
from shared.domain.answers import AnswerParameters
from shared.stages.protocol import InputObject
from shared.statistics.best_of import expected_best

BEST_OF = (1, 4, 16, 64)


def reward_figures(inputs: Sequence[InputObject], answer: AnswerParameters, draws: Draws) -> dict[str, Any] | None:
    """`accuracy`: share of pairs in which the answer that people prefer has the higher reward (a tie counts half), by category
    too, where the questions say which they prefer; `best_of`: mean highest reward of n answers. None where nothing was scored."""
    right: list[float] = []
    pair_rows: list[str] = []
    categories: list[str] = []
    ties = unscored = 0
    sizes = sorted({n for n in BEST_OF if n <= answer.samples} | {answer.samples})
    best: dict[int, list[float]] = {n: [] for n in sizes}
    rows: list[str] = []
    for row in rows_of(inputs, answer.name):
        for facet in row.facets:
            rewards = [one.reward for one in facet.answers if one.reward is not None]
            if facet.preferred is not None:
                chosen = facet.answers[facet.preferred].reward if facet.preferred < len(facet.answers) else None
                others = [one.reward for place, one in enumerate(facet.answers) if place != facet.preferred]
                known = [reward for reward in others if reward is not None]
                if chosen is None or not known or len(known) < len(others):
                    unscored += 1
                    continue
                ties += chosen == max(known)
                right.append(0.5 if chosen == max(known) else float(chosen > max(known)))
                pair_rows.append(row.row_id)
                categories.append(row.category)
            elif rewards:
                rows.append(row.row_id)
                for n in sizes:
                    best[n].append(expected_best(rewards, n))
    if not right and not rows and not unscored:
        return None
    by_category = draws.means(right, pair_rows, categories)
    return {
        "accuracy": draws.mean(right, pair_rows) if right or unscored else None,
        "categories": [{"name": str(name), **by_category[name]} for name in sorted(by_category, key=str)],
        "ties": ties,
        "unscored": unscored,
        "best_of": [{"samples": n, **draws.mean(best[n], rows)} for n in sizes] if rows else [],
    }
