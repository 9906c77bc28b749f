"""The draw of rows that train without a system message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.no_system import no_system_probability, trains_without_system


@pytest.mark.parametrize(("share", "facets"), [(0.1, 3), (0.05, 1), (0.2, 3), (0.25, 3)])
def test_the_share_of_all_examples_comes_out(share: float, facets: int) -> None:
    rows = 6000
    neutral = sum(trains_without_system(f"row-{number}", facets, share, 7) for number in range(rows))
    assert neutral / (neutral + rows * facets) == pytest.approx(share, rel=0.08)


def test_the_probability_is_capped() -> None:
    assert no_system_probability(16, 0.5) == 1.0
    assert no_system_probability(3, 0.0) == 0.0
    assert all(trains_without_system(str(number), 3, 0.5, 0) for number in range(100))
    assert not any(trains_without_system(str(number), 3, 0.0, 0) for number in range(100))


@given(st.text(), st.integers(1, 8), st.integers(0, 8), st.floats(0, 0.5), st.integers(0, 2**53))
def test_a_row_drawn_with_few_facets_is_drawn_with_more(
    row_id: str, facets: int, more: int, share: float, seed: int
) -> None:
    if trains_without_system(row_id, facets, share, seed):
        assert trains_without_system(row_id, facets + more, share, seed)


def test_the_draw_follows_the_seed() -> None:
    first = [trains_without_system(str(number), 3, 0.1, 1) for number in range(200)]
    assert first == [trains_without_system(str(number), 3, 0.1, 1) for number in range(200)]
    assert first != [trains_without_system(str(number), 3, 0.1, 2) for number in range(200)]
