"""Which seed preference goes into which slot: drawn by seed and by quota, before any language model is asked.

A row has the number of a draw (`InstructionRow.draw`). Draws are made in blocks; within a block every pole of every subdimension
is given out as evenly as the rules allow, and so are the dimensions and the sizes of sets. A block depends on its number, the
job's seed and the taxonomy alone, so any worker makes the same one. The rules:

- a set has 1 to 8 preferences, no two of one subdimension, none excluding another (always: a set for which no such choice is
  found is left out); up to as many preferences as there are dimensions, each is of another dimension;
- any two sets of an instruction differ in at least three quarters (rounded up) of the dimensions that either has;
- with two sets or more, one pair stands on opposite poles of one subdimension;
- training never sees what is held out, and a test row shows what its level says (`shared.domain.splits`).
"""

from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence
from random import Random
from typing import Protocol

import msgspec

from services.augmentation.catalogue import Catalogue, Cell, Seed
from shared.domain.identifiers import seed_of
from shared.domain.jobs import AugmentParameters
from shared.domain.splits import SMALLEST_COMBINATION, HeldOut, SplitLevel

INTENSITIES = ("mild", "clear", "strong")

TRAINING_BLOCK, TEST_BLOCK = 32, 8
"""Draws of one block: many enough for even quotas, few enough to be made in some ten milliseconds."""
_TRIES = 120
_STRICT_TRIES = 80
"""The first tries ask for everything; the later ones forgive that no poles are mirrored and that a dimension comes twice."""
_FREE_SHARE_OF_SET = 0.5
"""At most so much of a set is free, so that every set has a preference that was assigned."""
_KEPT_BLOCKS = 64
_SMALLEST_SET: dict[str, int] = {SplitLevel.UNSEEN_COMBINATION: SMALLEST_COMBINATION, SplitLevel.UNSEEN_PAIR: 2}


class Slot(msgspec.Struct, frozen=True):
    """One preference to be: a seed, or None for a free slot, within a dimension; and how much the person cares."""

    dimension: str
    seed: Seed | None
    intensity: str


class SetAssignment(msgspec.Struct, frozen=True):
    """The slots of one preference set, in the order in which the set shows them. `profile`: the persistent person it is of."""

    index: int
    slots: tuple[Slot, ...]
    profile: int | None = None

    @property
    def seeds(self) -> tuple[Seed, ...]:
        """The seeds of its assigned slots."""
        return tuple(slot.seed for slot in self.slots if slot.seed is not None)


class SetSampler(Protocol):
    """The seam for other ways of drawing: anything that fills slots with seeds."""

    def assign(self, draw: int, level: str) -> list[SetAssignment | None]:
        """The sets of a draw, by index; None where no set within the rules was found."""
        ...

    def redraw(
        self,
        draw: int,
        level: str,
        assignment: SetAssignment,
        refused: Collection[int],
        others: Sequence[SetAssignment],
        attempt: int,
    ) -> SetAssignment | None:
        """The set with other seeds in every slot whose seed's number is in `refused` (all that ever did not fit this set's
        instruction); None where the taxonomy has no other seed. `others` are the sets that it must differ from."""
        ...


def required_differences(dimensions: int) -> int:
    """In how many of the dimensions that either has two sets of one instruction must differ: three quarters, rounded up."""
    return -(-3 * dimensions // 4)


def _by_dimension(assignment: SetAssignment) -> dict[str, frozenset[tuple[str, str] | None]]:
    found: dict[str, set[tuple[str, str] | None]] = {}
    for slot in assignment.slots:
        found.setdefault(slot.dimension, set()).add(None if slot.seed is None else _key(slot.seed))
    return {name: frozenset(cells) for name, cells in found.items()}


def _key(seed: Seed) -> tuple[str, str]:
    return (seed.subdimension, seed.pole)


def alike(first: SetAssignment, second: SetAssignment) -> bool:
    """Whether two sets differ in fewer dimensions than they must. Free slots count as different: nobody knows them yet."""
    one, other = _by_dimension(first), _by_dimension(second)
    union = one.keys() | other.keys()
    different = sum(one.get(name) != other.get(name) or None in one.get(name, ()) for name in union)
    return different < required_differences(len(union))


def mirrored(assignments: Sequence[SetAssignment]) -> bool:
    """Whether one pair of sets stands on different poles of one subdimension."""
    poles: dict[str, set[str]] = {}
    for assignment in assignments:
        for seed in assignment.seeds:
            poles.setdefault(seed.subdimension, set()).add(seed.pole)
    return any(len(names) > 1 for names in poles.values())


class _Quota:
    """What a block gave out so far."""

    def __init__(self) -> None:
        self.cells: Counter[tuple[str, str]] = Counter()
        self.dimensions: Counter[str] = Counter()
        self.mirrors: Counter[str] = Counter()

    def add(self, assignment: SetAssignment) -> None:
        self.cells.update(map(_key, assignment.seeds))
        self.dimensions.update(slot.dimension for slot in assignment.slots)


class QuotaSampler:
    """Draws by quota from a catalogue, within what is held out. Equal arguments give equal draws."""

    def __init__(
        self,
        catalogue: Catalogue,
        held_out: HeldOut,
        parameters: AugmentParameters,
        seed: int,
        *,
        profiles: bool = True,
    ) -> None:
        """`profiles`: whether persistent people may answer for training rows, where the parameters have any."""
        self._catalogue = catalogue
        self._held_out = held_out
        self._parameters = parameters
        self._seed = seed
        self._profiles = parameters.profiles if profiles else None
        self._blocks: OrderedDict[tuple[str, int], list[list[SetAssignment | None]]] = OrderedDict()
        self._known = {
            name: tuple(cell for cell in map(self._training_cell, cells) if cell is not None)
            for name, cells in catalogue.cells.items()
        }
        self._unseen_seeds = {
            name: tuple(cell for cell in map(self._unseen_seed_cell, cells) if cell is not None)
            for name, cells in catalogue.cells.items()
        }
        self._unseen_subdimensions = {
            name: tuple(cell for cell in cells if cell.subdimension in held_out.subdimensions)
            for name, cells in catalogue.cells.items()
        }

    def _training_cell(self, cell: Cell) -> Cell | None:
        seeds = tuple(seed for seed in cell.seeds if seed.name not in self._held_out.seeds)
        return Cell(cell.subdimension, cell.pole, seeds, cell.guarded) if seeds else None

    def _unseen_seed_cell(self, cell: Cell) -> Cell | None:
        if cell.subdimension in self._held_out.subdimensions:
            return None
        seeds = tuple(seed for seed in cell.seeds if seed.name in self._held_out.seeds)
        return Cell(cell.subdimension, cell.pole, seeds, cell.guarded) if seeds else None

    # ---- draws -----------------------------------------------------------------------------------------------------

    def assign(self, draw: int, level: str) -> list[SetAssignment | None]:
        """See `SetSampler.assign`. `level` is empty for a training row. A row of level `seen` has the preferences of the training
        row of the same draw, without its free slots."""
        if level == SplitLevel.SEEN:
            return [None if one is None else _without_free(one) for one in self.assign(draw, "")]
        profiles = self._profiles
        if not level and profiles is not None:
            chance = Random(seed_of(self._seed, "profiles", draw))
            if chance.random() < profiles.share:
                return self._people(profiles.count, chance)
        size = TEST_BLOCK if level else TRAINING_BLOCK
        return self._block(level, draw // size, size, self._parameters.sets_per_instruction)[draw % size]

    def _people(self, count: int, chance: Random) -> list[SetAssignment | None]:
        """Persistent people who differ as the sets of an instruction must; the last try stands if none does."""
        wanted = min(self._parameters.sets_per_instruction, count)
        found: list[SetAssignment] = []
        for _ in range(_TRIES):
            numbers = chance.sample(range(count), wanted)
            people = [self._profile(number) for number in numbers]
            found = [
                SetAssignment(index, person.slots, number)
                for index, (number, person) in enumerate(zip(numbers, people, strict=True))
                if person is not None
            ]
            if len(found) == wanted and not _any_alike(found) and (wanted == 1 or mirrored(found)):
                break
        by_index = {one.index: one for one in found}
        return [by_index.get(index) for index in range(self._parameters.sets_per_instruction)]

    def _profile(self, number: int) -> SetAssignment | None:
        """The set of a persistent person: one of a block of draws with a single set each, and no free slot."""
        found = self._block("profile", number // TRAINING_BLOCK, TRAINING_BLOCK, 1)[number % TRAINING_BLOCK][0]
        return None if found is None else _without_free(found)

    def _block(self, level: str, number: int, size: int, sets: int) -> list[list[SetAssignment | None]]:
        key = (level, number)
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = self._make_block(level, number, size, sets)
            while len(self._blocks) > _KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(key)
        return block

    def _make_block(self, level: str, number: int, size: int, sets: int) -> list[list[SetAssignment | None]]:
        chance = Random(seed_of(self._seed, "block", level, number, sets))
        quota = _Quota()
        sizes = self._sizes(level, size * sets, chance)
        free = self._free_slots(level, sizes, chance)
        return [
            self._row(level, sizes[row * sets :][:sets], free[row * sets :][:sets], quota, chance)
            for row in range(size)
        ]

    def _sizes(self, level: str, count: int, chance: Random) -> list[int]:
        """So many sizes of sets, as close to their weights as whole numbers allow, in random order."""
        most = len({cell.subdimension for cells in self._known.values() for cell in cells})
        if level == SplitLevel.MORE_PREFERENCES and self._parameters.unseen_set_sizes:
            weights = dict.fromkeys(self._parameters.unseen_set_sizes, 1.0)
        else:
            weights = self._parameters.set_sizes
        least = _SMALLEST_SET.get(level, 1)
        fitting = {size: weight for size, weight in weights.items() if least <= size and weight > 0} or {least: 1.0}
        total = sum(fitting.values())
        sizes: list[int] = []
        reached = 0.0
        for size, weight in sorted(fitting.items()):
            reached += weight / total
            sizes += [min(size, most)] * (round(count * reached) - len(sizes))
        chance.shuffle(sizes)
        return sizes

    def _free_slots(self, level: str, sizes: Sequence[int], chance: Random) -> list[int]:
        """How many slots of each set are free: of training sets alone, the job's share of all slots in the block."""
        free = [0] * len(sizes)
        if level:
            return free
        room = [place for place, size in enumerate(sizes) for _ in range(int(size * _FREE_SHARE_OF_SET))]
        wanted = round(self._parameters.free_slot_share * sum(sizes))
        for place in chance.sample(room, min(wanted, len(room))):
            free[place] += 1
        return free

    # ---- one row ---------------------------------------------------------------------------------------------------

    def _row(
        self, level: str, sizes: Sequence[int], free: Sequence[int], quota: _Quota, chance: Random
    ) -> list[SetAssignment | None]:
        order = list(range(len(sizes)))
        chance.shuffle(order)
        pinned = self._mirror(quota, chance) if len(sizes) > 1 else []
        made: dict[int, SetAssignment] = {}
        for place, index in enumerate(order):
            pin = pinned[place] if place < len(pinned) else None
            found = self._set(level, index, sizes[index], free[index], pin, list(made.values()), quota, chance)
            if found is not None:
                made[index] = found
                quota.add(found)
        return [made.get(index) for index in range(len(sizes))]

    def _mirror(self, quota: _Quota, chance: Random) -> list[Cell]:
        """Two poles of one subdimension, of those mirrored least so far."""
        groups = [
            group
            for cells in self._known.values()
            for group in _groups_of(cells)
            if not any(cell.guarded for cell in group)
        ]
        if not groups:
            return []
        least = min(quota.mirrors[group[0].subdimension] for group in groups)
        group = chance.choice([one for one in groups if quota.mirrors[one[0].subdimension] == least])
        quota.mirrors[group[0].subdimension] += 1
        return chance.sample(group, 2)

    def _set(
        self,
        level: str,
        index: int,
        size: int,
        free: int,
        pin: Cell | None,
        others: Sequence[SetAssignment],
        quota: _Quota,
        chance: Random,
    ) -> SetAssignment | None:
        best: SetAssignment | None = None
        for attempt in range(_TRIES):
            strict = attempt < _STRICT_TRIES
            seeds = self._seeds(level, size - free, pin if strict else None, quota, chance, others, strict=strict)
            if seeds is None or not self._shows(level, seeds):
                continue
            slots = [Slot(seed.dimension, seed, chance.choice(INTENSITIES)) for seed in seeds]
            slots += self._free_of(free, seeds, quota, chance)
            chance.shuffle(slots)
            found = SetAssignment(index, tuple(slots))
            if not any(alike(found, other) for other in others):
                return found
            best = best or found
        return best

    def _free_of(self, free: int, seeds: Sequence[Seed], quota: _Quota, chance: Random) -> list[Slot]:
        used = Counter(seed.dimension for seed in seeds)
        slots: list[Slot] = []
        for _ in range(free):
            names = [name for name in self._known if self._known[name]]
            dimension = min(names, key=lambda name: (used[name], quota.dimensions[name], chance.random()))
            used[dimension] += 1
            slots.append(Slot(dimension, None, chance.choice(INTENSITIES)))
        return slots

    def _seeds(
        self,
        level: str,
        size: int,
        pin: Cell | None,
        quota: _Quota,
        chance: Random,
        others: Sequence[SetAssignment],
        *,
        strict: bool,
    ) -> list[Seed] | None:
        """One try at so many seeds that exclude each other in nothing; None where the choices ran out. `strict`: no dimension
        comes again before all were used, and no seed that a sibling has."""
        siblings = {seed.number for other in others for seed in other.seeds} if strict else set()
        chosen: list[Seed] = []
        mask = 0

        def take(cells: Sequence[Cell]) -> bool:
            nonlocal mask
            ranked = sorted(cells, key=lambda cell: (quota.cells[cell.key], chance.random()))
            for cell in ranked:
                if any(seed.subdimension == cell.subdimension for seed in chosen):
                    continue
                if not self._pairs_allowed(level) and any(
                    self._held_out.holds_pair(cell.key, _key(seed)) for seed in chosen
                ):
                    continue
                fitting = [seed for seed in cell.seeds if not mask >> seed.number & 1 and seed.number not in siblings]
                if fitting:
                    seed = chance.choice(fitting)
                    chosen.append(seed)
                    mask |= self._catalogue.conflicts[seed.number]
                    return True
            return False

        if pin is not None and not take([pin]):
            return None
        special = self._special(level)
        if special and len(chosen) < size:
            take([cell for cells in special.values() for cell in cells])
        if level == SplitLevel.UNSEEN_PAIR and len(chosen) < size:
            self._take_pair(chosen, size, take, chance)
        used = Counter(seed.dimension for seed in chosen)
        while len(chosen) < size:
            names = sorted(
                (name for name in self._known if self._known[name]),
                key=lambda name: (used[name], quota.dimensions[name], chance.random()),
            )
            if strict:
                names = [name for name in names if used[name] == used[names[0]]]
            taken = next((name for name in names if take(self._known[name])), None)
            if taken is None:
                return None
            used[taken] += 1
        return chosen

    def _take_pair(self, chosen: list[Seed], size: int, take: "_Take", chance: Random) -> None:
        """A held-out pair, with what was chosen before where there is something."""
        pairs = sorted(sorted(pair) for pair in self._held_out.pairs)
        keys = {_key(seed) for seed in chosen}
        fitting = [pair for pair in pairs if not keys or keys & set(map(tuple, pair))]
        if not fitting or (not chosen and size < 2):
            return
        wanted = {tuple(cell) for cell in chance.choice(fitting)} - keys
        cells = [cell for group in self._known.values() for cell in group if cell.key in wanted]
        chance.shuffle(cells)
        for cell in cells:
            take([cell])

    def _special(self, level: str) -> dict[str, tuple[Cell, ...]]:
        """The cells of which a set of that level must have one."""
        if level == SplitLevel.UNSEEN_PREFERENCE:
            return self._unseen_seeds
        if level == SplitLevel.UNSEEN_SUBDIMENSION:
            return self._unseen_subdimensions
        return {}

    def _pairs_allowed(self, level: str) -> bool:
        """Whether held-out pairs may stand in a set of that level. The largest sets can hardly do without."""
        return level in (SplitLevel.UNSEEN_PAIR, SplitLevel.MORE_PREFERENCES)

    def _shows(self, level: str, seeds: Sequence[Seed]) -> bool:
        """Whether the seeds show what the level says, and nothing that training must not see."""
        cells = [_key(seed) for seed in seeds]
        if level == SplitLevel.UNSEEN_COMBINATION:
            return self._held_out.holds_combination(cells)
        if level == SplitLevel.UNSEEN_PAIR:
            return self._held_out.has_pair(cells)
        if level == SplitLevel.UNSEEN_PREFERENCE:
            return any(
                seed.name in self._held_out.seeds and seed.subdimension not in self._held_out.subdimensions
                for seed in seeds
            )
        if level == SplitLevel.UNSEEN_SUBDIMENSION:
            return any(seed.subdimension in self._held_out.subdimensions for seed in seeds)
        if level == SplitLevel.MORE_PREFERENCES:
            return True
        return not self._held_out.holds_combination(cells)

    # ---- redraws ---------------------------------------------------------------------------------------------------

    def redraw(
        self,
        draw: int,
        level: str,
        assignment: SetAssignment,
        refused: Collection[int],
        others: Sequence[SetAssignment],
        attempt: int,
    ) -> SetAssignment | None:
        """See `SetSampler.redraw`. A seed of the same cell comes first: it keeps the balance and the differences."""
        chance = Random(seed_of(self._seed, "redraw", draw, level, assignment.index, attempt))
        current = assignment
        for position, slot in enumerate(assignment.slots):
            if slot.seed is None or slot.seed.number not in refused:
                continue
            replaced = self._replaced(level, current, position, slot.seed, refused, others, chance)
            if replaced is None:
                return None
            current = replaced
        return current

    def _replaced(
        self,
        level: str,
        current: SetAssignment,
        position: int,
        seed: Seed,
        refused: Collection[int],
        others: Sequence[SetAssignment],
        chance: Random,
    ) -> SetAssignment | None:
        rest = [other for other in current.seeds if other.number != seed.number]
        taken = {other.subdimension for other in rest}
        pools = [self._known, self._special(level)]
        options = []
        for pool in pools:
            for cell in pool.get(seed.dimension, ()):
                if cell.subdimension in taken:
                    continue
                for candidate in cell.seeds:
                    if candidate.number in refused or any(self._catalogue.excludes(candidate, one) for one in rest):
                        continue
                    seeds = [*rest, candidate]
                    has_pair = self._held_out.has_pair([_key(one) for one in seeds])
                    if self._shows(level, seeds) and (self._pairs_allowed(level) or not has_pair):
                        options.append(_with_seed(current, position, candidate))
        if not options:
            return None
        chance.shuffle(options)
        return min(
            options,
            key=lambda option: (
                sum(alike(option, other) for other in others),
                bool(others) and not mirrored([*others, option]),
                _key(option.slots[position].seed or seed) != _key(seed),
            ),
        )


class _Take(Protocol):
    def __call__(self, cells: Sequence[Cell]) -> bool: ...


def _any_alike(assignments: Sequence[SetAssignment]) -> bool:
    return any(alike(one, other) for place, one in enumerate(assignments) for other in assignments[place + 1 :])


def _groups_of(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells of each subdimension that has at least two poles with seeds."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.subdimension, []).append(cell)
    return [group for group in groups.values() if len(group) > 1]


def _without_free(assignment: SetAssignment) -> SetAssignment:
    slots = tuple(slot for slot in assignment.slots if slot.seed is not None)
    return SetAssignment(assignment.index, slots, assignment.profile)


def _with_seed(assignment: SetAssignment, position: int, seed: Seed) -> SetAssignment:
    slots = list(assignment.slots)
    slots[position] = Slot(seed.dimension, seed, slots[position].intensity)
    return SetAssignment(assignment.index, tuple(slots), assignment.profile)
