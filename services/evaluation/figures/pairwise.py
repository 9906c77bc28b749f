"""Comparisons with the baseline: outcomes, win rates with and without the advantage of length, ratings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from services.evaluation.figures.gathering import ItemKey, by_frequency, rows_of, was_asked
from services.evaluation.figures.told import Draws, told
from shared.domain.evaluations import COMPARE_PREFIX
from shared.stages.protocol import InputObject
from shared.statistics.length_control import length_controlled_win_rate
from shared.statistics.pairwise import LOSS, TIE, WIN, Battle, win_rate
from shared.statistics.ratings import bradley_terry

OUTCOMES = {
    "win": WIN,
    "lose": LOSS,
    "both_good": TIE,
    "both_bad": TIE,
    "much_better": WIN,
    "better": WIN,
    "same": TIE,
    "worse": LOSS,
    "much_worse": LOSS,
}
STRONG = frozenset({"much_better", "much_worse"})
STRONG_WEIGHT = 3
"""How often a strong verdict of Arena-Hard counts in ratings."""
RATING_ROUNDS = 100


class Battles(msgspec.Struct):
    """The verdicts on one candidate beside the baseline, and what was lost of them."""

    battles: list[Battle] = []
    verdicts: Counter[str] = msgspec.field(default_factory=Counter)
    asked: int = 0
    lost: Counter[str] = msgspec.field(default_factory=Counter)


def gather_battles(
    inputs: Sequence[InputObject],
    candidate: str,
    baseline: str,
    words: Mapping[str, Mapping[ItemKey, int]],
) -> Battles:
    """The verdicts of a stage `compare-…`, the candidate first. `words`: lengths by candidate and item."""
    found = Battles()
    for row in rows_of(inputs, COMPARE_PREFIX + candidate):
        for facet in filter(was_asked, row.facets):
            key = (row.row_id, facet.index)
            for one in facet.comparisons:
                found.asked += 1
                if one.fault:
                    found.lost[one.fault] += 1
                else:
                    found.verdicts[one.verdict] += 1
                found.battles.append(
                    Battle(
                        instruction=row.row_id,
                        first=candidate,
                        second=baseline,
                        outcome=OUTCOMES.get(one.verdict),
                        order=one.order,
                        kind=one.verdict if one.verdict in {"both_good", "both_bad"} else "",
                        pair=str(facet.index),
                        first_words=words[candidate].get(key, 0),
                        second_words=words[baseline].get(key, 0),
                        weight=STRONG_WEIGHT if one.verdict in STRONG else 1,
                    )
                )
    return found


def pairwise_figures(found: Battles, draws: Draws) -> dict[str, Any]:
    """Of one candidate against the baseline: `win_rate` (0 to 1, ties half), `length_controlled`, `flip_rate`, and counts of
    pairs and verdicts. Figures are None where no verdict stands."""
    counts = {
        "verdicts": by_frequency(found.verdicts),
        "asked": found.asked,
        "lost": by_frequency(found.lost),
    }
    if not found.battles or not found.verdicts:
        return {"win_rate": None, "length_controlled": None, "flip_rate": None, "pairs": 0, **counts}
    rate = win_rate(found.battles, rounds=draws.rounds, seed=draws.seed)
    controlled = length_controlled_win_rate(found.battles, rounds=draws.rounds, seed=draws.seed)
    return {
        "win_rate": told(rate.interval, rate.pairs),
        "length_controlled": told(controlled, rate.pairs),
        "flip_rate": told(rate.flip_rate),
        "pairs": rate.pairs,
        "wins": rate.wins,
        "losses": rate.losses,
        "ties": rate.ties,
        "both_good": rate.both_good,
        "both_bad": rate.both_bad,
        "unjudged": rate.unjudged,
        **counts,
    }


def rating_figures(battles: Sequence[Battle], baseline: str, draws: Draws) -> dict[str, Any] | None:
    """Bradley-Terry ratings of all candidates, the baseline at 1000, plain and with length controlled; None without verdicts."""
    if not any(battle.outcome is not None for battle in battles):
        return None
    plain = bradley_terry(battles, rounds=RATING_ROUNDS, seed=draws.seed, anchor=baseline)
    styled = bradley_terry(battles, rounds=RATING_ROUNDS, seed=draws.seed, anchor=baseline, style=True)
    return {
        "models": [
            {
                "name": one.model,
                "rating": told(one.rating, one.battles),
                "style_controlled": told(
                    next(other.rating for other in styled.models if other.model == one.model), one.battles
                ),
            }
            for one in plain.models
        ],
        "length_coefficient": told(styled.style["length"], styled.battles),
        "separated": list(plain.separated),
    }
