"""Server-sent events that end with their client: a closed connection stops the sequence before its next token."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.inference.cpu_server.http.replies import encode

KEEP_ALIVE_SECONDS = 15.0
"""After so long without an event a comment is sent, so that no proxy takes a prompt that is long to read for a dead server."""

_KEEP_ALIVE = b":\n\n"
DONE = b"data: [DONE]\n\n"

Result = TypeVar("Result")


class ClientGone(Exception):
    """The client closed the connection."""


def event(body: msgspec.Struct) -> bytes:
    """One event whose data is `body`."""
    return b"data: " + encode(body) + b"\n\n"


class EventStream(Response):
    """Sends events as they come. Where the client reads slowly, sending waits, and the next event is not asked for."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        release: Callable[[], Awaitable[None]],
        headers: Mapping[str, str] | None = None,
        *,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        """`release` is called once whatever happens, also where no event was asked for."""
        self.status_code = 200
        self.background = None
        self.body = b""
        self._events = events
        self._release = release
        self._keep_alive_seconds = keep_alive_seconds
        self._sent_at = 0.0
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no", **(headers or {})})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        try:
            with suppress(ClientGone):
                await unless_gone(receive, self._write(send))
        finally:
            await self._release()

    async def _write(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        self._sent_at = loop.time()
        keeping_alive = asyncio.create_task(self._keep_alive(send))
        try:
            async for data in self._events:
                await send({"type": "http.response.body", "body": data, "more_body": True})
                self._sent_at = loop.time()
        finally:
            keeping_alive.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _keep_alive(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        while True:
            quiet = loop.time() - self._sent_at
            if quiet >= self._keep_alive_seconds:
                await send({"type": "http.response.body", "body": _KEEP_ALIVE, "more_body": True})
                self._sent_at = loop.time()
                quiet = 0.0
            await asyncio.sleep(self._keep_alive_seconds - quiet)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled where the client closes the connection first: then raises ClientGone.

    The request's body must have been read.
    """
    working = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def merged(streams: list[AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
    """The events of several streams as they come; each stream is read on only when its event was taken."""
    if len(streams) == 1:
        async for data in streams[0]:
            yield data
        return
    waiting: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(maxsize=1)

    async def pour(stream: AsyncIterator[bytes]) -> None:
        try:
            async for data in stream:
                await waiting.put(data)
        except Exception as error:  # noqa: BLE001 - raised where the events are read
            await waiting.put(error)
        else:
            await waiting.put(None)

    tasks = [asyncio.create_task(pour(stream)) for stream in streams]
    try:
        running = len(tasks)
        while running:
            poured = await waiting.get()
            if isinstance(poured, Exception):
                raise poured
            if poured is None:
                running -= 1
            else:
                yield poured
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
