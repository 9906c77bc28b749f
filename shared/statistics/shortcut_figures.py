"""Shortcuts in a finished collection: what gives the chosen answer, or the dimension of a preference, away."""

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.statistics.instruction_sample import InstructionSample
from shared.statistics.shortcuts import blind_accuracy, position_accuracy

SAMPLED_INSTRUCTIONS = 1000
READ_CHARACTERS = 4000
"""As much of an answer as the classifier reads."""
MOST_BLIND = 0.52
"""A classifier that does not see the system message should not tell the chosen answer more often."""
MOST_POSITION_GAIN = 0.05


class ShortcutFigures:
    """Give every pair to `add_pair` and every preference set to `add_set`, those of one instruction after one another."""

    def __init__(self, sampled_instructions: int = SAMPLED_INSTRUCTIONS) -> None:
        self._pairs: InstructionSample[tuple[str, str]] = InstructionSample("shortcut-pairs", sampled_instructions)
        self._sets: InstructionSample[list[str]] = InstructionSample("shortcut-sets", sampled_instructions)

    def add_pair(self, record: Mapping[str, Any]) -> None:
        """One row of the `dpo` export."""
        chosen, rejected = (record[name][-1]["content"][:READ_CHARACTERS] for name in ("chosen", "rejected"))
        self._pairs.add(record["prompt"], (chosen, rejected))

    def add_set(self, record: Mapping[str, Any]) -> None:
        """One row of the collection; an example without a system message has no set."""
        if record["preference_set"]:
            self._sets.add(record["row_id"], [entry["dimension"] for entry in record["preference_set"]])

    def finish(self) -> dict[str, Any]:
        """`blind`: how often a classifier by length and words tells the chosen answer of instructions that it did not learn from,
        without the system message. `position`: how often its place in the set tells the dimension of a preference. Each as a
        `ShortcutAccuracy`."""
        pairs, sets = list(self._pairs.items()), list(self._sets.items())
        blind = blind_accuracy(
            [chosen for _, (chosen, _) in pairs], [rejected for _, (_, rejected) in pairs], [name for name, _ in pairs]
        )
        position = position_accuracy([dimensions for _, dimensions in sets], [name for name, _ in sets])
        return {"blind": msgspec.to_builtins(blind), "position": msgspec.to_builtins(position)}
