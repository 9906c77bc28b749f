"""Chosen and rejected: the response to one system message against the response to another of the same instruction."""

import random
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import combinations
from typing import Literal

import msgspec

from shared.domain.facet_matrix import FacetMatrix
from shared.domain.identifiers import seed_of
from shared.domain.rows import Facet, Verdict
from shared.domain.splits import Cell


class Pair(msgspec.Struct, frozen=True):
    """Under the system message of `own`, the response of `own` is chosen and that of `other` rejected."""

    own: Facet
    other: Facet


class DrawnPairs(msgspec.Struct, frozen=True):
    """Pairs to keep, and how many ordered pairs went or are in doubt, by reason: `harmful_intent`, `below_margin` and
    `shared_wishes` were left out, `unverified` were kept although no verdict says that the chosen response suits its person
    better."""

    kept: list[Pair]
    counts: Counter[str]


def draw_pairs(
    facets: Sequence[Facet],
    pairing: Literal["random", "mirrored"],
    seed: int,
    row_id: str,
    split: str,
    *,
    matrix: Sequence[Verdict] = (),
    judged: bool = False,
    minimum_margin: float = 0.0,
    stances: Collection[Cell] = (),
) -> DrawnPairs:
    """Ordered pairs of different facets that stand: one drawn by seed for `random`, all of them for `mirrored`.

    With `mirrored` every response is chosen as often as it is rejected, so nothing about it alone tells which it is; both
    orders of two facets are therefore kept or left out together. Pairs whose two responses or whose two system messages are
    equal state no preference and are never drawn.

    `matrix` are the row's verdicts. Where a judge filled it (`judged`), two facets make pairs when in both orders the margin
    (see `FacetMatrix.margin`) is at least `minimum_margin`, and none (`shared_wishes`) when one of them wants nothing but what
    the other wants too. Without a judge the programs' verdicts cover a few wishes only, so that a pair goes when a known margin
    is negative. Where no margin is known it stays and is counted as `unverified`.

    `stances` are the poles that tell careful from frank, for an instruction with harmful intent (else none): two facets of which
    one has such a preference that the other lacks make no pair (`harmful_intent`), for one order would choose the less careful
    answer.
    """
    figures = FacetMatrix(facets, matrix)
    least = minimum_margin if judged else 0.0
    counts: Counter[str] = Counter()
    orders: list[tuple[Pair, bool]] = []
    for own, other in combinations(facets, 2):
        if not _differ(own, other):
            continue
        if _stances_of(own, stances) != _stances_of(other, stances):
            counts["harmful_intent"] += 2
            continue
        margins = {(a.index, b.index): figures.margin(a.index, b.index) for a, b in ((own, other), (other, own))}
        if judged and not all(figures.difference(a, b) for a, b in margins):
            counts["shared_wishes"] += 2
        elif any(margin is not None and margin < least for margin in margins.values()):
            counts["below_margin"] += 2
        else:
            orders += [(Pair(a, b), margins[a.index, b.index] is None) for a, b in ((own, other), (other, own))]
    places = {facet.index: place for place, facet in enumerate(facets)}
    orders.sort(key=lambda order: (places[order[0].own.index], places[order[0].other.index]))
    if pairing == "random" and orders:
        orders = [random.Random(seed_of(seed, "pair", row_id, split)).choice(orders)]
    if unverified := sum(in_doubt for _, in_doubt in orders):
        counts["unverified"] = unverified
    return DrawnPairs([pair for pair, _ in orders], counts)


def _differ(own: Facet, other: Facet) -> bool:
    return own.response != other.response and own.system != other.system


def _stances_of(facet: Facet, stances: Collection[Cell]) -> set[Cell]:
    return {cell for one in facet.preferences if (cell := (one.subdimension, one.pole)) in stances}
