"""Equal instructions become equal strings, and nothing invisible goes along."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.curation.normalisation import normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("cafe\u0301", "café"),
        ("a  \n\n\n\n b\t\n", "a\n\n b"),
        ("ze\u200bro \u00adwidth\ufeff", "zero width"),
        ("\u202eevil\u202c \x00\x1b[31mred", "evil [31mred"),
        ("narrow\u202fno\u00a0break", "narrow no break"),
        ("    indented code", "indented code"),
        ("def f():\n    return 1", "def f():\n    return 1"),
        ("2 / 2Write a song", "Write a song"),
        ("3 / 4 of the cake", "3 / 4 of the cake"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("a\u200db", "ab"),
        ("👩\u200d🌾", "👩\u200d🌾"),
        ("\u200b \ufeff\n", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@given(st.text())
def test_the_result_is_canonical_and_can_be_encoded(text: str) -> None:
    result = normalise(text)
    assert unicodedata.is_normalized("NFC", result)
    assert result == result.strip()
    assert "\r" not in result
    result.encode("utf-8")
