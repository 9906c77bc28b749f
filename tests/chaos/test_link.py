"""The proxy breaks what it is told to break, and nothing else."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.chaos.link import Link

SOON = 0.3
"""Nothing came in so long: it was swallowed."""


class Echo:
    """A server that answers each line with itself in capitals, and counts."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.heard.append(line)
                writer.write(line.upper())
                await writer.drain()
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    made = Echo()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
def link(echo: Echo) -> Iterator[Link]:
    made = Link(("127.0.0.1", echo.port))
    yield made
    made.close()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def opened(link: Link) -> Streams:
    return await asyncio.open_connection("127.0.0.1", link.port)


async def said(streams: Streams, line: bytes) -> bytes:
    reader, writer = streams
    writer.write(line)
    return await asyncio.wait_for(reader.readline(), 10)


async def told(method: Any, *arguments: Any) -> Any:
    """A method of the link, without holding up this loop, which the echo server runs on."""
    return await asyncio.to_thread(method, *arguments)


async def test_everything_passes_both_ways(link: Link) -> None:
    streams = await opened(link)
    assert [await said(streams, line) for line in (b"one\n", b"two\n")] == [b"ONE\n", b"TWO\n"]
    large = b"x" * 60_000 + b"\n"
    assert await said(streams, large) == large.upper()


async def test_refused_connections_are_refused_and_open_ones_reset_until_it_opens_again(link: Link) -> None:
    streams = await opened(link)
    await said(streams, b"one\n")
    await told(link.refuse)
    with pytest.raises(ConnectionResetError):
        await said(streams, b"two\n")
    with pytest.raises(ConnectionRefusedError):
        await opened(link)
    await told(link.open)
    assert await said(await opened(link), b"three\n") == b"THREE\n"


async def test_a_cut_resets_open_connections_alone(link: Link) -> None:
    streams = await opened(link)
    await said(streams, b"one\n")
    assert await told(link.cut) == 1
    with pytest.raises(ConnectionResetError):
        await said(streams, b"two\n")
    assert await said(await opened(link), b"three\n") == b"THREE\n"


async def test_held_connections_stay_open_and_silent_even_after_it_opens(link: Link, echo: Echo) -> None:
    old = await opened(link)
    await said(old, b"one\n")
    await told(link.hold)
    new = await opened(link)
    for reader, writer in (old, new):
        writer.write(b"two\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), SOON)
    await told(link.open)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(old[0].readline(), SOON)
    assert await said(await opened(link), b"three\n") == b"THREE\n"
    assert echo.heard == [b"one\n", b"three\n"]


async def test_a_stall_holds_everything_back_and_loses_nothing(link: Link) -> None:
    reader, writer = await opened(link)
    await told(link.stall)
    writer.write(b"one\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readline(), SOON)
    await told(link.open)
    assert await asyncio.wait_for(reader.readline(), 10) == b"ONE\n"


async def test_a_request_that_matches_is_cut_before_the_server_sees_it(link: Link, echo: Echo) -> None:
    rule = link.cut_at(b"COMMIT")
    streams = await opened(link)
    assert await said(streams, b"select\n") == b"SELECT\n"
    with pytest.raises(ConnectionResetError):
        await said(streams, b"COMMIT\n")
    await rule.hit()
    assert await said(await opened(link), b"COMMIT\n") == b"COMMIT\n", "a rule strikes as often as it was told"
    assert echo.heard == [b"select\n", b"COMMIT\n"]


async def test_a_request_is_cut_after_so_many_bytes(link: Link, echo: Echo) -> None:
    link.cut_at(b"PUT", after_bytes=5)
    reader, writer = await opened(link)
    writer.write(b"PUT a\nbody\n")
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(20)
    assert echo.heard in ([], [b"PUT a"]), "the reset may overtake the bytes, but no more than five went through"


async def test_an_answer_is_cut_after_the_server_did_what_it_was_asked(link: Link, echo: Echo) -> None:
    link.cut_at(b"COMMIT", moment="answer")
    streams = await opened(link)
    with pytest.raises(ConnectionResetError):
        await said(streams, b"COMMIT\n")
    assert echo.heard == [b"COMMIT\n"]


async def test_an_action_stands_in_for_the_reset(link: Link) -> None:
    seen: list[str] = []
    link.cut_at(b"second", action=lambda: seen.append("now"))
    streams = await opened(link)
    await said(streams, b"first\n")
    assert seen == []
    assert await said(streams, b"second\n") == b"SECOND\n"
    assert seen == ["now"]


async def test_answers_can_be_changed_on_the_wire(link: Link) -> None:
    link.rewrite = lambda data: data.replace(b"ONE", b"TWO")
    assert await said(await opened(link), b"one\n") == b"TWO\n"
    await told(link.clear)
    assert await said(await opened(link), b"one\n") == b"ONE\n"


async def test_a_server_that_is_away_ends_the_connection(echo: Echo) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        link = Link(("127.0.0.1", unused.getsockname()[1]))
    reader, _ = await opened(link)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    await told(link.close)


async def test_what_a_client_says_can_be_changed_on_its_way(echo: Echo, link: Link) -> None:
    link.rewrite_request = lambda data: data.replace(b"one", b"two")
    streams = await opened(link)
    assert await said(streams, b"one\n") == b"TWO\n"
    link.clear()
    assert await said(streams, b"one\n") == b"ONE\n"
