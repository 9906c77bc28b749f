"""POST /v1/chat/completions: a plain ASGI application, so that nothing stands between a piece of an answer and the client.

Nothing of a request or an answer is logged, and a request waits for the database only where nothing is remembered yet.
TCP_NODELAY is set on every connection by asyncio and uvloop themselves.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import structlog
from starlette.types import Receive, Send
from ulid import ULID

from services.api.gateway.asking import ChatCall, read_call
from services.api.gateway.buckets import RateLimiter
from services.api.gateway.directory import DeploymentDirectory
from services.api.gateway.errors import LiveError, error_body, of_server
from services.api.gateway.metering import Meter, seconds_to_tomorrow
from services.api.gateway.people import People, Person, with_person
from services.api.gateway.servers import ServerPool
from services.api.gateway.writing import ChunkWriter, error_event, whole
from shared.domain.deployments import ServingModel
from shared.domain.errors import InputRefused, StepFailed
from shared.llm.providers import Providers
from shared.llm.servers.addresses import address_of
from shared.llm.servers.errors import GenerationIncomplete, ModelServerError, PromptTooLong, ServerUnavailable
from shared.llm.servers.protocol import Generated, ModelServer, Piece, ServerAddress, TokenUsage
from shared.metadata.repositories.api_keys import KeyLimits
from shared.settings import Settings
from shared.telemetry.logs import error_place

log = structlog.get_logger(__name__)

_EVENTS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_JSON = [(b"content-type", b"application/json")]
_LAST_WORDS_SECONDS = 5.0
"""A client that does not read may hold an error up for so long; then its connection is closed."""

Begun = TypeVar("Begun")


class Asker(msgspec.Struct, frozen=True):
    """Who asks. Without `key_id` (the mode without keys) nothing is counted."""

    project_id: str
    key_id: str | None
    limits: KeyLimits


class _Lease(msgspec.Struct):
    """A server at work for one request."""

    serving: ServingModel
    address: ServerAddress
    server: ModelServer


class _Tally(msgspec.Struct):
    """What a request took so far, for its key."""

    reserved: int
    prompt_tokens: int
    """Estimated until the server tells."""
    completion_tokens: int = 0
    started: bool = False


class ChatEndpoint:
    """The route. `parts` are those of `services.api.gateway.gateway.Gateway`."""

    def __init__(
        self,
        *,
        settings: Settings,
        providers: Providers,
        directory: DeploymentDirectory,
        people: People,
        pool: ServerPool,
        limiter: RateLimiter,
        meter: Meter,
    ) -> None:
        self._settings = settings
        self._providers = providers
        self._directory = directory
        self._people = people
        self._pool = pool
        self._limiter = limiter
        self._meter = meter
        self._open = 0

    async def answer(self, asker: Asker, body: bytes, receive: Receive, send: Send) -> None:
        """Answer a request whose body is `body`; `receive` then tells when the client goes away, which ends the call to the
        model server at once."""
        exchange = _Exchange(send)
        work = asyncio.ensure_future(self._work(asker, body, exchange))
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not work.done() and not exchange.ended:
                work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _work(self, asker: Asker, body: bytes, exchange: "_Exchange") -> None:
        try:
            async with asyncio.timeout(self._settings.live_request_seconds):
                await self._serve(asker, body, exchange)
        except LiveError as error:
            await exchange.fail(error)
        except TimeoutError:
            seconds = self._settings.live_request_seconds
            text = f"The answer took longer than the {seconds:g} seconds that a request has (MULTIFACET_LIVE_REQUEST_SECONDS)."
            await exchange.fail(LiveError(504, "request_timed_out", text))
        except Exception as error:  # noqa: BLE001  # the client must get an end, whatever happened
            log.error("live_request_failed", request=exchange.identifier, error=error_place(error))
            await exchange.fail(
                LiveError(500, "internal_error", "The server failed at this request; its log says why.")
            )

    async def _serve(self, asker: Asker, body: bytes, exchange: "_Exchange") -> None:
        settings = self._settings
        call = read_call(
            body,
            most_characters=settings.live_prompt_characters,
            most_answer_tokens=settings.live_answer_tokens,
        )
        serving = await self._directory.require(asker.project_id, call.model)
        person = await self._people.person_of(asker.project_id, call)
        if person is not None:
            call = msgspec.structs.replace(call, messages=with_person(call.messages, person))
        if self._open >= settings.live_open_requests:
            raise LiveError(
                503,
                "overloaded",
                f"This server answers {settings.live_open_requests} requests now, which is as many as it takes "
                "(MULTIFACET_LIVE_OPEN_REQUESTS); try again later.",
                headers={"retry-after": "1"},
            )
        self._open += 1
        try:
            tally = await self._admit(asker, call, exchange)
            try:
                if call.stream:
                    await self._stream(asker, serving, call, person, exchange, tally)
                else:
                    await self._whole(asker, serving, call, person, exchange, tally)
            finally:
                self._count(asker, tally)
        finally:
            self._open -= 1

    async def _admit(self, asker: Asker, call: ChatCall, exchange: "_Exchange") -> _Tally:
        """Hold the key to its limits. Raises LiveError (429)."""
        prompt = call.estimated_prompt_tokens
        reserved = prompt + (call.answer_tokens or 0)
        limits = asker.limits
        if asker.key_id is None:
            return _Tally(reserved, prompt)
        if limits.tokens_per_day is not None:
            used = await self._meter.tokens_today(asker.key_id)
            if used >= limits.tokens_per_day:
                raise LiveError(
                    429,
                    "insufficient_quota",
                    f"This key has used {used:,} of its {limits.tokens_per_day:,} tokens of this day (UTC).",
                    kind="insufficient_quota",
                    headers={"retry-after": str(math.ceil(seconds_to_tomorrow())), "x-should-retry": "false"},
                )
        if limits.requests_per_minute is not None or limits.tokens_per_minute is not None:
            standing = await self._limiter.take(asker.key_id, limits, reserved)
            exchange.headers += standing.headers()
            if not standing.granted:
                wait = standing.retry_after
                raise LiveError(
                    429,
                    "rate_limit_exceeded",
                    f"This key's limits ({_limits_text(limits)}) do not allow this request now; it needs about {reserved:,} "
                    f"tokens. Try again in {wait:.1f} seconds.",
                    headers={"retry-after": str(max(1, math.ceil(wait)))},
                )
        return _Tally(reserved, prompt)

    def _count(self, asker: Asker, tally: _Tally) -> None:
        if asker.key_id is None:
            return
        prompt = tally.prompt_tokens if tally.started else 0
        used = prompt + tally.completion_tokens
        self._meter.add(asker.key_id, asker.project_id, prompt_tokens=prompt, completion_tokens=tally.completion_tokens)
        self._limiter.settle(asker.key_id, asker.limits, tally.reserved, used)

    async def _stream(
        self,
        asker: Asker,
        serving: ServingModel,
        call: ChatCall,
        person: Person | None,
        exchange: "_Exchange",
        tally: _Tally,
    ) -> None:
        async def begin(server: ModelServer, call: ChatCall) -> tuple[AsyncIterator[Piece], Piece]:
            pieces = server.chat_stream(call.messages, call.parameters)
            try:
                return pieces, await anext(pieces)
            except StopAsyncIteration:
                raise GenerationIncomplete("the server ended the answer before it began") from None
            except BaseException:
                await _end(pieces)
                raise

        lease, (pieces, piece) = await self._start(asker, serving, call, begin)
        try:
            tally.started = True
            writer = ChunkWriter(
                exchange.identifier,
                exchange.created,
                call.model,
                _provenance(lease.serving, person, call),
                logprobs=call.parameters.log_probabilities,
                include_usage=call.include_usage,
            )
            beginning = writer.start()
            while True:
                tally.completion_tokens += max(1, len(piece.tokens)) if piece.text or piece.tokens else 0
                chunk = beginning + writer.piece(piece)
                beginning = b""
                if piece.finish_reason is not None:
                    usage = piece.usage or TokenUsage(tally.prompt_tokens, tally.completion_tokens)
                    tally.prompt_tokens, tally.completion_tokens = usage.prompt_tokens, usage.completion_tokens
                    await exchange.write(chunk + writer.end(piece.finish_reason, usage), last=True)
                    await anext(pieces, None)  # to its end, so that the connection to the server can be used again
                    return
                if chunk:
                    await exchange.write(chunk)
                piece = await anext(pieces)
        except StopAsyncIteration:
            error = GenerationIncomplete("the server ended the answer without saying why")
            raise _told(error, lease.serving) from None
        except ModelServerError as error:
            raise _told(error, lease.serving) from None
        finally:
            await _end(pieces)
            self._pool.give_back(lease.address)

    async def _whole(
        self,
        asker: Asker,
        serving: ServingModel,
        call: ChatCall,
        person: Person | None,
        exchange: "_Exchange",
        tally: _Tally,
    ) -> None:
        async def ask(server: ModelServer, call: ChatCall) -> Generated:
            return await server.chat(call.messages, call.parameters)

        lease, generated = await self._start(asker, serving, call, ask)
        self._pool.give_back(lease.address)
        tally.started = True
        tally.prompt_tokens = generated.usage.prompt_tokens
        tally.completion_tokens = generated.usage.completion_tokens
        extra = _provenance(lease.serving, person, call)
        logprobs = call.parameters.log_probabilities
        body = whole(exchange.identifier, exchange.created, call.model, extra, generated, logprobs=logprobs)
        await exchange.answer(200, body)

    async def _start(
        self,
        asker: Asker,
        serving: ServingModel,
        call: ChatCall,
        begin: Callable[[ModelServer, ChatCall], Awaitable[Begun]],
    ) -> tuple[_Lease, Begun]:
        """Begin at the server of the deployment that `call` names; whoever gets the lease gives it back.

        A server that is gone is looked up anew, and asked once more: nothing has been sent to the client yet.
        """
        most = self._settings.live_answer_tokens
        asked_again = lowered = False
        while True:
            lease = await self._lease(serving)
            try:
                return lease, await begin(lease.server, _bounded(call, serving, most))
            except BaseException as error:
                self._pool.give_back(lease.address)
                if isinstance(error, PromptTooLong) and not lowered and call.answer_tokens is None:
                    # The limit of tokens was ours, not the client's: what fits is enough.
                    by = error.by_tokens or most
                    if by < most:
                        most, lowered = most - by, True
                        continue
                if isinstance(error, ServerUnavailable | GenerationIncomplete) and not asked_again:
                    asked_again = True
                    deployments = await self._directory.after(time.monotonic())
                    serving = deployments.require(asker.project_id, call.model)
                    continue
                if isinstance(error, ModelServerError):
                    raise _told(error, serving) from None
                raise

    async def _lease(self, serving: ServingModel) -> _Lease:
        try:
            address = address_of(serving, self._providers)
        except (InputRefused, StepFailed) as error:
            log.error("deployment_cannot_be_called", deployment=serving.deployment_id, error=error.code)
            text = f"The deployment {serving.name!r} cannot be called as this server is set up; tell the operator."
            raise LiveError(502, "not_configured", text, headers={"x-should-retry": "false"}) from None
        return _Lease(serving, address, await self._pool.take(address))


class _Exchange:
    """The answer to one request: either a whole one or a stream, with an error in its place or at its end."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._started = False
        self.ended = False
        self.identifier = f"chatcmpl-{str(ULID()).lower()}"
        self.created = int(time.time())
        self.headers: list[tuple[bytes, bytes]] = [(b"x-request-id", self.identifier.encode())]

    async def answer(self, status: int, body: bytes) -> None:
        """A whole answer."""
        headers = [*_JSON, *self.headers, (b"content-length", b"%d" % len(body))]
        self._started = self.ended = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def write(self, chunk: bytes, *, last: bool = False) -> None:
        """A part of a stream."""
        if not self._started:
            self._started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": [*_EVENTS, *self.headers]})
        self.ended = last
        await self._send({"type": "http.response.body", "body": chunk, "more_body": not last})

    async def fail(self, error: LiveError) -> None:
        """An error answer; in the middle of a stream its last event. A client that reads nothing any more is left alone."""
        if self.ended:
            return
        body = error_body(error.message, error.kind, error.param, error.code)
        if not self._started:
            self.headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
            await self.answer(error.status, body)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await self.write(error_event(body), last=True)


def _bounded(call: ChatCall, serving: ServingModel, most: int) -> ChatCall:
    """The call with its limit of tokens. Where the client gave none and the server's own is not above ours, the server's
    holds: it fills what the prompt leaves."""
    wanted = call.answer_tokens
    total = serving.maximum_total_tokens
    if wanted is None and (total is None or total > most):
        wanted = most
    return msgspec.structs.replace(call, parameters=msgspec.structs.replace(call.parameters, max_new_tokens=wanted))


def _provenance(serving: ServingModel, person: Person | None, call: ChatCall) -> dict[str, Any]:
    """The field `multifacet` of an answer."""
    return {
        "system": None if person is None else call.messages[0]["content"],
        "profile": None if person is None else person.profile,
        "answered_by": serving.answered_by,
        "deployment": serving.deployment_id,
        "revision": serving.revision,
    }


def _told(error: ModelServerError, serving: ServingModel) -> LiveError:
    told = of_server(error, serving.name)
    if told.status >= 500:
        log.warning(
            "live_call_failed", deployment=serving.deployment_id, error=type(error).__name__, status=error.status
        )
    return told


def _limits_text(limits: KeyLimits) -> str:
    shown = (("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute))
    return ", ".join(f"{most:,} {name} per minute" for name, most in shown if most is not None)


async def _end(pieces: AsyncIterator[Piece]) -> None:
    """Close the connection of a stream, upon which its server stops generating."""
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
