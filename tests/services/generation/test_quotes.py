"""A quote is found whatever its case, spacing, marks of quotation and layout, and only if its words stand there in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.quotes import stands_in

TEXT = "Prune in **late winter**, when the branches\nare bare. It's what “old hands” do … every year."


@pytest.mark.parametrize(
    "quote",
    [
        "Prune in late winter",
        "prune IN late   winter, when the branches are bare.",
        '"the branches are bare"',
        "It’s what 'old hands' do",
        "Prune … are bare",
        "prune in late winter [...] every year.",
        "every year!",
    ],
)
def test_found(quote: str) -> None:
    assert stands_in(quote, TEXT)


@pytest.mark.parametrize(
    "quote", ["", " ", "…", "“”", ".", "early winter", "are bare … Prune", "winter late", "yearly"]
)
def test_not_found(quote: str) -> None:
    assert not stands_in(quote, TEXT)


def test_scripts_without_spaces() -> None:
    assert stands_in("「冬に剪定」", "木は冬に剪定してください。")
    assert not stands_in("夏に剪定", "木は冬に剪定してください。")


@given(st.lists(st.sampled_from(TEXT.split()), min_size=1, max_size=12), st.data())
def test_every_run_of_words_is_found(words: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    quote = " ".join(words[start:end])
    if any(map(str.isalnum, quote)):
        assert stands_in(quote.upper(), "  ".join(words))
