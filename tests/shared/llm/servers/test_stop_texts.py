"""Stop texts are taken off whole answers and streams alike, however the text is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.llm.servers.stop_texts import StopHold, without_stop

STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)
PIECES = st.lists(st.text("ab\n", max_size=4), max_size=12)


@given(PIECES, STOPS, st.booleans())
def test_a_stream_says_what_the_whole_answer_says(pieces: list[str], stops: list[str], by_stop: bool) -> None:
    hold = StopHold(stops)
    shown = "".join(hold.push(piece) for piece in pieces) + hold.end(by_stop=by_stop)
    whole = "".join(pieces)
    assert shown == (without_stop(whole, stops) if by_stop else whole)


@given(PIECES, STOPS)
def test_no_more_is_held_than_may_become_a_stop_text(pieces: list[str], stops: list[str]) -> None:
    hold, said, shown = StopHold(stops), "", ""
    for piece in pieces:
        said += piece
        shown += hold.push(piece)
        held = said[len(shown) :]
        assert said.startswith(shown)
        assert not held or any(stop.startswith(held) for stop in stops)


@pytest.mark.parametrize(
    ("text", "stops", "left"),
    [
        ("a stop", ("stop",), "a "),
        ("a stop", ("op", "stop"), "a "),
        ("a", ("b",), "a"),
        ("a", (), "a"),
        ("b", ("b",), ""),
    ],
)
def test_the_longest_stop_text_at_the_end_goes(text: str, stops: tuple[str, ...], left: str) -> None:
    assert without_stop(text, stops) == left
