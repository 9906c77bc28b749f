"""What is held out: as much as was asked for, the same everywhere, and never what training cannot do without."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.jobs import SplitParameters
from shared.domain.splits import (
    BLOCK,
    Cell,
    HeldOut,
    SplitLevel,
    available_levels,
    held_out_sources,
    hold_out,
    is_test,
)
from shared.domain.system_forms import load_forms, load_roles
from shared.domain.taxonomy import default_taxonomy

TAXONOMY = default_taxonomy()
DIMENSION_OF = {
    subdimension.name: dimension.name for dimension in TAXONOMY.dimensions for subdimension in dimension.subdimensions
}
CELL_OF: dict[str, Cell] = {seed.name: (sub.name, seed.pole) for _, sub, seed in TAXONOMY.seeds()}
SEEDS = st.integers(0, 2**53)
PARAMETERS = st.builds(
    SplitParameters,
    test_share=st.floats(0.01, 0.99),
    seed_share=st.floats(0, 0.5),
    subdimensions=st.integers(0, 20),
    pair_share=st.floats(0, 0.5),
    role_share=st.floats(0, 0.5),
    forms=st.integers(0, 5),
)


def cells_left(held_out: HeldOut) -> list[Cell]:
    """Every pole of the subdimensions that training sees."""
    return [
        (subdimension.name, pole.name)
        for dimension in TAXONOMY.dimensions
        for subdimension in dimension.subdimensions
        if subdimension.name not in held_out.subdimensions
        for pole in subdimension.poles
    ]


@given(SEEDS)
def test_two_subdimensions_of_different_dimensions_are_held_out_by_default(seed: int) -> None:
    held_out = hold_out(TAXONOMY, SplitParameters(), seed)
    assert len(held_out.subdimensions) == 2
    assert len({DIMENSION_OF[name] for name in held_out.subdimensions}) == 2


@given(PARAMETERS, SEEDS)
def test_every_dimension_keeps_two_subdimensions_and_the_most_that_one_gives_is_as_few_as_can_be(
    parameters: SplitParameters, seed: int
) -> None:
    taken = Counter(DIMENSION_OF[name] for name in hold_out(TAXONOMY, parameters, seed).subdimensions)
    there = Counter(DIMENSION_OF.values())
    assert sum(taken.values()) == min(parameters.subdimensions, sum(count - 2 for count in there.values()))
    assert all(there[name] - taken[name] >= 2 for name in there)
    most = max(taken.values(), default=0)
    assert sum(min(most - 1, count - 2) for count in there.values()) < sum(taken.values()) or most == 0


@given(PARAMETERS, SEEDS)
def test_every_pole_that_training_sees_keeps_a_seed(parameters: SplitParameters, seed: int) -> None:
    held_out = hold_out(TAXONOMY, parameters, seed)
    kept = {cell for name, cell in CELL_OF.items() if name not in held_out.seeds}
    assert kept == set(cells_left(held_out))


@given(PARAMETERS, SEEDS)
def test_seeds_are_as_many_as_asked_beside_those_of_whole_subdimensions(parameters: SplitParameters, seed: int) -> None:
    held_out = hold_out(TAXONOMY, parameters, seed)
    whole = {name for name, cell in CELL_OF.items() if cell[0] in held_out.subdimensions}
    assert whole <= held_out.seeds
    candidates = len(CELL_OF) - len(whole)
    poles = len(cells_left(held_out))
    assert len(held_out.seeds - whole) == min(round(parameters.seed_share * candidates), candidates - poles)


@given(PARAMETERS, SEEDS)
def test_pairs_are_exactly_their_share_and_of_two_subdimensions_that_training_sees(
    parameters: SplitParameters, seed: int
) -> None:
    held_out = hold_out(TAXONOMY, parameters, seed)
    possible = {
        frozenset(pair) for pair in combinations(cells_left(held_out), 2) if len({cell[0] for cell in pair}) == 2
    }
    assert held_out.pairs <= possible
    assert len(held_out.pairs) == round(parameters.pair_share * len(possible))


@given(PARAMETERS, SEEDS)
def test_forms_and_roles_are_as_many_as_asked_and_a_form_that_gives_a_role_stays(
    parameters: SplitParameters, seed: int
) -> None:
    held_out = hold_out(TAXONOMY, parameters, seed)
    assert len(held_out.forms) == parameters.forms
    assert len(held_out.roles) == round(parameters.role_share * len(load_roles()))
    assert held_out.roles < set(load_roles())
    assert any(form.gives_role for form in load_forms() if form.name not in held_out.forms)


@given(PARAMETERS, SEEDS)
@settings(max_examples=20)
def test_the_same_is_held_out_of_an_equal_taxonomy_by_the_same_seed(parameters: SplitParameters, seed: int) -> None:
    twin = TAXONOMY.model_copy(update={"name": TAXONOMY.name})
    first = hold_out(TAXONOMY, parameters, seed)
    for other in range(17):  # more than are kept, so that it is drawn again
        hold_out(TAXONOMY, parameters, seed + 1 + other)
    again = hold_out(twin, parameters.model_copy(), seed)
    assert again is not first
    assert again == first
    assert again.as_json() == first.as_json()


def test_another_seed_holds_other_things_out() -> None:
    drawn = {hold_out(TAXONOMY, SplitParameters(), seed).seeds for seed in range(10)}
    assert len(drawn) == 10


@given(PARAMETERS, SEEDS)
def test_nothing_is_held_out_where_nothing_is_tested(parameters: SplitParameters, seed: int) -> None:
    parameters = parameters.model_copy(update={"test_share": 0})
    held_out = hold_out(TAXONOMY, parameters, seed)
    assert held_out == HeldOut(seed=seed, combinations=False)
    assert available_levels(held_out, ()) == (SplitLevel.SEEN,)
    assert not held_out_sources([("a", 1), ("b", 99)], parameters, seed)
    assert not any(is_test(position, 0, seed) for position in range(100))


CELLS = st.sets(st.sampled_from(sorted(set(CELL_OF.values()))), max_size=6)


@given(CELLS, SEEDS)
def test_combinations_of_three_poles_and_more_alone_are_held_out_in_any_order(cells: set[Cell], seed: int) -> None:
    held_out = HeldOut(seed=seed)
    found = held_out.holds_combination(sorted(cells))
    assert held_out.holds_combination(sorted(cells, reverse=True)) == found
    assert not (found and len(cells) < 3)
    assert not HeldOut(seed=seed, combinations=False).holds_combination(cells)


def test_one_combination_in_ten_is_held_out() -> None:
    held_out = HeldOut(seed=4)
    all_of_three = list(combinations(sorted(set(CELL_OF.values()))[:30], 3))
    share = sum(map(held_out.holds_combination, all_of_three)) / len(all_of_three)
    assert share == pytest.approx(0.1, abs=0.02)


def test_a_pair_is_found_among_any_cells_in_any_order() -> None:
    first, second, third = sorted(set(CELL_OF.values()))[:3]
    held_out = HeldOut(pairs=frozenset({frozenset((first, second))}))
    assert held_out.holds_pair(second, first)
    assert held_out.has_pair([second, third, first])
    assert not held_out.has_pair([second, third])
    assert not held_out.has_pair([])


@given(st.floats(0, 0.99), SEEDS, st.integers(1, 60))
def test_the_share_of_test_instructions_holds_at_the_end_of_every_block(share: float, seed: int, blocks: int) -> None:
    chosen = [is_test(position, share, seed) for position in range(blocks * BLOCK)]
    for block in range(1, blocks + 1):
        assert sum(chosen[: block * BLOCK]) == round(BLOCK * share * block)


def test_a_twentieth_is_one_of_every_block_of_twenty_at_places_of_their_own() -> None:
    places = [[place for place in range(BLOCK) if is_test(block * BLOCK + place, 0.05, 3)] for block in range(50)]
    assert all(len(found) == 1 for found in places)
    assert len({found[0] for found in places}) > 10


NAMES = st.lists(st.tuples(st.text(min_size=1), st.integers(1, 1000)), max_size=12, unique_by=lambda item: item[0])


@given(NAMES, st.integers(0, 10), st.floats(0, 1), SEEDS)
def test_held_out_sources_are_small_and_never_all(
    counts: list[tuple[str, int]], wanted: int, largest: float, seed: int
) -> None:
    parameters = SplitParameters(sources=wanted, largest_source_share=largest)
    held_out = held_out_sources(counts, parameters, seed)
    total = sum(count for _, count in counts)
    small = {name for name, count in counts if count <= largest * total}
    assert held_out <= small
    assert len(held_out) == (0 if len(counts) < 2 else min(wanted, len(small), len(counts) - 1))
    assert held_out_sources(counts[::-1], parameters, seed) == held_out


@pytest.mark.parametrize(
    ("held_out", "sizes", "missing"),
    [
        (
            HeldOut(),
            (),
            {"unseen_pair", "unseen_wording", "unseen_preference", "unseen_subdimension", "more_preferences"},
        ),
        (
            HeldOut(combinations=False, roles=frozenset({"a clerk"}), pairs=frozenset({frozenset()})),
            (7,),
            {"unseen_combination", "unseen_preference", "unseen_subdimension"},
        ),
        (hold_out(TAXONOMY, SplitParameters(), 0), (7, 8), set()),
    ],
)
def test_levels_are_those_for_which_something_is_held_out(
    held_out: HeldOut, sizes: tuple[int, ...], missing: set[str]
) -> None:
    levels = available_levels(held_out, sizes)
    assert set(SplitLevel) - set(levels) == missing
    assert list(levels) == [level for level in SplitLevel if level in levels]


def test_levels_have_codes_in_their_order() -> None:
    assert [level.code for level in SplitLevel] == [f"U{number}" for number in range(7)]


def test_what_is_held_out_can_be_read_by_people() -> None:
    first, second = ("tone", "formal"), ("length", "brief")
    held_out = HeldOut(seeds=frozenset({"b", "a"}), pairs=frozenset({frozenset((first, second))}))
    assert held_out.as_json() == {
        "subdimensions": [],
        "seeds": ["a", "b"],
        "pairs": [["length / brief", "tone / formal"]],
        "combinations": "one in 10, by hash",
        "forms": [],
        "roles": [],
    }
