"""One process: the port first, then the model, then requests until SIGTERM."""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable
from types import FrameType

import structlog
import uvicorn

from services.inference.cpu_server.app import build_app
from services.inference.cpu_server.http.sequences import Service
from services.inference.cpu_server.lifecycle import Lifecycle

log = structlog.get_logger(__name__)

BACKLOG = 1024
KEEP_ALIVE_SECONDS = 75
"""Of idle connections: longer than clients' pools keep theirs, so that no request meets a closing one."""
LAST_WORDS_SECONDS = 2.0
"""For answers that are broken off to be told so."""


def listening_socket(hostname: str, port: int) -> socket.socket:
    """A socket that listens on the address: whoever connects waits from now on, and is not refused. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        hostname, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.set_inheritable(True)
    return listener


async def serve(
    listener: socket.socket,
    load: Callable[[], Awaitable[Service]],
    *,
    grace_seconds: float,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Answer on `listener` until SIGTERM or SIGINT: 503 until `load` has returned and `ready` was called.

    After the signal new requests get 503, those under way have `grace_seconds`, and what runs then is broken off. A second
    signal breaks off at once. Raises what `load` raises.
    """
    lifecycle = Lifecycle()
    server = _Server(
        uvicorn.Config(
            build_app(lifecycle),
            http="auto",
            ws="none",
            log_level="warning",
            lifespan="off",
            backlog=BACKLOG,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=1,
        )
    )
    loading = asyncio.create_task(_load(lifecycle, load, ready))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    told = asyncio.create_task(server.told_to_stop.wait())
    try:
        await asyncio.wait((loading, told, serving), return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            await asyncio.wait((told, serving), return_when=asyncio.FIRST_COMPLETED)
        await _finish(lifecycle, server, grace_seconds)
    finally:
        for task in (loading, told):
            task.cancel()
        server.should_exit = True
        await asyncio.gather(serving, loading, told, return_exceptions=True)
        if lifecycle.service is not None:
            await lifecycle.service.engine.close()


async def _load(lifecycle: Lifecycle, load: Callable[[], Awaitable[Service]], ready: Callable[[], None]) -> None:
    service = await load()
    service.closing = lifecycle.closing
    lifecycle.service = service
    ready()


async def _finish(lifecycle: Lifecycle, server: "_Server", grace_seconds: float) -> None:
    lifecycle.close()
    log.info("closing", grace_seconds=grace_seconds)
    idle = asyncio.create_task(lifecycle.wait_until_idle(grace_seconds))
    hurried = asyncio.create_task(server.told_to_hurry.wait())
    await asyncio.wait((idle, hurried), return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    idle.cancel()
    if not lifecycle.is_idle and lifecycle.service is not None:
        log.warning("answers_broken_off")
        await lifecycle.service.engine.close()
        await lifecycle.wait_until_idle(LAST_WORDS_SECONDS)


class _Server(uvicorn.Server):
    """Tells of signals instead of stopping at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.told_to_stop = asyncio.Event()
        self.told_to_hurry = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's form
        log.info("signal", name=signal.Signals(sig).name)
        event = self.told_to_hurry if self.told_to_stop.is_set() else self.told_to_stop
        self._loop.call_soon_threadsafe(event.set)
