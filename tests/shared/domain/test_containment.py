"""The closest held-out text is found exactly, however many there are, and case and punctuation hide nothing."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.domain import containment as module
from shared.domain.containment import MINIMUM_GRAMS, HeldOutTexts, containment, grams_of

WORDS = (
    "prefers", "short", "answers", "that", "name", "their", "sources", "and", "leave",
    "no", "doubt", "over", "who", "said", "what", "in", "plain", "words",
)  # fmt: skip
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join)
TEXTS = st.one_of(SENTENCES, st.text(max_size=60))
LEAST = st.sampled_from([0.05, 0.3, 0.5, 0.6, 0.75, 0.9, 1.0])


def runs(text: str) -> set[str]:
    """The character 5-grams by the definition, where all letters are lower case and nothing but single spaces separates them."""
    return {text[place : place + 5] for place in range(len(text) - 4)}


@given(SENTENCES, SENTENCES)
def test_containment_is_the_share_of_the_held_out_texts_grams(held_out: str, text: str) -> None:
    expected = len(runs(held_out) & runs(text)) / len(runs(held_out)) if runs(held_out) else 0.0
    assert containment(grams_of(held_out), grams_of(text)) == pytest.approx(expected)


def brute_force(texts: list[str], least: float, text: str) -> tuple[float, set[str]] | None:
    """The highest containment of all texts that are long enough, and those that have it."""
    shares = {
        held_out: containment(grams, grams_of(text))
        for held_out in texts
        if len(grams := grams_of(held_out)) >= MINIMUM_GRAMS
    }
    if not shares or max(shares.values()) < least:
        return None
    return max(shares.values()), {held_out for held_out, share in shares.items() if share == max(shares.values())}


@pytest.mark.parametrize("few", [256, 0], ids=["all grams", "rarest grams"])
@given(texts=st.lists(TEXTS, max_size=12), least=LEAST, data=st.data())
@settings(max_examples=200, deadline=None)
def test_the_closest_is_that_of_comparing_with_every_text(
    few: int, texts: list[str], least: float, data: st.DataObject
) -> None:
    own = st.sampled_from(texts) if texts else st.just("")
    # Parts of held-out texts in a text of its own come near the bound from both sides.
    parts = st.builds(
        lambda held, start, size, rest: held[start:][:size] + " " + rest,
        own,
        st.integers(0, 40),
        st.integers(0, 90),
        TEXTS,
    )
    text = data.draw(st.one_of(parts, own, TEXTS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FEW_TEXTS", few)
        held_out = HeldOutTexts(texts, least)
    found, expected = held_out.closest(text), brute_force(texts, least, text)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found[1] == pytest.approx(expected[0])
        assert found[0] in expected[1]


def test_both_ways_agree_over_many_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(0)
    texts = [" ".join(generator.choices(WORDS, k=generator.randint(6, 16))) for _ in range(250)]
    few = HeldOutTexts(texts, 0.7)
    monkeypatch.setattr(module, "FEW_TEXTS", 0)
    many = HeldOutTexts(texts, 0.7)
    found = 0
    for _ in range(300):
        text = " ".join(generator.choices(WORDS, k=14))
        one, other = few.closest(text), many.closest(text)
        assert (one and one[1]) == (other and other[1])
        found += one is not None
    assert 20 < found < 280


HELD_OUT = "Wants every claim to name the source that it was taken from."


@given(
    st.lists(st.sampled_from([str.upper, str.lower, str.title, str.swapcase]), min_size=1),
    st.sampled_from([" ", "  ", " – ", "… ", "_", "\n\t", "/"]),
)
def test_case_punctuation_and_spacing_hide_nothing(changes: list[type[str]], separator: str) -> None:
    words = HELD_OUT.split()
    changed = separator.join(changes[place % len(changes)](word) for place, word in enumerate(words))
    assert HeldOutTexts([HELD_OUT], 1.0).closest(f"«{changed}»!") == (HELD_OUT, 1.0)
    assert HeldOutTexts([changed], 1.0).closest(HELD_OUT) == (changed, 1.0)


@given(TEXTS)
@example("STRASSE ß")
def test_a_text_has_the_grams_of_itself_in_other_signs(text: str) -> None:
    assert grams_of(f"… {text} !").tolist() == grams_of(text).tolist()
    assert grams_of(text.casefold()).tolist() == grams_of(text).tolist()


def test_the_same_words_in_another_order_are_found() -> None:
    text = "The source that every claim was taken from: it wants to name it, and no more is asked."
    found = HeldOutTexts(["Something else entirely, on how long an answer may be.", HELD_OUT], 0.6).closest(text)
    assert found is not None
    assert found[0] == HELD_OUT


@pytest.mark.parametrize("texts", [[], ["Short."], ["", "  ", "a b c"]])
def test_texts_too_short_to_say_anything_are_not_looked_for(texts: list[str]) -> None:
    held_out = HeldOutTexts(texts, 0.6)
    assert held_out.texts == ()
    assert held_out.closest("Short.") is None
    assert held_out.closest("") is None


def test_equal_texts_are_held_once() -> None:
    assert HeldOutTexts([HELD_OUT, HELD_OUT], 0.6).texts == (HELD_OUT,)


@pytest.mark.parametrize("few", [256, 0], ids=["all grams", "rarest grams"])
def test_a_text_exactly_at_the_bound_is_found_though_the_bound_is_no_binary_fraction(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.55 times 100 grams is a little over 55 in floating point. The 55 shared grams are the ones that another text has too, so
    that they are the last to be looked up."""
    signs = "".join(chr(0x4E00 + place) for place in range(104))
    shared = signs[:59]
    other = shared + "".join(chr(0x5E00 + place) for place in range(100))
    monkeypatch.setattr(module, "FEW_TEXTS", few)
    assert HeldOutTexts([signs, other], 0.55).closest(shared) == (signs, 0.55)
