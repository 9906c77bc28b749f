"""Views of a text: lines by role, words, sentences, the folded form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.prose import LineRole, fold, is_unspaced, read_lines, sentences, without_code, words


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("# Title\n\ntext", ["heading", "blank", "text"]),
        ("Title\n---\ntext", ["heading", "blank", "text"]),
        ("- a\n  more\n2) b", ["bullet", "text", "numbered"]),
        ("a | b\n--|--\n1 | 2\n\nend | x", ["table", "table", "table", "blank", "text"]),
        ("```py\n# no heading\n```\n#hash", ["code", "code", "code", "text"]),
        ("~~~\n```\n~~~\nx", ["code", "code", "code", "text"]),
        ("```\nnever closed", ["code", "code"]),
        ("-no bullet\n1.no item\n2024. A year", ["text", "text", "text"]),
        ("---", ["text"]),
    ],
)
def test_lines_have_roles(text: str, roles: list[str]) -> None:
    assert [line.role.value for line in read_lines(text)] == roles


@given(st.text(max_size=300))
def test_every_line_has_a_role(text: str) -> None:
    lines = read_lines(text)
    assert len(lines) == len(text.splitlines())
    assert all(isinstance(line.role, LineRole) for line in lines)


@given(st.text(max_size=300))
def test_sentences_hold_the_words_of_the_prose_and_no_more(text: str) -> None:
    assert sum(len(words(sentence)) for sentence in sentences(text)) <= len(words(" ".join(text.split())))


@given(st.text(max_size=200))
def test_fold_is_idempotent(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("なぜ？", "なぜ?"),
        ("Ｗｈｙ！", "why!"),
        ("ﬁne", "fine"),
        ("‘It’s’ “so”", "'it's' \"so\""),
        ("a\u3000\u00a0b", "a b"),
    ],
)
def test_fold_makes_forms_of_one_sign_equal(text: str, same: str) -> None:
    assert fold(text) == fold(same) == same


@pytest.mark.parametrize(("one", "other"), [("café", "cafe"), ("。", "."), ("?", "!"), ("か", "が")])
def test_fold_keeps_different_signs_apart(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_code_is_taken_out() -> None:
    assert without_code("Call `run()` now.\n```\nx = 1\n```\nDone.").split() == ["Call", "now.", "Done."]


def test_sentences_end_where_a_reader_would_stop() -> None:
    assert sentences("Dr. B. Hall paid 3.5 euros. Why? “Because!” he said… Fine.") == [
        "Dr. B. Hall paid 3.5 euros.",
        "Why?",
        "“Because!”",
        "he said…",
        "Fine.",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("今天很好", True), ("plain words", False), ("", False), ("한국어 문장", False), ("ภาษาไทย", True)],
)
def test_scripts_without_spaces(text: str, expected: bool) -> None:
    assert is_unspaced(text) is expected
