"""Are preferences spread evenly over the taxonomy, and do the sets of an instruction differ? Counted over what training holds.

Sets are drawn so that they do; what the teacher found not to fit, coined, or had rejected comes after the draw, so the
finished collection is counted anew.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import msgspec

from shared.domain.rows import HARMFUL_INTENT_TAG
from shared.domain.set_differences import Cell, are_alike, have_opposite_poles
from shared.domain.taxonomy import Taxonomy
from shared.statistics.distributions import normalised_entropy
from shared.statistics.intervals import proportion_interval

LEAST_POLE, MOST_POLE = 0.4, 0.6
"""A pole that takes less or more of its subdimension is out of balance."""
LEAST_ENTROPY = 0.9
"""Below, preferences crowd on a few poles."""


class SetBalance:
    """Give the records of each training instruction, of all its facets with a preference set, to `add`."""

    def __init__(self, taxonomy: Taxonomy, held_out_subdimensions: frozenset[str] = frozenset()) -> None:
        """What is held out is not to be expected in training."""
        self._cells = [
            (subdimension.name, pole.name)
            for dimension in taxonomy.dimensions
            for subdimension in dimension.subdimensions
            for pole in subdimension.poles
            if subdimension.name not in held_out_subdimensions
        ]
        self._counts: Counter[Cell] = Counter()
        self._instructions = 0
        self._several = 0
        self._pairs = 0
        self._alike = 0
        self._one_sided = 0

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Count one instruction."""
        if not records:
            return
        self._instructions += 1
        sets = [_cells_of(record) for record in records]
        harmful = HARMFUL_INTENT_TAG in records[0]["tags"]
        if not harmful:
            # Those get careful poles alone, on purpose.
            self._counts.update(cell for one in sets for cells in one.values() for cell in cells)
        pairs = list(combinations(sets, 2))
        self._pairs += len(pairs)
        self._alike += sum(are_alike(one, other) for one, other in pairs)
        if pairs:
            self._several += 1
            flat = [[cell for cells in one.values() for cell in cells] for one in sets]
            self._one_sided += not have_opposite_poles(flat)

    def finish(self) -> dict[str, Any]:
        """`entropy` of cells, normalised (1 is even), and the mean number of `preferences_per_pole`; `unbalanced` poles whose
        share of their subdimension lies outside 40 to 60% with its whole 95% interval; `pairs` of sets and those `alike`;
        `several` instructions with two sets or more, and of them those `without_opposite_poles`."""
        totals: Counter[str] = Counter()
        poles: Counter[str] = Counter()
        for subdimension, pole in self._cells:
            totals[subdimension] += self._counts[subdimension, pole]
            poles[subdimension] += 1
        shares = [
            {
                "subdimension": subdimension,
                "pole": pole,
                **msgspec.to_builtins(proportion_interval(self._counts[subdimension, pole], totals[subdimension])),
            }
            for subdimension, pole in self._cells
            if poles[subdimension] == 2 and totals[subdimension]
        ]
        unbalanced = [share for share in shares if share["low"] > MOST_POLE or share["high"] < LEAST_POLE]
        return {
            "instructions": self._instructions,
            "preferences_per_pole": sum(self._counts[cell] for cell in self._cells) / max(len(self._cells), 1),
            "entropy": normalised_entropy([self._counts[cell] for cell in self._cells]),
            "largest_share": max(shares, key=lambda share: share["estimate"], default=None),
            "unbalanced": unbalanced,
            "pairs": self._pairs,
            "alike": self._alike,
            "several": self._several,
            "without_opposite_poles": self._one_sided,
        }


def _cells_of(record: Mapping[str, Any]) -> dict[str, frozenset[Cell]]:
    """The cells of a record of the collection, by dimension."""
    found: dict[str, set[Cell]] = {}
    for entry, detail in zip(record["preference_set"], record["preference_details"], strict=True):
        found.setdefault(entry["dimension"], set()).add((entry["subdimension"], detail["pole"] or ""))
    return {name: frozenset(cells) for name, cells in found.items()}
