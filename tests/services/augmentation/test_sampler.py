"""What holds for every assignment, whatever the seed: structure, differences, balance, no contradictions."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.augmentation.catalogue import Catalogue, build_catalogue
from services.augmentation.sampler import SeededSampler, SetAssignment, differences, required_differences
from shared.domain.checks import conflict
from shared.domain.taxonomy import Taxonomy, default_taxonomy
from tests.support.taxonomies import small_taxonomy

SMALL = build_catalogue(small_taxonomy())
DEFAULT = build_catalogue(default_taxonomy())


def _sets(catalogue: Catalogue, seed: int, row_id: str, sets: int) -> list[SetAssignment]:
    found = SeededSampler(catalogue, seed).assign(row_id, sets)
    assert len(found) == sets
    made = [assignment for assignment in found if assignment is not None]
    assert len(made) == sets
    return made


@pytest.mark.parametrize("catalogue", [SMALL, DEFAULT], ids=["small", "default"])
@given(seed=st.integers(0, 2**53), row_id=st.text("0123456789abcdef", min_size=16, max_size=16), sets=st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_rules_that_hold_for_every_seed(catalogue: Catalogue, seed: int, row_id: str, sets: int) -> None:
    made = _sets(catalogue, seed, row_id, sets)
    for index, assignment in enumerate(made):
        assert assignment.index == index
        assert sorted(chosen.dimension for chosen in assignment.seeds) == sorted(catalogue.dimensions)
        for first, second in combinations(assignment.seeds, 2):
            assert not catalogue.excludes(first, second)
            if first.check and second.check:
                assert conflict(first.check, second.check) is None
    for one, other in combinations(made, 2):
        assert differences(one, other) >= required_differences(len(catalogue.dimensions))
    if sets > 1:
        poles: dict[str, set[str]] = {}
        for assignment in made:
            for chosen in assignment.seeds:
                poles.setdefault(chosen.subdimension, set()).add(chosen.pole)
        assert any(len(names) > 1 for names in poles.values())


@given(seed=st.integers(0, 2**53))
@settings(deadline=None, max_examples=20)
def test_the_same_seed_draws_the_same(seed: int) -> None:
    assert _sets(DEFAULT, seed, "ab", 3) == _sets(DEFAULT, seed, "ab", 3)


def test_sixteen_sets_still_differ() -> None:
    made = _sets(DEFAULT, 3, "row", 16)
    assert min(differences(one, other) for one, other in combinations(made, 2)) >= 3


@pytest.mark.parametrize("catalogue", [SMALL, DEFAULT], ids=["small", "default"])
def test_poles_and_subdimensions_are_balanced(catalogue: Catalogue) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for row in range(1500):
        for assignment in _sets(catalogue, 11, f"row{row}", 3):
            counts.update((chosen.subdimension, chosen.pole) for chosen in assignment.seeds)
    for dimension in catalogue.dimensions:
        subdimensions = {cell.subdimension for cell in catalogue.cells[dimension]}
        for subdimension in subdimensions:
            of_poles = [counts[cell.key] for cell in catalogue.cells[dimension] if cell.subdimension == subdimension]
            total = sum(of_poles)
            assert total >= 0.7 * 1500 * 3 / len(subdimensions), subdimension
            assert all(0.4 <= count / total <= 0.6 for count in of_poles), (subdimension, of_poles)


def test_every_seed_is_used() -> None:
    used = {chosen.number for row in range(1000) for one in _sets(DEFAULT, 5, f"row{row}", 3) for chosen in one.seeds}
    assert used == {chosen.number for chosen in DEFAULT.seeds}


def test_the_order_of_dimensions_is_shuffled() -> None:
    orders = Counter(
        tuple(chosen.dimension for chosen in one.seeds) for row in range(300) for one in _sets(DEFAULT, 1, f"r{row}", 3)
    )
    assert len(orders) == 24
    assert max(orders.values()) < 900 / 24 * 2


def test_machine_checks_and_names_exclude_seeds() -> None:
    by_name = {seed.name: seed for seed in SMALL.seeds}
    assert SMALL.excludes(by_name["style one low a"], by_name["depth one high a"])
    assert SMALL.excludes(by_name["care one high b"], by_name["tone one low a"])
    assert not SMALL.excludes(by_name["style one low b"], by_name["depth one high a"])


def test_a_taxonomy_of_contradictions_gives_no_set() -> None:
    data = small_taxonomy().model_dump(mode="json")
    every_style = [seed["name"] for part in data["dimensions"][0]["subdimensions"] for seed in part["seeds"]]
    for part in data["dimensions"][1]["subdimensions"]:
        for seed in part["seeds"]:
            seed["conflicts_with"] = every_style
    catalogue = build_catalogue(Taxonomy.model_validate(data))
    assert SeededSampler(catalogue, 0).assign("row", 3) == [None, None, None]


def test_one_dimension_is_enough() -> None:
    data = small_taxonomy().model_dump(mode="json")
    data["dimensions"] = data["dimensions"][:1]
    made = _sets(build_catalogue(Taxonomy.model_validate(data)), 0, "row", 4)
    assert len({(one.seeds[0].subdimension, one.seeds[0].pole) for one in made}) == 4


@given(seed=st.integers(0, 2**53), position=st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_redraw_replaces_only_what_was_refused(seed: int, position: int) -> None:
    sampler = SeededSampler(SMALL, seed)
    first, second, third = _sets(SMALL, seed, "row", 3)
    refused = first.seeds[position].number
    again = sampler.redraw("row", first, {refused}, [second, third], 1)
    assert again is not None
    for place, (before, after) in enumerate(zip(first.seeds, again.seeds, strict=True)):
        assert (before == after) == (place != position)
        assert before.dimension == after.dimension
    assert all(not SMALL.excludes(one, other) for one, other in combinations(again.seeds, 2))
    assert all(differences(again, other) >= 3 for other in (second, third))


def test_redraw_ends_when_every_seed_of_the_dimension_was_refused() -> None:
    first = _sets(SMALL, 0, "row", 1)[0]
    refused = {seed.number for seed in SMALL.seeds if seed.dimension == "style"}
    assert SeededSampler(SMALL, 0).redraw("row", first, refused, [], 1) is None
