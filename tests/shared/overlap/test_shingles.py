"""Hashes of words and word n-grams are those of the words, whatever the portions in which texts come."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.overlap.shingles import (
    FlatHashes,
    ngram_hashes,
    unique_per_text,
    word_hashes,
    words_and_signs_of,
    words_of,
)

SIGN = re.compile(r"[-+*/<>=^%#!&|¬±×÷\u2200-\u22ff]")
WORDS = st.lists(st.sampled_from(["a", "b", "c", "dd", "é", "東"]), max_size=12).map(" ".join)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't PANIC, x_1!", ["don", "t", "panic", "x_1"]),
        ("Größe: 3 m²", ["größe", "3", "m²"]),
        ("東京へ行く now", ["東", "京", "へ", "行", "く", "now"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_short_way_for_ascii_gives_the_same_words(text: str) -> None:
    assert words_of(text) == words_of(text + " é")[:-1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x^2 - 5x+6 = 0", "x ^ 2 - 5x + 6 = 0"),
        ("C++, C# & R&D", "c + + c # & r & d"),
        ("a->b, a != !b", "a - > b a ! = ! b"),
        ("5! and n! and (n)!", "5 ! and n ! and n !"),
        ("Hi! Wow!!! “Yes!” ¡Hola !", "hi wow yes hola"),
        ("10% | a-b | a/b | 1/2 | (-b)/2", "10 % | a - b | a / b | 1 / 2 | - b / 2"),
        ("well-known e-mail, 5-year, GPT-4, and/or, km/h", "well known e mail 5 year gpt 4 and or km h"),
        ("pre- and post-war - as a dash", "pre and post war as a dash"),
        ("# Title\n- one\n  * two\n> three", "title one two three"),
        ("6 − 2 ÷ 3 ≤ é", "6 - 2 ÷ 3 ≤ é"),
        ("東京 + 1 = へ", "東 京 + 1 = へ"),
        ("!!!", ""),
    ],
)
def test_signs_that_carry_meaning_are_words(text: str, words: str) -> None:
    assert words_and_signs_of(text) == words.split()


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_short_way_for_ascii_gives_the_same_signs(text: str) -> None:
    assert words_and_signs_of(text + " é")[:-1] == words_and_signs_of(text + " e")[:-1]


@given(st.text())
def test_without_its_signs_a_text_has_the_same_words(text: str) -> None:
    assert [word for word in words_and_signs_of(text) if not SIGN.fullmatch(word)] == words_of(text)


@given(st.lists(WORDS, max_size=8), st.integers(1, 5))
def test_ngrams_equal_exactly_where_their_words_do(texts: list[str], size: int) -> None:
    hashes = ngram_hashes(word_hashes(texts), size)
    assert len(hashes) == len(texts)
    by_words: dict[tuple[str, ...], set[int]] = {}
    for index, text in enumerate(texts):
        words = words_of(text)
        runs = [tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))] if words else []
        values = hashes.of(index).tolist()
        assert len(values) == len(runs)
        for run, value in zip(runs, values, strict=True):
            by_words.setdefault(run, set()).add(value)
    assert all(len(values) == 1 for values in by_words.values())
    assert len({min(values) for values in by_words.values()}) == len(by_words)


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=6))
def test_unique_per_text_is_a_sorted_set_each(rows: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    flat = FlatHashes(np.array([value for row in rows for value in row], dtype=np.uint64), offsets)
    result = unique_per_text(flat)
    assert [result.of(index).tolist() for index in range(len(rows))] == [sorted(set(row)) for row in rows]
