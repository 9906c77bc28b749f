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
    """One ordered pair of different facets, drawn by seed, or both orders of it for `mirrored`.

    Pairs whose two responses or whose two system messages are equal state no preference and are never drawn; an empty
    list means that no pair of these facets can be made.
    """
    orders = [(own, other) for own in facets for other in facets if own is not other and _differ(own, other)]
    if not orders:
        return []
    own, other = random.Random(seed_of(seed, "pair", row_id, split)).choice(orders)
    return [Pair(own, other), Pair(other, own)] if pairing == "mirrored" else [Pair(own, other)]


def _differ(own: Facet, other: Facet) -> bool:
    return own.response != other.response and own.system != other.system
