"""Server-sent events, cut anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.llm.servers.errors import GenerationFailed
from shared.llm.servers.events import EventParser

DATA = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\n"), max_size=30).map(str.encode)
NOISE = st.sampled_from([b"", b":", b": ping", b"event: x", b"id: 3", b"retry: 5", b"dat: x", b"data-: x"])


@st.composite
def streams_cut_anywhere(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """The events of a stream, and its bytes in chunks."""
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    events = draw(st.lists(st.lists(DATA, min_size=1, max_size=3), max_size=6))
    raw = b""
    for lines in events:
        raw += draw(NOISE) + end
        for line in lines:
            # One space after the colon is no part of the data; data that begins with one needs it.
            space = b" " if line.startswith(b" ") else draw(st.sampled_from([b"", b" "]))
            raw += b"data:" + space + line + end
        raw += end
    cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    chunks = [raw[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    return [b"\n".join(lines) for lines in events], chunks


@given(streams_cut_anywhere())
def test_events_are_the_same_wherever_a_stream_is_cut(made: tuple[list[bytes], list[bytes]]) -> None:
    events, chunks = made
    parser = EventParser()
    got = [event for chunk in chunks for event in parser.feed(chunk)]
    assert got + parser.end() == events


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_any_bytes_give_events_or_none_and_never_fail(chunks: list[bytes]) -> None:
    parser = EventParser()
    got = [event for chunk in chunks for event in parser.feed(chunk)] + parser.end()
    assert sum(map(len, got)) <= sum(map(len, chunks))


def test_an_event_comes_with_the_chunk_that_ends_it() -> None:
    parser = EventParser()
    assert parser.feed(b'data: {"a"') == []
    assert parser.feed(b": 1}\n") == []
    assert parser.feed(b"\ndata: [DONE]\n\n") == [b'{"a": 1}', b"[DONE]"]


@pytest.mark.parametrize("rest", [b"data: x", b"data: x\n", b"data: x\r\n"])
def test_a_last_event_without_its_empty_line_is_given_at_the_end(rest: bytes) -> None:
    parser = EventParser()
    assert parser.feed(rest) == []
    assert parser.end() == [b"x"]
    assert parser.end() == []


@pytest.mark.parametrize("chunk", [b"x" * 40, b"data: " + b"x" * 20 + b"\n"])
def test_an_event_longer_than_allowed_is_refused(chunk: bytes) -> None:
    parser = EventParser(longest_line=100)
    with pytest.raises(GenerationFailed, match="100 bytes"):
        [parser.feed(chunk) for _ in range(10)]


def test_many_events_are_not_one_long_event() -> None:
    parser = EventParser(longest_line=100)
    for _ in range(50):
        assert parser.feed(b"data: " + b"x" * 60 + b"\n\n") == [b"x" * 60]
