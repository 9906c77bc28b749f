"""Combinations of poles that training never sees, made of pairs that it draws.

Chance alone finds few in a small collection, where most pairs of poles are untrained and one such pair makes a test facet one of
`unseen_pair`. So the pairs come from what training draws.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, permutations
from random import Random

from services.augmentation.catalogue import Cell, Seed
from shared.domain.splits import HeldOut

Key = tuple[str, str]
"""A subdimension and one of its poles."""
Partners = Mapping[Key, frozenset[Key]]
"""With which others each pole stands together in some set."""

_STEPS = 300
"""Partial combinations that one search looks at; most that succeed need less than 50."""


def partners_in(sets: Iterable[Iterable[Key]]) -> Partners:
    """What stands together in these sets."""
    found: dict[Key, set[Key]] = {}
    for keys in sets:
        for first, second in permutations(keys, 2):
            found.setdefault(first, set()).add(second)
    return {key: frozenset(others) for key, others in found.items()}


def all_together(keys: Sequence[Key], partners: Partners) -> bool:
    """Whether every pair of these stands together in some set."""
    return all(second in partners.get(first, ()) for first, second in combinations(keys, 2))


class CombinationSearch:
    """Searches seeds whose combination of poles is held out while every pair of it is a pair of partners."""

    def __init__(self, cells: Mapping[str, Sequence[Cell]], conflicts: Sequence[int], held_out: HeldOut) -> None:
        """`cells`: those of training, by dimension; `conflicts`: see `Catalogue`."""
        self._cells = [(name, cell) for name, of_dimension in cells.items() for cell in of_dimension]
        self._dimensions = sorted({name for name, _ in self._cells})
        self._conflicts = conflicts
        self._held_out = held_out

    def find(
        self,
        size: int,
        pin: Cell | None,
        partners: Partners,
        given: Mapping[Key, int],
        siblings: frozenset[int],
        chance: Random,
    ) -> list[Seed] | None:
        """So many seeds that exclude each other in nothing, one of `pin` among them, none of `siblings`; None where the search
        ends without. No dimension comes again before all were used. `given`: how often each pole was given out so far; what came
        least goes first."""
        left = _STEPS

        def extended(chosen: list[Seed], excluded: int) -> list[Seed] | None:
            nonlocal left
            keys = [(seed.subdimension, seed.pole) for seed in chosen]
            if len(chosen) == size:
                return chosen if self._held_out.holds_combination(keys) else None
            left -= 1
            if left < 0:
                return None
            cells = [pin] if pin is not None and not chosen else self._next_cells(chosen, keys, partners)
            for cell in sorted(cells, key=lambda cell: (given.get(cell.key, 0), chance.random())):
                seeds = [one for one in cell.seeds if not excluded >> one.number & 1 and one.number not in siblings]
                if not seeds:
                    continue
                seed = chance.choice(seeds)
                found = extended([*chosen, seed], excluded | self._conflicts[seed.number])
                if found is not None:
                    return found
            return None

        return extended([], 0)

    def _next_cells(self, chosen: Sequence[Seed], keys: Sequence[Key], partners: Partners) -> list[Cell]:
        """Partners of all that were chosen, in the dimensions used least."""
        used = Counter(seed.dimension for seed in chosen)
        least = min((used[name] for name in self._dimensions), default=0)
        taken = {key[0] for key in keys}
        return [
            cell
            for name, cell in self._cells
            if used[name] == least
            and cell.subdimension not in taken
            and all(key in partners.get(cell.key, ()) for key in keys)
        ]
