"""Hold-outs are exact in number, the same on every machine, and leave every pole a seed while they can."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.curation.assembly.splits import HeldOut, held_out_seeds, split_instructions
from shared.domain.rows import Preference
from tests.services.curation.assembly.synthetic import small_taxonomy

TAXONOMY = small_taxonomy()
POLE_OF = {
    seed.name: (subdimension.name, seed.pole)
    for dimension in TAXONOMY.dimensions
    for subdimension in dimension.subdimensions
    for seed in subdimension.seeds
}


@given(share=st.floats(0, 0.99), seed=st.integers(0, 2**53))
def test_held_out_seeds_are_as_many_as_asked_and_never_all(share: float, seed: int) -> None:
    chosen = held_out_seeds(TAXONOMY, share, seed)
    expected = 0 if share == 0 else min(max(round(share * 48), 1), 47)
    assert len(set(chosen)) == len(chosen) == expected
    assert set(chosen) < set(POLE_OF)


@given(share=st.floats(0, 0.66), seed=st.integers(0, 2**53))
def test_every_pole_keeps_a_seed_while_others_can_be_taken(share: float, seed: int) -> None:
    left = Counter(POLE_OF.values()) - Counter(POLE_OF[name] for name in held_out_seeds(TAXONOMY, share, seed))
    assert set(left) == set(POLE_OF.values())


@given(
    st.sets(st.text("0123456789abcdef", min_size=16, max_size=16), max_size=60), st.floats(0, 0.99), st.integers(0, 9)
)
def test_test_instructions_are_exact_in_number(row_ids: set[str], share: float, seed: int) -> None:
    split = split_instructions(row_ids, share, seed)
    chosen = {row_id for row_id in row_ids if split.is_test(row_id)}
    expected = 0 if share == 0 or len(row_ids) < 2 else min(max(round(share * len(row_ids)), 1), len(row_ids) - 1)
    assert len(chosen) == split.test_instructions == expected


@pytest.mark.parametrize(
    ("keywords", "description", "seed_name", "held"),
    [
        ("anything", "Anything.", "brief conciseness 1", True),
        ("Brief  conciseness 1", "Anything.", "", True),
        ("anything", "wants brief conciseness of kind 1.", "", True),
        ("anything", "Anything.", "brief conciseness 2", False),
    ],
)
def test_held_out_preferences_are_known_by_seed_and_by_wording(
    keywords: str, description: str, seed_name: str, held: bool
) -> None:
    held_out = HeldOut.from_taxonomy(TAXONOMY, ["brief conciseness 1"])
    preference = Preference("style", "conciseness", keywords, description, "brief", seed_name)
    assert held_out.matches(preference) is held
