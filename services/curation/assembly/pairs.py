"""Chosen and rejected: the response to one system message against the response to another of the same instruction."""

import random
from collections.abc import Sequence
from typing import Literal

import msgspec

from shared.domain.identifiers import seed_of
from shared.domain.rows import Facet


class Pair(msgspec.Struct, frozen=True):
    """Under the system message of `own`, the response of `own` is chosen and that of `other` rejected."""

    own: Facet
    other: Facet


def draw_pairs(
    facets: Sequence[Facet], pairing: Literal["random", "mirrored"], seed: int, row_id: str, split: str
) -> list[Pair]:
    """Ordered pairs of different facets: one drawn by seed for `random`, all of them for `mirrored`.

    With `mirrored` every response is chosen as often as it is rejected, so nothing about it alone tells which it is.
    Pairs whose two responses or whose two system messages are equal state no preference and are never drawn; an empty
    list means that no pair of these facets can be made.
    """
    orders = [Pair(own, other) for own in facets for other in facets if own is not other and _differ(own, other)]
    if pairing == "mirrored" or not orders:
        return orders
    return [random.Random(seed_of(seed, "pair", row_id, split)).choice(orders)]


def _differ(own: Facet, other: Facet) -> bool:
    return own.response != other.response and own.system != other.system
