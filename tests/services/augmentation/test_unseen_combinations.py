"""A search for combinations that are held out although all their pairs are trained."""

from itertools import combinations
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.augmentation.catalogue import build_catalogue
from services.augmentation.unseen_combinations import CombinationSearch, all_together, partners_in
from shared.domain.splits import HeldOut
from shared.domain.taxonomy import default_taxonomy

CATALOGUE = build_catalogue(default_taxonomy())
CELLS = [cell for cells in CATALOGUE.cells.values() for cell in cells]


def test_partners_are_those_of_one_set() -> None:
    a, b, c = (cell.key for cell in CELLS[:3])
    partners = partners_in([[a, b], [b, c], [a]])
    assert partners == {a: {b}, b: {a, c}, c: {b}}
    assert all_together([a, b], partners)
    assert all_together([a], {})
    assert not all_together([a, b, c], partners)


@given(seed=st.integers(0, 2**40), size=st.integers(3, 5), pinned=st.booleans(), share=st.floats(0.05, 1))
@settings(deadline=None, max_examples=60)
def test_what_is_found_keeps_every_rule(seed: int, size: int, pinned: bool, share: float) -> None:
    chance = Random(seed)
    pairs = [pair for pair in combinations([cell.key for cell in CELLS], 2) if chance.random() < share]
    partners = partners_in(pairs)
    held_out = HeldOut(seed=seed)
    pin = chance.choice(CELLS) if pinned else None
    siblings = frozenset(chance.sample(range(len(CATALOGUE.seeds)), 30))
    search = CombinationSearch(CATALOGUE.cells, CATALOGUE.conflicts, held_out)
    found = search.find(size, pin, partners, {}, siblings, chance)
    if found is None:
        assert share < 0.8 or pinned, "nearly every pair is there, so something can be found"
        return
    keys = [(one.subdimension, one.pole) for one in found]
    assert len(found) == size == len({key[0] for key in keys})
    assert pin is None or keys[0] == pin.key
    assert all_together(keys, partners)
    assert held_out.holds_combination(keys)
    assert not siblings & {one.number for one in found}
    assert not any(CATALOGUE.excludes(one, other) for one, other in combinations(found, 2))
    dimensions = [one.dimension for one in found]
    assert max(map(dimensions.count, CATALOGUE.dimensions)) - min(map(dimensions.count, CATALOGUE.dimensions)) <= 1


def test_nothing_is_found_where_nothing_stands_together() -> None:
    search = CombinationSearch(CATALOGUE.cells, CATALOGUE.conflicts, HeldOut())
    assert search.find(3, None, {}, {}, frozenset(), Random(0)) is None
