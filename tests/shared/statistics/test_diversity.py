"""How different texts are: by hand, and between all and nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.statistics.diversity import distinct_n, mean_pairwise_rouge_l

TEXTS = st.lists(st.text("ab ", max_size=12), max_size=6)


def test_distinct_n_by_hand() -> None:
    texts = ["The cat sat", "the cat ran off"]
    assert distinct_n(texts, 1) == pytest.approx(5 / 7)
    assert distinct_n(texts, 2) == pytest.approx(4 / 5)
    assert distinct_n(texts, 3) == pytest.approx(3 / 3)
    assert distinct_n(texts, 5) is None
    assert distinct_n([], 1) is None
    with pytest.raises(ValueError, match="n is 0"):
        distinct_n(texts, 0)


def test_n_grams_do_not_run_from_one_text_into_the_next() -> None:
    assert distinct_n(["a b", "b a"], 2) == 1.0
    assert distinct_n(["a", "b"], 2) is None


def test_mean_pairwise_rouge_l_by_hand() -> None:
    # 1 for the equal pair; two of three words in order for the other two.
    assert mean_pairwise_rouge_l(["a b c", "a b c", "a x c"]) == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert mean_pairwise_rouge_l(["alone"]) is None


@given(TEXTS, st.integers(1, 4))
def test_shares_lie_between_0_and_1_and_repeating_texts_adds_nothing_new(texts: list[str], n: int) -> None:
    found = distinct_n(texts, n)
    alike = mean_pairwise_rouge_l(texts)
    assert found is None or 0 < found <= 1
    assert alike is None or 0 <= alike <= 1
    if found is not None:
        assert distinct_n([*texts, *texts], n) == pytest.approx(found / 2)
