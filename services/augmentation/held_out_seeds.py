"""Which held-out seeds a judge is shown beside a training wish, to say whether the wish asks for the same."""

from collections.abc import Sequence

import msgspec

from shared.domain.rows import Preference
from shared.domain.splits import HeldOut
from shared.domain.taxonomy import Taxonomy, seed_description


class HeldOutSeed(msgspec.Struct, frozen=True):
    """One held-out seed and its text as the judge reads it."""

    name: str
    text: str


class HeldOutSeeds:
    """The held-out seeds of a job by the places where a teacher could give them away."""

    def __init__(self, taxonomy: Taxonomy, held_out: HeldOut) -> None:
        by_subdimension: dict[str, list[HeldOutSeed]] = {}
        by_dimension: dict[str, list[HeldOutSeed]] = {}
        for placed in taxonomy.seeds():
            name = placed.seed.name
            if name in held_out.seeds:
                one = HeldOutSeed(name, f"{name}: {seed_description(placed.seed)}")
                by_subdimension.setdefault(placed.subdimension.name, []).append(one)
                by_dimension.setdefault(placed.dimension.name, []).append(one)
        self._by_subdimension = by_subdimension
        self._by_dimension = by_dimension

    def beside(self, preference: Preference) -> Sequence[HeldOutSeed]:
        """Of an assigned preference those of its subdimension: what means anything else is no longer what was assigned, and falls
        for that. Those of both poles, so that they do not tell which was assigned. A coined preference may mean any of its
        dimension, those of whole held-out subdimensions among them."""
        if preference.seed_name:
            return self._by_subdimension.get(preference.subdimension, ())
        return self._by_dimension.get(preference.dimension, ())
