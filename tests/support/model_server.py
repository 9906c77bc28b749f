"""The CPU server around a scripted engine, on a real socket, in a thread of this process."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2

from services.inference.cpu_server.http.limits import Limits
from services.inference.cpu_server.http.metrics import Metrics
from services.inference.cpu_server.http.sequences import Service
from services.inference.cpu_server.http.texts import Texts
from services.inference.cpu_server.serving import listening_socket, serve
from tests.support.scripted_engine import ScriptedEngine

LIMITS = Limits(
    max_input_tokens=200, max_total_tokens=256, max_concurrent_requests=8, max_client_batch_size=3, payload_limit=20_000
)


@dataclass
class RunningServer:
    url: str
    engine: ScriptedEngine
    service: Service

    def post(self, path: str, body: object) -> httpx2.Response:
        return httpx2.post(f"{self.url}{path}", json=body, timeout=20)

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(f"{self.url}{path}", timeout=20)


@contextmanager
def serving(
    engine: ScriptedEngine, limits: Limits = LIMITS, *, load: Callable[[], Awaitable[None]] | None = None
) -> Iterator[RunningServer]:
    """A server that answers; with `load` it is given before that has returned, and may be loading still."""
    listener = listening_socket("127.0.0.1", 0)
    service = Service(engine, Texts(engine.tokenizer, limits.max_input_tokens), limits, "scripted", Metrics(limits))
    ready = threading.Event()
    loop = asyncio.new_event_loop()

    async def loaded() -> Service:
        if load is not None:
            await load()
        return service

    task = loop.create_task(serve(listener, loaded, grace_seconds=0, ready=ready.set))

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        if load is None:
            assert ready.wait(20)
        yield RunningServer(f"http://127.0.0.1:{listener.getsockname()[1]}", engine, service)
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(20)
        assert not thread.is_alive()
