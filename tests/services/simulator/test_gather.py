"""How the sentences of an answer are cut, merged and fitted to what it must begin and end with."""

import pytest

from services.simulator.demands import fold
from services.simulator.gather import Draft, pieces_of
from services.simulator.recipes import Recipe
from services.simulator.wanted import Placed
from shared.domain.checks import validate_check
from shared.domain.prose import sentences, words

RECIPE = Recipe(
    mix=(0, 1, 0), echoes=True, opening=True, short_words=False, topics=True, whole=True, scale=1.0, number=0
)


def draft(body: list[str], **limits: int | str) -> Draft:
    names = {"words": "maximum_sentence_words", "sentences": "sentence_count_at_most"}
    checks = [
        validate_check(names.get(name, name), {name if name in names else "phrase": value})
        for name, value in limits.items()
    ]
    made = Draft(fold(checks), RECIPE, foreign=False)
    made.body = body
    return made


@pytest.mark.parametrize("most", [1, 3, 4, 5])
def test_pieces_keep_all_words_and_each_ends_as_a_sentence(most: int) -> None:
    text = "En cas de doute, on demande conseil à quelqu'un qui voit à peu près le sujet."
    pieces = pieces_of(text, most)
    assert [word.lower() for piece in pieces for word in words(piece)] == [word.lower() for word in words(text)]
    assert all(len(words(piece)) <= most for piece in pieces)
    if most > 1:
        # No piece ends in a single letter, whose full stop would be that of an initial.
        assert len(sentences(" ".join(pieces))) == len(pieces)


def test_merged_question_keeps_its_mark_at_the_end() -> None:
    (merged,) = draft(["Start small.", "What comes first?", "Rest."], sentences=1).fitted(1, "; ")
    assert merged == "Start small; rest; what comes first?"


def test_merging_leaves_out_what_makes_a_sentence_too_long_but_never_what_is_demanded() -> None:
    made = draft(["One two three four.", "Five six."], words=6, sentences=1)
    made.place(Placed("By contrast, seven.", "middle"))
    (merged,) = made.fitted(1, "; ")
    assert "y contrast, seven" in merged
    assert len(words(merged)) <= 6


def test_first_sentence_leaves_room_for_the_demanded_beginning() -> None:
    made = draft(["One two three four five six.", "Seven eight."], words=7, starts_with="Dear reader")
    assert made.fitted(None, "; ")[0] == "Seven eight."


def test_sentences_stand_at_their_places() -> None:
    made = draft(["A b.", "C d.", "E f."])
    made.opening = ["O p."]
    for place, text in (("last", "L l."), ("middle", "M m."), ("first", "F f.")):
        made.place(Placed(text, place))  # type: ignore[arg-type]
    assert made.fitted(None, "; ") == ["O p.", "F f.", "A b.", "C d.", "M m.", "E f.", "L l."]
