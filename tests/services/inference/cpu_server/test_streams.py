"""Connections: clients that leave, that read slowly, and that wait long."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from services.inference.cpu_server.http.streams import ClientGone, EventStream, merged, unless_gone
from tests.support.model_server import RunningServer

CHAT = {"messages": [{"role": "user", "content": "Hello"}]}


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate_stream", {"inputs": "Hello", "parameters": {}}),
        ("/", {"inputs": "Hello", "stream": True, "parameters": {}}),
        ("/v1/chat/completions", {**CHAT, "stream": True, "temperature": 0}),
        ("/v1/completions", {"prompt": ["Hello", "You"], "stream": True, "temperature": 0}),
    ],
)
def test_a_client_that_leaves_a_stream_ends_its_sequence_before_the_next_token(
    server: RunningServer, path: str, body: dict[str, Any]
) -> None:
    server.engine.hang_after = 2
    cancelled = server.engine.counters.cancelled
    sequences = 2 if path == "/v1/completions" else 1
    with httpx2.stream("POST", f"{server.url}{path}", json=body) as response:
        lines = response.iter_lines()
        for _ in range(2):
            next(line for line in lines if line.startswith("data:"))
    _wait_until(lambda: server.engine.counters.cancelled == cancelled + sequences)
    assert server.engine.steps_after_close == 0
    _wait_until(lambda: server.service.permits == 8)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"inputs": "Hello", "parameters": {"best_of": 2, "do_sample": True}}),
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {"prompt": ["Hello", "You"]}),
    ],
)
def test_a_client_that_leaves_before_its_answer_ends_its_sequences(
    server: RunningServer, path: str, body: dict[str, Any]
) -> None:
    server.engine.hang_after = 2
    cancelled = server.engine.counters.cancelled
    sequences = 1 if path == "/v1/chat/completions" else 2
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{server.url}{path}", json=body, timeout=0.3)
    _wait_until(lambda: server.engine.counters.cancelled == cancelled + sequences)
    _wait_until(lambda: server.service.permits == 8)


class Connection:
    """What an ASGI server gives an application: what was sent, and when the client leaves."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.left = asyncio.Event()
        self.may_send = asyncio.Event()
        self.may_send.set()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.may_send.wait()
        self.sent.append(message.get("body", b""))


async def _released() -> None:
    pass


async def test_a_quiet_stream_is_kept_alive_by_comments() -> None:
    connection = Connection()
    come = asyncio.Event()

    async def events() -> AsyncIterator[bytes]:
        await come.wait()
        yield b"data: 1\n\n"

    stream = EventStream(events(), _released, keep_alive_seconds=0.02)
    sending = asyncio.create_task(stream({}, connection.receive, connection.send))
    while connection.sent.count(b":\n\n") < 2:
        await asyncio.sleep(0.005)
    come.set()
    await sending
    assert connection.sent[-2:] == [b"data: 1\n\n", b""]


async def test_no_event_is_asked_for_while_the_client_does_not_read() -> None:
    connection = Connection()
    asked = 0

    async def events() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield b"data: 1\n\n"
            if asked == 3:
                connection.may_send.clear()

    sending = asyncio.create_task(EventStream(events(), _released)({}, connection.receive, connection.send))
    for _ in range(50):
        await asyncio.sleep(0)
    assert asked == 4
    connection.left.set()
    await sending


async def test_what_a_stream_holds_is_released_also_where_the_client_left_before_the_first_event() -> None:
    connection = Connection()
    connection.left.set()
    connection.may_send.clear()
    released = []

    async def release() -> None:
        released.append(True)

    async def events() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"

    await EventStream(events(), release)({}, connection.receive, connection.send)
    assert released == [True]


async def test_work_is_cancelled_when_its_client_leaves() -> None:
    connection = Connection()
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            connection.left.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(ClientGone):
        await unless_gone(connection.receive, work())
    assert cancelled.is_set()


async def test_streams_are_merged_as_they_come_and_an_error_in_one_is_raised() -> None:
    async def events(names: str) -> AsyncIterator[bytes]:
        for name in names:
            await asyncio.sleep(0)
            if name == "!":
                raise ValueError("wrong")
            yield name.encode()

    assert sorted([data async for data in merged([events("abc"), events("xyz"), events("")])]) == list(
        map(str.encode, "abcxyz")
    )
    with pytest.raises(ValueError, match="wrong"):
        assert [data async for data in merged([events("ab"), events("!")])]
