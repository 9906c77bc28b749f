"""The best of n, against all ways to draw n."""

from itertools import combinations, pairwise
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.statistics.best_of import expected_best

SCORES = st.lists(st.floats(-50, 50), min_size=1, max_size=9)


@given(SCORES, st.integers(1, 9))
def test_it_is_the_mean_of_the_best_over_all_draws(scores: list[float], n: int) -> None:
    drawn = [max(draw) for draw in combinations(scores, min(n, len(scores)))]
    assert expected_best(scores, n) == pytest.approx(fmean(drawn), abs=1e-9)


@given(SCORES)
def test_more_answers_are_never_worse_and_one_is_the_mean(scores: list[float]) -> None:
    curve = [expected_best(scores, n) for n in range(1, len(scores) + 1)]
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(curve))
    assert curve[0] == pytest.approx(fmean(scores), abs=1e-9)
    assert curve[-1] == pytest.approx(max(scores))


def test_sixty_four_scores_do_not_overflow() -> None:
    assert expected_best([float(n) for n in range(64)], 16) == pytest.approx(65 * 16 / 17 - 1)


@pytest.mark.parametrize(("scores", "n"), [([], 1), ([1.0], 0)])
def test_nothing_has_no_best(scores: list[float], n: int) -> None:
    with pytest.raises(ValueError, match="is nothing"):
        expected_best(scores, n)
