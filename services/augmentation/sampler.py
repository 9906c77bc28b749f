"""Which seed preference goes into which slot: drawn by seed, before any language model is asked.

What holds for the sets of one instruction, as far as the taxonomy has room for it:

- each set has exactly one seed per dimension, the dimensions in an order shuffled for that set;
- no two seeds of a set exclude each other (always: a set for which no such choice is found is left out);
- any two sets differ in subdimension or pole in at least 3 of 4 dimensions (in general: in three quarters, rounded up);
- with two sets or more, one pair stands on opposite poles of one subdimension.

Every draw is symmetric in the poles of a subdimension, so that over many instructions each of two poles gets about half.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from random import Random
from typing import Protocol

import msgspec

from services.augmentation.catalogue import Catalogue, Cell, Seed
from shared.domain.identifiers import seed_of

_TRIES_WITH_FRESH_CELLS = 40
_TRIES_WITH_ANY_CELLS = 80


class SetAssignment(msgspec.Struct, frozen=True):
    """The seeds of one preference set, in the order in which the set shows its dimensions."""

    index: int
    seeds: tuple[Seed, ...]

    def seed_in(self, dimension: str) -> Seed:
        return next(seed for seed in self.seeds if seed.dimension == dimension)


class SetSampler(Protocol):
    """The seam for other ways of drawing (quotas, held-out splits): anything that fills slots with seeds."""

    def assign(self, row_id: str, sets: int) -> list[SetAssignment | None]:
        """The sets of an instruction, by index; None where no set without a contradiction was found."""
        ...

    def redraw(
        self,
        row_id: str,
        assignment: SetAssignment,
        refused: Collection[int],
        others: Sequence[SetAssignment],
        attempt: int,
    ) -> SetAssignment | None:
        """The set with other seeds in every slot whose seed's number is in `refused` (all that ever did not fit this set's
        instruction); None where the taxonomy has no other seed. `others` are the sets that it must differ from."""
        ...


def required_differences(dimensions: int) -> int:
    """In how many dimensions any two sets of one instruction must differ: three quarters, rounded up (3 of 4)."""
    return -(-3 * dimensions // 4)


def differences(first: SetAssignment, second: SetAssignment) -> int:
    """In how many dimensions two sets differ in subdimension or pole."""
    of_second = {seed.dimension: (seed.subdimension, seed.pole) for seed in second.seeds}
    return sum(of_second[seed.dimension] != (seed.subdimension, seed.pole) for seed in first.seeds)


def _too_alike(candidate: SetAssignment, others: Sequence[SetAssignment]) -> int:
    required = required_differences(len(candidate.seeds))
    return sum(differences(candidate, other) < required for other in others)


def _mirrored(assignments: Sequence[SetAssignment]) -> bool:
    """Whether one pair of sets stands on different poles of one subdimension."""
    poles: dict[str, set[str]] = {}
    for assignment in assignments:
        for seed in assignment.seeds:
            poles.setdefault(seed.subdimension, set()).add(seed.pole)
    return any(len(names) > 1 for names in poles.values())


class SeededSampler:
    """Uniform over the cells of each dimension; the same seed, row and number of sets give the same assignment."""

    def __init__(self, catalogue: Catalogue, seed: int) -> None:
        self._catalogue = catalogue
        self._seed = seed
        self._mirrorable = [
            group for dimension in catalogue.dimensions for group in _groups_of(catalogue.cells[dimension])
        ]

    def assign(self, row_id: str, sets: int) -> list[SetAssignment | None]:
        """See `SetSampler.assign`. `sets` >= 1."""
        chance = Random(seed_of(self._seed, "assign", row_id, sets))
        order = list(range(sets))
        chance.shuffle(order)
        forced: dict[int, Cell] = {}
        if sets > 1 and self._mirrorable:
            first, second = chance.sample(chance.choice(self._mirrorable), 2)
            forced = {order[0]: first, order[1]: second}
        used: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in self._catalogue.dimensions}
        made: dict[int, SetAssignment] = {}
        for index in order:
            assignment = self._draw_set(index, forced.get(index), list(made.values()), used, chance)
            if assignment is None:
                continue
            made[index] = assignment
            for seed in assignment.seeds:
                used[seed.dimension][seed.subdimension, seed.pole] += 1
        return [made.get(index) for index in range(sets)]

    def redraw(
        self,
        row_id: str,
        assignment: SetAssignment,
        refused: Collection[int],
        others: Sequence[SetAssignment],
        attempt: int,
    ) -> SetAssignment | None:
        """See `SetSampler.redraw`. A seed of the same cell comes first: it keeps the balance and the differences."""
        chance = Random(seed_of(self._seed, "redraw", row_id, assignment.index, attempt))
        current = assignment
        for position, seed in enumerate(assignment.seeds):
            if seed.number not in refused:
                continue
            rest = [other for other in current.seeds if other.number != seed.number]
            candidates = [
                candidate
                for cell in self._catalogue.cells[seed.dimension]
                for candidate in cell.seeds
                if candidate.number not in refused
                and not any(self._catalogue.excludes(candidate, other) for other in rest)
            ]
            if not candidates:
                return None
            chance.shuffle(candidates)
            options = [_with_seed(current, position, candidate) for candidate in candidates]
            current = min(
                options,
                key=lambda option: (
                    _too_alike(option, others),
                    bool(others) and not _mirrored([*others, option]),
                    (option.seeds[position].subdimension, option.seeds[position].pole)
                    != (seed.subdimension, seed.pole),
                ),
            )
        return current

    def _draw_set(
        self,
        index: int,
        forced: Cell | None,
        others: Sequence[SetAssignment],
        used: dict[str, Counter[tuple[str, str]]],
        chance: Random,
    ) -> SetAssignment | None:
        """One set: first from the cells used least by its siblings, then from all; the least alike one if all are alike."""
        best: tuple[int, SetAssignment] | None = None
        for attempt in range(_TRIES_WITH_FRESH_CELLS + _TRIES_WITH_ANY_CELLS):
            fresh = attempt < _TRIES_WITH_FRESH_CELLS
            cells: list[Cell] = []
            for dimension in self._catalogue.dimensions:
                if forced is not None and forced.seeds[0].dimension == dimension:
                    cells.append(forced)
                    continue
                choices = self._catalogue.cells[dimension]
                if fresh:
                    least = min(used[dimension][cell.key] for cell in choices)
                    choices = tuple(cell for cell in choices if used[dimension][cell.key] == least)
                cells.append(chance.choice(choices))
            seeds = self._compatible_seeds(cells, chance)
            if seeds is None:
                continue
            chance.shuffle(seeds)
            assignment = SetAssignment(index, tuple(seeds))
            alike = _too_alike(assignment, others)
            if alike == 0:
                return assignment
            if best is None or alike < best[0]:
                best = (alike, assignment)
        return best[1] if best else None

    def _compatible_seeds(self, cells: Sequence[Cell], chance: Random) -> list[Seed] | None:
        """One seed of each cell, none excluding another: random order, with backtracking. None where there is none."""
        orders = [chance.sample(cell.seeds, len(cell.seeds)) for cell in cells]

        def extend(chosen: list[Seed], mask: int) -> list[Seed] | None:
            if len(chosen) == len(orders):
                return chosen
            for seed in orders[len(chosen)]:
                if mask >> seed.number & 1:
                    continue
                found = extend([*chosen, seed], mask | self._catalogue.conflicts[seed.number])
                if found is not None:
                    return found
            return None

        return extend([], 0)


def _groups_of(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells of each subdimension that has at least two poles with seeds."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.subdimension, []).append(cell)
    return [group for group in groups.values() if len(group) > 1]


def _with_seed(assignment: SetAssignment, position: int, seed: Seed) -> SetAssignment:
    seeds = list(assignment.seeds)
    seeds[position] = seed
    return SetAssignment(assignment.index, tuple(seeds))
