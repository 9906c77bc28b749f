"""ROUGE-L: the formula, its bounds, its tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.similarity import rouge_l, rouge_l_tokens, word_tokens

_sentences = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "and", "ran"]), max_size=12).map(" ".join)


def _longest_common(a: list[str], b: list[str]) -> int:
    """The textbook recurrence, slow and plain."""
    if not a or not b:
        return 0
    row = [0] * (len(b) + 1)
    for token in a:
        new = [0]
        for position, other in enumerate(b):
            new.append(row[position] + 1 if token == other else max(row[position + 1], new[position]))
        row = new
    return row[-1]


@given(_sentences, _sentences)
def test_it_is_the_f_measure_of_the_longest_common_subsequence(a: str, b: str) -> None:
    x, y = a.split(), b.split()
    common = _longest_common(x, y)
    expected = 1.0 if a == b else 0.0
    if x and y:
        precision, recall = common / len(y), common / len(x)
        expected = 2 * precision * recall / (precision + recall) if common else 0.0
    assert rouge_l(a, b) == pytest.approx(expected)


@given(st.text(max_size=80), st.text(max_size=80))
def test_it_is_symmetric_and_between_zero_and_one(a: str, b: str) -> None:
    assert 0 <= rouge_l(a, b) == rouge_l(b, a) <= 1


@given(st.text(max_size=80))
def test_a_text_is_like_itself(text: str) -> None:
    assert rouge_l(text, text) == 1


def test_case_and_punctuation_do_not_count_but_order_does() -> None:
    assert rouge_l("Be brief, please!", "be BRIEF please") == 1
    assert rouge_l("one two three", "three two one") == pytest.approx(1 / 3)


def test_a_text_without_words_is_like_no_other() -> None:
    assert rouge_l("", "word") == rouge_l("!!", "??") == rouge_l_tokens([], []) == 0


def test_tokens_keep_every_script() -> None:
    assert word_tokens("Café DON'T 3x — 今天 über_all") == ["café", "don", "t", "3x", "今", "天", "über", "all"]
