"""Which seed preference goes into which slot: drawn by seed and by quota, before any language model is asked.

A row has the number of a draw (`InstructionRow.draw`). Draws are made in blocks; within a block every pole of every subdimension
is given out as evenly as the rules allow, and so are the dimensions and the sizes of sets. A block depends on its number, the
job's seed and the taxonomy alone, so any worker makes the same one. The rules:

- a set has 1 to 8 preferences, no two of one subdimension, none excluding another (always: a set for which no such choice is
  found is left out); up to as many preferences as there are dimensions, each is of another dimension;
- any two sets of an instruction differ in at least three quarters (rounded up) of the dimensions that either has;
- with two sets or more, one pair stands on opposite poles of one subdimension;
- training never sees what is held out, and a test row shows what its level says (`shared.domain.splits`); a row of an unseen
  combination has pairs of poles that training draws, and for these a set may get smaller than its quota says;
- of an instruction with harmful intent no slot is free in a dimension that has frank poles: what is coined could stand on one.
"""

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from random import Random
from typing import Protocol

import msgspec

from services.augmentation.catalogue import Catalogue, Cell, Seed
from services.augmentation.unseen_combinations import CombinationSearch, Partners, all_together, partners_in
from shared.domain.identifiers import seed_of
from shared.domain.jobs import AugmentParameters
from shared.domain.set_differences import are_alike, have_opposite_poles
from shared.domain.splits import SMALLEST_COMBINATION, HeldOut, SplitLevel

INTENSITIES = ("mild", "clear", "strong")

TRAINING_BLOCK, TEST_BLOCK = 32, 8
"""Draws of one block: many enough for even quotas, few enough to be made in some ten milliseconds."""
_TRIES = 120
_STRICT_TRIES = 80
"""The first tries ask for everything; the later ones forgive that no poles are mirrored and that a dimension comes twice."""
_COMBINATION_TRIES = 3
"""Searches for an unseen combination of one size, before a smaller one is looked for."""
_TRAINED_BLOCKS = 8
"""Pairs of poles are looked up in twice so many training blocks at most: nearly all that training may see stand there."""
_REDRAWN_CHOICES = 2000
"""Choices that a redraw goes through at most; one is enough unless what was refused leaves a pole without a seed."""
_FREE_SHARE_OF_SET = 0.5
"""At most so much of a set is free, so that every set has a preference that was assigned."""
_KEPT_BLOCKS = 64
_SMALLEST_SET: dict[str, int] = {
    SplitLevel.UNSEEN_COMBINATION: SMALLEST_COMBINATION,
    SplitLevel.UNSEEN_PAIR: 2,
    # What training never saw, and a pole that a sibling stands opposite to.
    SplitLevel.UNSEEN_PREFERENCE: 2,
    SplitLevel.UNSEEN_SUBDIMENSION: 2,
}


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


def _by_dimension(assignment: SetAssignment) -> dict[str, frozenset[tuple[str, str] | None]]:
    found: dict[str, set[tuple[str, str] | None]] = {}
    for slot in assignment.slots:
        found.setdefault(slot.dimension, set()).add(None if slot.seed is None else _key(slot.seed))
    return {name: frozenset(cells) for name, cells in found.items()}


def _key(seed: Seed) -> tuple[str, str]:
    return (seed.subdimension, seed.pole)


def alike(first: SetAssignment, second: SetAssignment) -> bool:
    """Whether two sets differ in fewer dimensions than they must. Free slots count as different."""
    return are_alike(_by_dimension(first), _by_dimension(second))


def mirrored(assignments: Sequence[SetAssignment]) -> bool:
    """Whether one pair of sets stands on different poles of one subdimension."""
    return have_opposite_poles(map(_key, assignment.seeds) for assignment in assignments)


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
        self._partners: dict[int, Partners] = {}
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
        self._free_dimensions = [
            name for name, cells in self._known.items() if cells and name not in catalogue.seeds_only
        ]
        self._combinations = CombinationSearch(self._known, catalogue.conflicts, held_out)

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
        trained = self._trained(number) if level == SplitLevel.UNSEEN_COMBINATION else ()
        return [
            self._row(level, sizes[row * sets :][:sets], free[row * sets :][:sets], trained, quota, chance)
            for row in range(size)
        ]

    def _trained(self, block: int) -> tuple[Partners, Partners]:
        """Which poles stand together in training, for a block of test draws: what training has surely drawn by then, and what it
        has drawn with good chance.

        Eight rows of one level come with as many of each of the other six, so before block n of a level training drew more than
        2 n blocks, as long as less than 0.4 of the instructions are tests; the first two belong to a job of 64 training rows.
        What a job does not draw after all costs its test rows nothing but their level, which assembly measures.
        """
        blocks = min(max(block, 1), _TRAINED_BLOCKS)
        return self._partners_of(blocks), self._partners_of(2 * blocks)

    def _partners_of(self, blocks: int) -> Partners:
        if blocks not in self._partners:
            sets = [one for draw in range(blocks * TRAINING_BLOCK) for one in self.assign(draw, "") if one is not None]
            self._partners[blocks] = partners_in([_key(seed) for seed in one.seeds] for one in sets)
        return self._partners[blocks]

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
        if level or not self._free_dimensions:
            return free
        room = [place for place, size in enumerate(sizes) for _ in range(int(size * _FREE_SHARE_OF_SET))]
        wanted = round(self._parameters.free_slot_share * sum(sizes))
        for place in chance.sample(room, min(wanted, len(room))):
            free[place] += 1
        return free

    # ---- one row ---------------------------------------------------------------------------------------------------

    def _row(
        self,
        level: str,
        sizes: Sequence[int],
        free: Sequence[int],
        trained: Sequence[Partners],
        quota: _Quota,
        chance: Random,
    ) -> list[SetAssignment | None]:
        order = list(range(len(sizes)))
        chance.shuffle(order)
        pinned = self._mirror(quota, chance) if len(sizes) > 1 else []
        made: dict[int, SetAssignment] = {}
        for place, index in enumerate(order):
            pin = pinned[place] if place < len(pinned) else None
            others = list(made.values())
            found = self._combination(index, sizes[index], pin, others, trained, quota, chance) if trained else None
            if found is None:
                found = self._set(level, index, sizes[index], free[index], pin, others, quota, chance)
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

    def _combination(
        self,
        index: int,
        size: int,
        pin: Cell | None,
        others: Sequence[SetAssignment],
        trained: Sequence[Partners],
        quota: _Quota,
        chance: Random,
    ) -> SetAssignment | None:
        """A set whose combination is held out and whose pairs are trained; a smaller one where none of its size is found."""
        siblings = frozenset(seed.number for other in others for seed in other.seeds)
        for wanted in range(size, SMALLEST_COMBINATION - 1, -1):
            for partners in trained:
                for _ in range(_COMBINATION_TRIES):
                    seeds = self._combinations.find(wanted, pin, partners, quota.cells, siblings, chance)
                    if seeds is None:
                        continue
                    slots = [Slot(seed.dimension, seed, chance.choice(INTENSITIES)) for seed in seeds]
                    chance.shuffle(slots)
                    found = SetAssignment(index, tuple(slots))
                    if not any(alike(found, other) for other in others):
                        return found
        return None

    def _free_of(self, free: int, seeds: Sequence[Seed], quota: _Quota, chance: Random) -> list[Slot]:
        used = Counter(seed.dimension for seed in seeds)
        slots: list[Slot] = []
        for _ in range(free):
            dimension = min(
                self._free_dimensions, key=lambda name: (used[name], quota.dimensions[name], chance.random())
            )
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
                # One combination in ten is held out: the last preference has to make it one of these.
                if (
                    level == SplitLevel.UNSEEN_COMBINATION
                    and len(chosen) == size - 1
                    and not self._held_out.holds_combination([*map(_key, chosen), cell.key])
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
        """See `SetSampler.redraw`. Seeds of the same cells come first: they keep the balance and the differences. Where they do
        not do, all choices for the refused slots together are gone through until one differs from the other sets as it must
        and leaves opposite poles; the best of them stands if there is none such."""
        chance = Random(seed_of(self._seed, "redraw", draw, level, assignment.index, attempt))
        gone = [
            place
            for place, slot in enumerate(assignment.slots)
            if slot.seed is not None and slot.seed.number in refused
        ]
        kept = [seed for seed in assignment.seeds if seed.number not in refused]
        options = [self._options(level, assignment.slots[place], kept, refused, chance) for place in gone]
        trained = self._trained(draw // TEST_BLOCK)[-1] if level == SplitLevel.UNSEEN_COMBINATION else None
        best: tuple[tuple[int, bool, bool], SetAssignment] | None = None
        for seeds in islice(self._choices(options), _REDRAWN_CHOICES):
            keys = [_key(seed) for seed in (*kept, *seeds)]
            if not self._shows(level, [*kept, *seeds]):
                continue
            if not self._pairs_allowed(level) and self._held_out.has_pair(keys):
                continue
            found = _with_seeds(assignment, dict(zip(gone, seeds, strict=True)))
            rank = (
                sum(alike(found, other) for other in others),
                bool(others) and not mirrored([*others, found]),
                trained is not None and not all_together(keys, trained),
            )
            if best is None or rank < best[0]:
                best = (rank, found)
            if not any(rank):
                break
        return None if best is None else best[1]

    def _options(
        self, level: str, slot: Slot, kept: Sequence[Seed], refused: Collection[int], chance: Random
    ) -> list[Seed]:
        """Seeds for a slot that may stand beside those that are kept; those of its own cell come first."""
        taken = {seed.subdimension for seed in kept}
        seeds = [
            seed
            for pool in (self._known, self._special(level))
            for cell in pool.get(slot.dimension, ())
            if cell.subdimension not in taken
            for seed in cell.seeds
            if seed.number not in refused and not any(self._catalogue.excludes(seed, one) for one in kept)
        ]
        chance.shuffle(seeds)
        return sorted(seeds, key=lambda seed: slot.seed is None or _key(seed) != _key(slot.seed))

    def _choices(self, options: Sequence[Sequence[Seed]]) -> Iterator[tuple[Seed, ...]]:
        """One seed of each of the options, no two of one subdimension, none excluding another."""
        if not options:
            yield ()
            return
        for others in self._choices(options[:-1]):
            for seed in options[-1]:
                if not any(
                    seed.subdimension == other.subdimension or self._catalogue.excludes(seed, other) for other in others
                ):
                    yield (*others, seed)


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


def _with_seeds(assignment: SetAssignment, seeds: Mapping[int, Seed]) -> SetAssignment:
    """The set with these seeds in the slots of these positions."""
    slots = tuple(
        Slot(slot.dimension, seeds[place], slot.intensity) if place in seeds else slot
        for place, slot in enumerate(assignment.slots)
    )
    return SetAssignment(assignment.index, slots, assignment.profile)
