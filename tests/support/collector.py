"""A stand-in for an OpenTelemetry collector: takes spans by OTLP over HTTP and keeps them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


class CollectedSpan(msgspec.Struct, frozen=True):
    """What a span told; `failed` where its status is an error, `status_text` the words of the status."""

    name: str
    kind: int
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool
    status_text: str
    events: int
    started_at: int
    ended_at: int


class Collector:
    """Spans in the order in which they came."""

    def __init__(self) -> None:
        self.address = ""
        self.spans: list[CollectedSpan] = []
        self.bytes = b""
        """All that was sent, as it was."""
        self._changed = threading.Condition()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._changed:
            self.bytes += body
            for resource in request.resource_spans:
                service = _values(resource.resource.attributes)["service.name"]
                for scope in resource.scope_spans:
                    self.spans += [_span(span, service) for span in scope.spans]
            self._changed.notify_all()

    def wait_for(self, enough: Callable[[list[CollectedSpan]], bool], seconds: float = 120) -> None:
        """Until the spans are enough. Raises TimeoutError with the names of those that came."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not enough(self.spans):
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"only these spans came: {[span.name for span in self.spans]}")


@contextmanager
def running_collector() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _span(span: Any, service: str) -> CollectedSpan:
    return CollectedSpan(
        name=span.name,
        kind=span.kind,
        service=service,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_values(span.attributes),
        failed=span.status.code == 2,
        status_text=span.status.message,
        events=len(span.events),
        started_at=span.start_time_unix_nano,
        ended_at=span.end_time_unix_nano,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value"))
