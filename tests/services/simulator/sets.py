"""Preference sets that can stand together, as slots of an augment block and as wishes of a review."""

import random
from typing import Any

from shared.domain.checks import canonical_sentence
from shared.domain.taxonomy import PlacedSeed, default_taxonomy, seed_check, seeds_conflict

SEEDS = tuple(default_taxonomy().seeds())
INSTRUCTIONS = (
    "How do I keep tomatoes alive on a windy balcony through a dry summer?",
    "Explain how volcanoes erupt under glaciers and what that does to the rivers below.",
    "What is a good way to teach my daughter to ride a bicycle?",
)


def slots_of_sets(number: int, sets: int = 3, size: int = 4) -> list[dict[str, Any]]:
    """Slots of seeds without a contradiction, drawn by number; no subdimension twice in a set."""
    chance = random.Random(number)
    slots: list[dict[str, Any]] = []
    for index in range(sets):
        chosen: list[PlacedSeed] = []
        while len(chosen) < size:
            placed = chance.choice(SEEDS)
            if not any(
                placed.subdimension is other.subdimension or seeds_conflict(placed.seed, other.seed) for other in chosen
            ):
                chosen.append(placed)
        slots.extend([_slot(placed, len(slots) + place, index, chance) for place, placed in enumerate(chosen)])
    return slots


def _slot(placed: PlacedSeed, number: int, index: int, chance: random.Random) -> dict[str, Any]:
    check = seed_check(placed.seed)
    return {
        "slot": number,
        "set": index,
        "dimension": placed.dimension.name,
        "subdimension": placed.subdimension.name,
        "pole": placed.seed.pole,
        "seed": placed.seed.name,
        "seed_description": placed.seed.description,
        "check_sentence": canonical_sentence(check) if check else None,
        "intensity": chance.choice(["mild", "clear", "strong"]),
    }


def augment_block(number: int, sets: int = 3, size: int = 4) -> dict[str, Any]:
    """A whole block."""
    return {
        "instruction": INSTRUCTIONS[number % len(INSTRUCTIONS)],
        "slots": slots_of_sets(number, sets, size),
    }
