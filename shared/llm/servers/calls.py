"""What every call to a server goes through, whatever its kind: limits, time-outs, retries."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import TypeVar

import msgspec

from shared.chat_template.conversation import Message
from shared.llm.servers.errors import (
    GenerationIncomplete,
    ModelServerError,
    Overloaded,
    ServerTimedOut,
    ServerUnavailable,
)
from shared.llm.servers.patience import Patience
from shared.llm.servers.protocol import Generated, GenerationParameters, ModelServer, Piece, ServerAddress, ServerInfo
from shared.llm.transport import backoff_seconds

Answer = TypeVar("Answer")

_SMOOTHING = 0.1
"""How much of the mean duration of calls the latest one makes."""
_LONGEST_RETRY_AFTER = 60.0
_END_SECONDS = 1.0


class CallPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How calls to one server are made. All durations in seconds.

    Raises ValueError for a value that leaves no call possible.
    """

    connect_seconds: float = 10.0
    first_piece_seconds: float = 120.0
    """Of a stream: from sending a try to its first piece of text."""
    between_pieces_seconds: float = 60.0
    """Of a stream: from one piece to the next."""
    whole_seconds: float = 600.0
    """From the call to the end of its answer: waiting, all tries and pauses, all pieces."""
    probe_seconds: float = 10.0
    """For `info` and `health`, which wait for no place and are tried once."""
    tries: int = 3
    """Also of a stream, for as long as no piece of it has come."""
    backoff_seconds: float = 0.25
    """The pause before the n-th retry is drawn from 0 to this times 2**n, unless the server says how long to wait."""
    longest_backoff_seconds: float = 10.0
    maximum_in_flight: int = 64
    """Calls under way at one server."""
    maximum_waiting: int = 256
    """Calls that wait for a place, first come, first served; one more is Overloaded at once."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            least = 0 if name in {"maximum_waiting", "backoff_seconds", "longest_backoff_seconds"} else None
            if value < 0 or (least is None and value == 0):
                raise ValueError(
                    f"{name} of a call policy is {value}; set it {'to 0 or more' if least == 0 else 'above 0'}"
                )


class Places:
    """How many calls are under way at a server, and who waits for a place."""

    def __init__(self, server: str, maximum_in_flight: int, maximum_waiting: int) -> None:
        self._server = server
        self._limit = maximum_in_flight
        self._maximum_waiting = maximum_waiting
        self._queue: deque[asyncio.Future[None]] = deque()
        self._mean_seconds: float | None = None
        self._closed = False
        self.in_flight = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def enter(self, deadline: float) -> None:
        """Wait for a place; it is held until `leave`. `deadline`: on the loop's clock.

        Raises:
            Overloaded: too many wait already, or no place became free in time.
            ServerUnavailable: after `close`.
        """
        if self._closed:
            raise self._closed_error()
        if self.in_flight < self._limit and not self._queue:
            self.in_flight += 1
            return
        if len(self._queue) >= self._maximum_waiting:
            raise self.overloaded(f"{self.in_flight} calls are under way and {len(self._queue)} wait already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                try:
                    await turn
                except asyncio.CancelledError:
                    self._give_up(turn)
                    raise
        except TimeoutError:
            raise self.overloaded("none became free in the time that the call had") from None

    def leave(self, seconds: float) -> None:
        """Give the place to who waits longest. `seconds`: how long it was held."""
        mean = self._mean_seconds
        self._mean_seconds = seconds if mean is None else mean + _SMOOTHING * (seconds - mean)
        self._pass_on()

    def overloaded(self, why: str) -> Overloaded:
        """The error of a call that gets no place; it says when one should be free, by the mean duration of calls so far."""
        rounds = 1 + len(self._queue) / self._limit
        retry_after = min(max((self._mean_seconds or 1.0) * rounds, 1.0), _LONGEST_RETRY_AFTER)
        return Overloaded(f"{self._server} has no free place: {why}; try again later", retry_after=retry_after)

    def close(self) -> None:
        """Send away who waits and who comes; what is under way goes on."""
        self._closed = True
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(self._closed_error())

    def _closed_error(self) -> ServerUnavailable:
        return ServerUnavailable(f"{self._server} was closed here; open it again")

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        """Of a call that is cancelled or out of time: its turn may have come in the same moment."""
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self._pass_on()
        elif turn in self._queue:
            self._queue.remove(turn)

    def _pass_on(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.in_flight -= 1


class CalledServer:
    """A `ModelServer` whose calls keep a policy. It closes nothing that is the process's."""

    def __init__(self, server: ModelServer, policy: CallPolicy, name: str) -> None:
        """`name`: what messages call the server."""
        self._server = server
        self._policy = policy
        self._name = name
        self.places = Places(name, policy.maximum_in_flight, policy.maximum_waiting)

    @property
    def address(self) -> ServerAddress:
        return self._server.address

    async def generate(self, prompt: str, parameters: GenerationParameters) -> Generated:
        return await self._call(lambda: self._server.generate(prompt, parameters))

    def generate_stream(self, prompt: str, parameters: GenerationParameters) -> AsyncIterator[Piece]:
        return self._stream(lambda: self._server.generate_stream(prompt, parameters))

    async def chat(self, messages: Sequence[Message], parameters: GenerationParameters) -> Generated:
        return await self._call(lambda: self._server.chat(messages, parameters))

    def chat_stream(self, messages: Sequence[Message], parameters: GenerationParameters) -> AsyncIterator[Piece]:
        return self._stream(lambda: self._server.chat_stream(messages, parameters))

    async def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        return await self._call(lambda: self._server.score(conversations))

    async def info(self) -> ServerInfo:
        try:
            async with asyncio.timeout(self._policy.probe_seconds):
                return await self._server.info()
        except TimeoutError as error:
            raise self._timed_out("told of itself", self._policy.probe_seconds) from error

    async def health(self) -> None:
        """Raises ServerUnavailable and nothing else: whatever keeps a server from saying that it is well."""
        try:
            async with asyncio.timeout(self._policy.probe_seconds):
                await self._server.health()
        except ServerUnavailable:
            raise
        except ModelServerError as error:
            raise ServerUnavailable(str(error), status=error.status, retry_after=error.retry_after) from error
        except TimeoutError as error:
            said = self._timed_out("said that it is well", self._policy.probe_seconds)
            raise ServerUnavailable(str(said)) from error

    async def close(self) -> None:
        """Send waiting calls away; those under way go on to their end."""
        self.places.close()
        await self._server.close()

    async def _call(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._policy.whole_seconds
        await self.places.enter(deadline)
        since = loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                retry = 0
                while True:
                    try:
                        return await call()
                    except ModelServerError as error:
                        await self._pause(error, retry, deadline)
                    retry += 1
        except TimeoutError as error:
            raise self._timed_out("answered", self._policy.whole_seconds) from error
        finally:
            self.places.leave(loop.time() - since)

    async def _stream(self, start: Callable[[], AsyncIterator[Piece]]) -> AsyncGenerator[Piece]:
        policy = self._policy
        loop = asyncio.get_running_loop()
        deadline = loop.time() + policy.whole_seconds
        await self.places.enter(deadline)
        since = loop.time()
        patience = Patience(loop)

        async def following(pieces: AsyncIterator[Piece], seconds: float, what: str) -> Piece:
            due = loop.time() + seconds
            try:
                return await patience.wait(anext(pieces), min(due, deadline))
            except StopAsyncIteration:
                raise GenerationIncomplete(f"{self._name} ended its stream before the answer's end") from None
            except TimeoutError as error:
                if due > deadline:
                    raise self._timed_out("finished", policy.whole_seconds) from error
                raise self._timed_out(what, seconds) from error

        try:
            retry = 0
            while True:
                async with aclosing(_generator(start())) as pieces:
                    try:
                        piece = await following(pieces, policy.first_piece_seconds, "begun its answer")
                    except ModelServerError as error:
                        failure = error
                    else:
                        while piece.finish_reason is None:
                            yield piece
                            piece = await following(pieces, policy.between_pieces_seconds, "gone on")
                        yield piece
                        await _come_to_end(pieces)
                        return
                await self._pause(failure, retry, deadline)
                retry += 1
        finally:
            patience.close()
            self.places.leave(loop.time() - since)

    async def _pause(self, error: ModelServerError, retry: int, deadline: float) -> None:
        """Wait before the next try, or raise `error` where there is none, or none in time."""
        policy = self._policy
        if not error.passing or retry + 1 >= policy.tries:
            raise error
        seconds = error.retry_after
        if seconds is None:
            seconds = backoff_seconds(retry, policy.backoff_seconds, policy.longest_backoff_seconds)
        else:
            # Those who were told the same moment must not come back all at once.
            seconds += backoff_seconds(0, policy.backoff_seconds, policy.longest_backoff_seconds)
        if asyncio.get_running_loop().time() + seconds >= deadline:
            raise error
        await asyncio.sleep(seconds)

    def _timed_out(self, what: str, seconds: float) -> ServerTimedOut:
        return ServerTimedOut(f"{self._name} had not {what} within {seconds:g} s")


async def _come_to_end(pieces: AsyncGenerator[Piece]) -> None:
    """Let a stream whose last piece has come read the end of its body, so that its connection can be used again."""
    with suppress(TimeoutError, ModelServerError):
        async with asyncio.timeout(_END_SECONDS):
            await anext(pieces, None)


def _generator(pieces: AsyncIterator[Piece]) -> AsyncGenerator[Piece]:
    if not isinstance(pieces, AsyncGenerator):
        raise TypeError("a server's stream must be an async generator: it has to be closed")
    return pieces
