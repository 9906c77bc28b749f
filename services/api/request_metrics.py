"""Requests of this process by route: how many, how long, how they ended; and a span around each where traces are on."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.datastructures import Headers
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.telemetry.tracing import TRACEPARENT, current_trace, span, trace_id_of

REQUEST_SECONDS = Histogram(
    "multifacet_http_request_seconds",
    "Requests to the api until the last byte of the answer, of event streams until the first, by route and class of status",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)

NO_ROUTE = "none"
"""For paths that do not exist, and requests that were turned away before: what comes from outside is no label."""

_EVENT_STREAM = "text/event-stream"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def process_registry() -> CollectorRegistry:
    """What is counted in this process; in all processes of this api where they share a folder (prometheus_client's multi-process
    mode)."""
    if not os.environ.get(_FOLDER_VARIABLE):
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


@contextmanager
def counted_together() -> Iterator[None]:
    """Let processes that start inside count into one folder, which ends with the block; the operator's own folder is kept."""
    if os.environ.get(_FOLDER_VARIABLE):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="multifacet-metrics-") as folder:
        os.environ[_FOLDER_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[_FOLDER_VARIABLE]


class Observed:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._paths: dict[int, str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "other"
        started = time.perf_counter()
        status = 500
        first_byte: float | None = None

        async def watched(message: Message) -> None:
            nonlocal status, first_byte
            if message["type"] == "http.response.start":
                status = message["status"]
                if Headers(raw=message.get("headers", [])).get("content-type", "").startswith(_EVENT_STREAM):
                    first_byte = time.perf_counter()
            await send(message)

        with span(f"HTTP {method}", "server", parent=Headers(scope=scope).get(TRACEPARENT)) as observed:
            trace_id = trace_id_of(current_trace())
            try:
                with structlog.contextvars.bound_contextvars(**({} if trace_id is None else {"trace_id": trace_id})):
                    await self._app(scope, receive, watched)
            finally:
                route = self._route(scope)
                seconds = (first_byte or time.perf_counter()) - started
                REQUEST_SECONDS.labels(method, route, f"{status // 100}xx").observe(seconds)
                observed.rename(f"{method} {route}")
                observed.set({"http.request.method": method, "http.route": route, "http.response.status_code": status})
                if status >= 500:
                    observed.fail(str(status))

    def _route(self, scope: Scope) -> str:
        """The pattern that answered, such as `/v1/jobs/{job_id}`."""
        route = scope.get("route")
        if route is not None:
            return str(route.path)
        if self._paths is None:
            # Starlette's own routes do not tell themselves in the scope, only what answers for them.
            self._paths = {}
            for known in scope["app"].router.routes:
                if isinstance(known, Mount):
                    self._paths[id(known.app)] = f"{known.path}/{{path}}"
                elif isinstance(known, Route):
                    self._paths.setdefault(id(known.endpoint), known.path)
        return self._paths.get(id(scope.get("endpoint")), NO_ROUTE)
