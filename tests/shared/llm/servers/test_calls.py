"""Retries, limits and time-outs: equal for every kind of server, so on a server that is a script."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from shared.chat_template.conversation import Message
from shared.llm.servers.calls import CalledServer, CallPolicy, Places
from shared.llm.servers.errors import (
    GenerationFailed,
    GenerationIncomplete,
    InvalidRequest,
    ModelServerError,
    Overloaded,
    ServerTimedOut,
    ServerUnavailable,
    Unauthorized,
)
from shared.llm.servers.protocol import (
    Generated,
    GenerationParameters,
    Piece,
    ServerAddress,
    ServerInfo,
    ServerKind,
    TokenUsage,
)

QUICK: dict[str, Any] = {"backoff_seconds": 0.001, "longest_backoff_seconds": 0.002, "whole_seconds": 20.0}
GREEDY = GenerationParameters()
ANSWER = Generated("yes", "stop", TokenUsage(1, 1))


class ScriptedServer:
    """Raises what stands in `failures`, one a call, then answers."""

    def __init__(self, *failures: Exception, before_piece: int = 0) -> None:
        self.failures = list(failures)
        self.before_piece = before_piece
        """A stream raises before this piece."""
        self.calls = 0
        self.closed_streams = 0
        self.running = 0
        self.most_running = 0
        self.go = asyncio.Event()
        self.go.set()

    @property
    def address(self) -> ServerAddress:
        return ServerAddress(ServerKind.CPU, "http://h", "m")

    async def generate(self, prompt: str, parameters: GenerationParameters) -> Generated:
        self.calls += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.go.wait()
            if self.failures:
                raise self.failures.pop(0)
            return ANSWER
        finally:
            self.running -= 1

    async def chat(self, messages: Sequence[Message], parameters: GenerationParameters) -> Generated:
        return await self.generate("", parameters)

    async def generate_stream(self, prompt: str, parameters: GenerationParameters) -> AsyncGenerator[Piece]:
        self.calls += 1
        try:
            failure = self.failures.pop(0) if self.failures else None
            for place, text in enumerate(["a", "b", "c"]):
                await self.go.wait()
                if failure is not None and place == self.before_piece:
                    raise failure
                yield Piece(text)
            yield Piece("", (), "stop", TokenUsage(1, 3))
        finally:
            self.closed_streams += 1

    def chat_stream(self, messages: Sequence[Message], parameters: GenerationParameters) -> AsyncGenerator[Piece]:
        return self.generate_stream("", parameters)

    async def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        await self.generate("", GREEDY)
        return [1.0]

    async def info(self) -> ServerInfo:
        await self.generate("", GREEDY)
        return ServerInfo("m")

    async def health(self) -> None:
        await self.generate("", GREEDY)

    async def close(self) -> None:
        return


def called(server: ScriptedServer, **policy: Any) -> CalledServer:
    return CalledServer(server, CallPolicy(**(QUICK | policy)), "the server")


async def collected(server: CalledServer) -> list[str]:
    return [piece.text async for piece in server.generate_stream("p", GREEDY)]


async def collect_into(got: list[str], pieces: AsyncIterator[Piece]) -> None:
    async for piece in pieces:
        got.append(piece.text)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


PASSING = [
    GenerationFailed("x"),
    Overloaded("x"),
    GenerationIncomplete("x"),
    ServerUnavailable("x"),
    ServerTimedOut("x"),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
async def test_errors_that_pass_are_tried_again(error: ModelServerError) -> None:
    server = ScriptedServer(error, error)
    assert await called(server).generate("p", GREEDY) == ANSWER
    assert server.calls == 3
    streamed = ScriptedServer(error, error)
    assert await collected(called(streamed)) == ["a", "b", "c", ""]
    assert streamed.closed_streams == streamed.calls == 3


@pytest.mark.parametrize("error", [InvalidRequest("x"), Unauthorized("x")], ids=lambda error: type(error).__name__)
async def test_errors_that_stay_are_raised_at_once(error: ModelServerError) -> None:
    server = ScriptedServer(error)
    with pytest.raises(type(error)):
        await called(server).generate("p", GREEDY)
    streamed = ScriptedServer(error)
    with pytest.raises(type(error)):
        await collected(called(streamed))
    assert server.calls == streamed.calls == 1


async def test_tries_end() -> None:
    server = ScriptedServer(*[Overloaded("x")] * 9)
    with pytest.raises(Overloaded):
        await called(server, tries=4).generate("p", GREEDY)
    assert server.calls == 4


async def test_a_stream_is_not_tried_again_once_a_piece_has_come() -> None:
    server = ScriptedServer(GenerationIncomplete("cut"), before_piece=1)
    got: list[str] = []
    with pytest.raises(GenerationIncomplete, match="cut"):
        await collect_into(got, called(server).generate_stream("p", GREEDY))
    assert (got, server.calls) == (["a"], 1)


async def test_the_time_a_server_asks_for_is_waited() -> None:
    server = ScriptedServer(Overloaded("x", retry_after=0.4))
    started = asyncio.get_running_loop().time()
    await called(server).generate("p", GREEDY)
    assert asyncio.get_running_loop().time() - started >= 0.4


async def test_a_wait_that_leaves_no_time_for_a_try_is_not_begun() -> None:
    server = ScriptedServer(Overloaded("x", retry_after=100.0))
    with pytest.raises(Overloaded) as caught:
        await asyncio.wait_for(called(server).generate("p", GREEDY), 5)
    assert caught.value.retry_after == 100.0
    assert server.calls == 1


async def test_no_more_calls_than_allowed_are_under_way_and_all_get_their_turn() -> None:
    server = ScriptedServer()
    server.go.clear()
    limited = called(server, maximum_in_flight=3, maximum_waiting=10)
    tasks = [asyncio.create_task(limited.generate("p", GREEDY)) for _ in range(10)]
    await until(lambda: server.running == 3)
    assert (limited.places.in_flight, limited.places.waiting) == (3, 7)
    server.go.set()
    assert await asyncio.gather(*tasks) == [ANSWER] * 10
    assert server.most_running == 3
    assert (limited.places.in_flight, limited.places.waiting) == (0, 0)


async def test_who_came_first_is_served_first() -> None:
    server = ScriptedServer()
    server.go.clear()
    limited = called(server, maximum_in_flight=1)
    order: list[int] = []

    async def call(number: int) -> None:
        await limited.generate("p", GREEDY)
        order.append(number)

    tasks = []
    for number in range(5):
        tasks.append(asyncio.create_task(call(number)))
        await asyncio.sleep(0)
    server.go.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


async def test_more_than_may_wait_are_sent_away_at_once_with_a_time() -> None:
    server = ScriptedServer()
    server.go.clear()
    limited = called(server, maximum_in_flight=1, maximum_waiting=1)
    tasks = [asyncio.create_task(limited.generate("p", GREEDY)) for _ in range(2)]
    await until(lambda: limited.places.waiting == 1)
    for call in (limited.generate("p", GREEDY), collected(limited)):
        with pytest.raises(Overloaded, match="no free place") as caught:
            await call
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 1.0
    server.go.set()
    await asyncio.gather(*tasks)
    assert server.calls == 2


async def test_a_call_that_waits_past_its_time_is_overloaded() -> None:
    server = ScriptedServer()
    server.go.clear()
    limited = called(server, maximum_in_flight=1, whole_seconds=0.2)
    first = asyncio.create_task(limited.generate("p", GREEDY))
    await until(lambda: server.running == 1)
    second = asyncio.create_task(limited.generate("p", GREEDY))
    with pytest.raises(ServerTimedOut):
        await first
    with pytest.raises((Overloaded, ServerTimedOut)):
        await second
    assert (limited.places.in_flight, limited.places.waiting) == (0, 0)


async def test_a_call_cancelled_while_it_waits_gives_its_turn_on() -> None:
    server = ScriptedServer()
    server.go.clear()
    limited = called(server, maximum_in_flight=1)
    tasks = [asyncio.create_task(limited.generate("p", GREEDY)) for _ in range(3)]
    await until(lambda: limited.places.waiting == 2)
    tasks[1].cancel()
    server.go.set()
    assert await tasks[0] == await tasks[2] == ANSWER


@pytest.mark.parametrize("cause", ["cancelled", "out of time"])
async def test_a_place_given_in_the_moment_its_caller_gives_up_is_not_lost(cause: str) -> None:
    loop = asyncio.get_running_loop()
    places = Places("the server", 1, 5)
    await places.enter(loop.time() + 5)
    deadline = loop.time() + (5 if cause == "cancelled" else 0.05)
    waiter = asyncio.create_task(places.enter(deadline))
    await until(lambda: places.waiting == 1)
    if cause == "cancelled":
        places.leave(0.1)
        waiter.cancel()
    else:
        # Its time-out fires and its turn comes before it runs again.
        loop.call_at(deadline, places.leave, 0.1)
        while loop.time() < deadline + 0.02:
            pass
    with pytest.raises((asyncio.CancelledError, Overloaded)):
        await waiter
    assert (places.in_flight, places.waiting) == (0, 0)


async def test_who_gave_up_waiting_takes_no_room_in_the_queue() -> None:
    loop = asyncio.get_running_loop()
    places = Places("the server", 1, 1)
    await places.enter(loop.time() + 5)
    for _ in range(3):
        with pytest.raises(Overloaded, match="in the time"):
            await places.enter(loop.time() + 0.01)
    assert places.waiting == 0


async def test_a_stream_holds_its_place_until_it_is_closed() -> None:
    server = ScriptedServer()
    limited = called(server, maximum_in_flight=1)
    async with aclosing(limited.generate_stream("p", GREEDY)) as pieces:  # type: ignore[type-var]
        assert (await anext(pieces)).text == "a"
        assert limited.places.in_flight == 1
    assert limited.places.in_flight == 0
    assert server.closed_streams == 1


async def test_a_stream_without_its_last_piece_is_incomplete() -> None:
    class Ends(ScriptedServer):
        async def generate_stream(self, prompt: str, parameters: GenerationParameters) -> AsyncGenerator[Piece]:
            yield Piece("a")

    with pytest.raises(GenerationIncomplete):
        await collected(called(Ends()))


async def test_info_and_health_wait_for_no_place_and_are_tried_once() -> None:
    server = ScriptedServer()
    server.go.clear()
    limited = called(server, maximum_in_flight=1, maximum_waiting=0, probe_seconds=0.1)
    busy = asyncio.create_task(limited.generate("p", GREEDY))
    await until(lambda: server.running == 1)
    with pytest.raises(ServerTimedOut):
        await limited.info()
    with pytest.raises(ServerUnavailable):
        await limited.health()
    server.go.set()
    await busy
    assert await limited.info() == ServerInfo("m")
    await limited.health()
    server.failures = [GenerationFailed("x"), GenerationFailed("x")]
    with pytest.raises(GenerationFailed):
        await limited.info()
    with pytest.raises(ServerUnavailable):
        await limited.health()


async def test_closing_sends_away_who_waits_and_who_comes_but_not_who_runs() -> None:
    server = ScriptedServer()
    server.go.clear()
    limited = called(server, maximum_in_flight=1)
    running = asyncio.create_task(limited.generate("p", GREEDY))
    await until(lambda: server.running == 1)
    waiting = asyncio.create_task(limited.generate("p", GREEDY))
    await until(lambda: limited.places.waiting == 1)
    await limited.close()
    for call in (waiting, limited.generate("p", GREEDY), collected(limited)):
        with pytest.raises(ServerUnavailable, match="closed"):
            await call
    server.go.set()
    assert await running == ANSWER


async def test_scores_are_called_as_answers_are() -> None:
    server = ScriptedServer(Overloaded("x"))
    assert await called(server).score([[{"role": "assistant", "content": "x"}]]) == [1.0]
    assert server.calls == 2


@pytest.mark.parametrize(
    "wrong", [{"tries": 0}, {"whole_seconds": 0.0}, {"maximum_waiting": -1}, {"maximum_in_flight": 0}]
)
def test_a_policy_that_leaves_no_call_possible_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CallPolicy(**wrong)
