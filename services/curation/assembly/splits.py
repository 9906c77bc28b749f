"""Which instructions and which seed preferences are held out, and where each facet goes.

Both choices are made by seed from stable names alone, so the same job splits the same way on every machine, and adding
instructions moves few others. A facet that carries a held-out preference never reaches the training split.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from shared.domain.identifiers import seed_of
from shared.domain.rows import Facet, Preference
from shared.domain.taxonomy import Taxonomy


class Split(StrEnum):
    TRAIN = "train"
    TEST = "test"


class SplitLevel(StrEnum):
    """What a row shows that training has not: of training rows always `seen`."""

    SEEN = "seen"
    UNSEEN_PREFERENCE = "unseen_preference"


def normalised_name(text: str) -> str:
    """Case and spaces do not make a preference another one."""
    return " ".join(text.casefold().split())


def held_out_seeds(taxonomy: Taxonomy, share: float, seed: int) -> tuple[str, ...]:
    """Names of the seed preferences that training never sees, sorted.

    `round(share * seeds)` of them, at least one where `share` is above 0 and never all. A pole keeps one seed in training
    as long as others can be taken instead: a preference is held out, not a whole side of a subdimension.
    """
    seeds = [
        (seed_of(seed, "held-out-preference", preference.name), subdimension.name, preference.pole, preference.name)
        for dimension in taxonomy.dimensions
        for subdimension in dimension.subdimensions
        for preference in subdimension.seeds
    ]
    if share <= 0 or len(seeds) < 2:
        return ()
    wanted = min(max(round(share * len(seeds)), 1), len(seeds) - 1)
    left: dict[tuple[str, str], int] = {}
    for _, subdimension_name, pole, _ in seeds:
        left[subdimension_name, pole] = left.get((subdimension_name, pole), 0) + 1
    chosen: list[str] = []
    passed_over: list[str] = []
    for _, subdimension_name, pole, name in sorted(seeds):
        if left[subdimension_name, pole] > 1:
            left[subdimension_name, pole] -= 1
            chosen.append(name)
        else:
            passed_over.append(name)
    return tuple(sorted((chosen + passed_over)[:wanted]))


class HeldOut(msgspec.Struct, frozen=True):
    """Recognises held-out preferences: by seed name, and by wording for an entry that names no seed."""

    seeds: tuple[str, ...]
    names: frozenset[str]
    descriptions: frozenset[str]

    @classmethod
    def from_taxonomy(cls, taxonomy: Taxonomy, seeds: Sequence[str]) -> "HeldOut":
        chosen = set(seeds)
        descriptions = frozenset(
            normalised_name(preference.description)
            for dimension in taxonomy.dimensions
            for subdimension in dimension.subdimensions
            for preference in subdimension.seeds
            if preference.name in chosen
        )
        return cls(tuple(seeds), frozenset(normalised_name(name) for name in seeds), descriptions)

    def matches(self, preference: Preference) -> bool:
        return (
            normalised_name(preference.seed_name) in self.names
            or normalised_name(preference.preference) in self.names
            or normalised_name(preference.description) in self.descriptions
        )

    def of(self, facet: Facet) -> list[str]:
        """Seed names (keywords where an entry names no seed) of the facet's held-out preferences."""
        return [entry.seed_name or entry.preference for entry in facet.preferences if self.matches(entry)]


class InstructionSplit(msgspec.Struct, frozen=True):
    """The instructions whose key is at most `threshold` are test instructions (none for None)."""

    seed: int
    threshold: int | None
    test_instructions: int

    def is_test(self, row_id: str) -> bool:
        return self.threshold is not None and instruction_key(self.seed, row_id) <= self.threshold


def instruction_key(seed: int, row_id: str) -> int:
    return seed_of(seed, "test-instruction", row_id)


def split_instructions(row_ids: Iterable[str], share: float, seed: int) -> InstructionSplit:
    """Hold out exactly `round(share * instructions)` of them (at least one where share > 0, never all).

    Memory: one integer per instruction.
    """
    keys = sorted(instruction_key(seed, row_id) for row_id in row_ids)
    if share <= 0 or len(keys) < 2:
        return InstructionSplit(seed, None, 0)
    count = min(max(round(share * len(keys)), 1), len(keys) - 1)
    return InstructionSplit(seed, keys[count - 1], count)


def place(instruction_is_test: bool, held_out: Sequence[str]) -> tuple[Split, SplitLevel]:
    """Where a facet goes: to test with its instruction, or because it carries a held-out preference."""
    level = SplitLevel.UNSEEN_PREFERENCE if held_out else SplitLevel.SEEN
    return (Split.TEST if instruction_is_test or held_out else Split.TRAIN), level
