"""What training never sees, decided before any preference is drawn, and what a test row shows of it.

Everything follows from the taxonomy, the shipped forms and roles, the job's `splits` and its seed, by stable names: every
stage and every machine finds the same, and adding instructions changes nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import combinations

import msgspec

from shared.domain.identifiers import seed_of
from shared.domain.jobs import SplitParameters
from shared.domain.prose import fold_name
from shared.domain.rows import Preference
from shared.domain.system_forms import load_forms, load_roles
from shared.domain.taxonomy import Taxonomy

Cell = tuple[str, str]
"""A subdimension and one of its poles."""

COMBINATION_SHARE = 10
"""One of so many combinations of poles is held out."""
SMALLEST_COMBINATION = 3
"""Smaller sets have no combination beyond their pair."""
BLOCK = 20
"""Test instructions are drawn within blocks of so many, so that the share holds in every part of the collection."""


class Split(StrEnum):
    TRAIN = "train"
    TEST = "test"


class SplitLevel(StrEnum):
    """What a facet shows that training has not; each level has everything else in common with training. Of training `seen`."""

    SEEN = "seen"
    UNSEEN_COMBINATION = "unseen_combination"
    UNSEEN_PAIR = "unseen_pair"
    UNSEEN_WORDING = "unseen_wording"
    UNSEEN_PREFERENCE = "unseen_preference"
    UNSEEN_SUBDIMENSION = "unseen_subdimension"
    MORE_PREFERENCES = "more_preferences"

    @property
    def code(self) -> str:
        """`U0` to `U6`."""
        return f"U{list(SplitLevel).index(self)}"


class HeldOut(msgspec.Struct, frozen=True):
    """Names of what training never sees. `seeds` includes those of the held-out subdimensions."""

    subdimensions: frozenset[str] = frozenset()
    seeds: frozenset[str] = frozenset()
    pairs: frozenset[frozenset[Cell]] = frozenset()
    forms: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    seed: int = 0
    combinations: bool = True
    """Whether combinations are held out at all."""

    def holds_pair(self, first: Cell, second: Cell) -> bool:
        return frozenset((first, second)) in self.pairs

    def has_pair(self, cells: Sequence[Cell]) -> bool:
        """Whether two of the cells are a held-out pair."""
        return any(self.holds_pair(first, second) for first, second in combinations(cells, 2))

    def holds_combination(self, cells: Iterable[Cell]) -> bool:
        """Whether the whole combination is held out: one in ten of those of three cells and more, by hash."""
        found = sorted(set(cells))
        if not self.combinations or len(found) < SMALLEST_COMBINATION:
            return False
        return seed_of(self.seed, "combination", *found) % COMBINATION_SHARE == 0

    def name_of(self, preference: Preference) -> str | None:
        """By what name a preference is held out, None where it is not: that of its seed, its keywords where its subdimension is
        held out, or words of its own that are the name of a held-out seed although it grew from another one or from none."""
        if preference.seed_name in self.seeds:
            return preference.seed_name
        if preference.subdimension in self.subdimensions:
            return preference.seed_name or preference.preference
        names = _folded(self.seeds)
        # A taxonomy may have two seeds whose names differ in their signs alone.
        if (keywords := fold_name(preference.preference)) in names and keywords != fold_name(preference.seed_name):
            return preference.preference
        if not preference.pole and fold_name(preference.subdimension) in names:
            return preference.subdimension
        return None

    def as_json(self) -> dict[str, object]:
        """For people: every name, sorted."""
        return {
            "subdimensions": sorted(self.subdimensions),
            "seeds": sorted(self.seeds),
            "pairs": sorted(sorted([" / ".join(cell) for cell in pair]) for pair in self.pairs),
            "combinations": f"one in {COMBINATION_SHARE}, by hash" if self.combinations else "none",
            "forms": sorted(self.forms),
            "roles": sorted(self.roles),
        }


@lru_cache(maxsize=16)
def _folded(names: frozenset[str]) -> frozenset[str]:
    return frozenset(map(fold_name, names))


_KEPT = 16
_kept: dict[tuple[str, SplitParameters, int], HeldOut] = {}


def hold_out(taxonomy: Taxonomy, parameters: SplitParameters, seed: int) -> HeldOut:
    """What is held out of a taxonomy, and of the forms and roles. Nothing where `test_share` is 0.

    Subdimensions come from different dimensions as long as there are enough, and a dimension keeps two at least. A pole
    keeps a seed in training. At least one form that gives a role stays in training. The 16 asked for last are kept.
    """
    key = (taxonomy.version, parameters, seed)
    if key not in _kept:
        while len(_kept) >= _KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = _draw(taxonomy, parameters, seed)
    return _kept[key]


def _draw(taxonomy: Taxonomy, parameters: SplitParameters, seed: int) -> HeldOut:
    if parameters.test_share <= 0:
        return HeldOut(seed=seed, combinations=False)

    def ranked(kind: str) -> Callable[[object], int]:
        return lambda name: seed_of(seed, "hold-out", kind, name)

    subdimensions = _subdimensions(taxonomy, parameters.subdimensions, ranked("subdimension"))
    seeds = _seeds(taxonomy, subdimensions, parameters.seed_share, ranked("seed"))
    cells = [
        (subdimension.name, pole.name)
        for dimension in taxonomy.dimensions
        for subdimension in dimension.subdimensions
        if subdimension.name not in subdimensions
        for pole in subdimension.poles
    ]
    pairs = [(first, second) for first, second in combinations(cells, 2) if first[0] != second[0]]
    chosen_pairs = sorted(pairs, key=ranked("pair"))[: round(parameters.pair_share * len(pairs))]
    roles = sorted(load_roles(), key=ranked("role"))
    return HeldOut(
        subdimensions=subdimensions,
        seeds=seeds,
        pairs=frozenset(map(frozenset, chosen_pairs)),
        forms=_forms(parameters.forms, ranked("form")),
        roles=frozenset(roles[: round(parameters.role_share * len(roles))]),
        seed=seed,
    )


def _subdimensions(taxonomy: Taxonomy, wanted: int, rank: Callable[[object], int]) -> frozenset[str]:
    ordered = sorted(
        (
            (subdimension.name, dimension)
            for dimension in taxonomy.dimensions
            for subdimension in dimension.subdimensions
        ),
        key=lambda item: rank(item[0]),
    )
    left = {dimension.name: len(dimension.subdimensions) for dimension in taxonomy.dimensions}
    chosen: list[str] = []
    for most in range(1, wanted + 1):
        taken: dict[str, int] = {}
        chosen = []
        for name, dimension in ordered:
            if len(chosen) < wanted and taken.get(dimension.name, 0) < min(most, left[dimension.name] - 2):
                taken[dimension.name] = taken.get(dimension.name, 0) + 1
                chosen.append(name)
        if len(chosen) == wanted:
            break
    return frozenset(chosen)


def _seeds(
    taxonomy: Taxonomy, subdimensions: frozenset[str], share: float, rank: Callable[[object], int]
) -> frozenset[str]:
    whole: set[str] = set()
    candidates: list[tuple[str, Cell]] = []
    left: dict[Cell, int] = {}
    for _, subdimension, preference in taxonomy.seeds():
        if subdimension.name in subdimensions:
            whole.add(preference.name)
            continue
        cell = (subdimension.name, preference.pole)
        left[cell] = left.get(cell, 0) + 1
        candidates.append((preference.name, cell))
    wanted = round(share * len(candidates))
    chosen: list[str] = []
    for name, cell in sorted(candidates, key=lambda item: rank(item[0])):
        if len(chosen) < wanted and left[cell] > 1:
            left[cell] -= 1
            chosen.append(name)
    return frozenset((*whole, *chosen))


def _forms(wanted: int, rank: Callable[[object], int]) -> frozenset[str]:
    forms = sorted(load_forms(), key=lambda form: rank(form.name))
    giving = sum(form.gives_role for form in forms)
    chosen: list[str] = []
    for form in forms:
        if len(chosen) == wanted:
            break
        if form.gives_role and giving == 1:
            continue
        giving -= form.gives_role
        chosen.append(form.name)
    return frozenset(chosen)


def available_levels(held_out: HeldOut, unseen_set_sizes: Sequence[int]) -> tuple[SplitLevel, ...]:
    """The levels that a job can make, in order: those for which something is held out."""
    possible = {
        SplitLevel.SEEN: True,
        SplitLevel.UNSEEN_COMBINATION: held_out.combinations,
        SplitLevel.UNSEEN_PAIR: bool(held_out.pairs),
        SplitLevel.UNSEEN_WORDING: bool(held_out.forms or held_out.roles),
        SplitLevel.UNSEEN_PREFERENCE: bool(held_out.seeds),
        SplitLevel.UNSEEN_SUBDIMENSION: bool(held_out.subdimensions),
        SplitLevel.MORE_PREFERENCES: bool(unseen_set_sizes),
    }
    return tuple(level for level in SplitLevel if possible[level])


def is_test(position: int, share: float, seed: int) -> bool:
    """Whether the instruction at that position (from 0) of the curated order is a test instruction.

    Of every block of 20 so many are drawn by seed that the share holds up to the end of the block: appending instructions
    moves none of those before.
    """
    block, place = divmod(position, BLOCK)
    wanted = round(BLOCK * share * (block + 1)) - round(BLOCK * share * block)
    # The very first trains: a job of one instruction has something to train on.
    order = sorted(
        range(BLOCK), key=lambda index: (block + index == 0, seed_of(seed, "test-instruction", block, index))
    )
    return place in order[:wanted]


def held_out_sources(counts: Sequence[tuple[str, int]], parameters: SplitParameters, seed: int) -> frozenset[str]:
    """Sources whose instructions all go to the test split: drawn by seed among those with at most `largest_source_share` of the
    instructions, never the only one. `counts` holds source names and instructions."""
    total = sum(count for _, count in counts)
    if parameters.test_share <= 0 or len(counts) < 2:
        return frozenset()
    small = [name for name, count in counts if count <= parameters.largest_source_share * total]
    small.sort(key=lambda name: seed_of(seed, "hold-out", "source", name))
    return frozenset(small[: min(parameters.sources, len(counts) - 1)])
