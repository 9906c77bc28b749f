"""Traces (OpenTelemetry), off unless an operator names a collector: then nothing is imported, and a span costs a function call.

A job's trace begins with the request that submitted it and goes on through the database and the doorbells to the worker and its
calls, as a W3C `traceparent` text. Spans carry ids, names, counts and classes of errors; never prompts, answers or the text of
an error.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal

from shared.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attribute = str | int | float | bool

TRACEPARENT = "traceparent"
"""Header of HTTP requests and doorbells (https://www.w3.org/TR/trace-context/)."""

_FLUSH_MILLISECONDS = 5000

_tracer: "Tracer | None" = None
_provider: "TracerProvider | None" = None


class SpanHandle:
    """An open span, or nothing where traces are off."""

    def __init__(self, span: "Span | None" = None) -> None:
        self._span = span

    def rename(self, name: str) -> None:
        if self._span is not None:
            self._span.update_name(name)

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Ids, names and counts. No text that a user or a model wrote."""
        if self._span is not None:
            self._span.set_attributes(attributes)

    def fail(self, error: str) -> None:
        """Mark it failed by the class of an error or a code, never by its text."""
        if self._span is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)


_NOTHING: AbstractContextManager[SpanHandle] = nullcontext(SpanHandle())


def configure_tracing(settings: Settings, service: str) -> None:
    """Send this process's spans to the collector that the settings name, as those of `multifacet-<service>`; without one, do
    nothing. What the exporter reads of the environment (headers, certificates) are OpenTelemetry's OTEL_EXPORTER_OTLP_*
    variables."""
    global _tracer, _provider
    if settings.otlp_endpoint is None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    # Whether a trace is kept is decided where it begins, and told to all who go on with it.
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.trace_share)),
        resource=Resource.create({"service.name": f"multifacet-{service}"}),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")))
    # Never OpenTelemetry's global one: libraries that find that one send spans of their own, with texts in them.
    _provider, _tracer = provider, provider.get_tracer("multifacet")


def close_tracing() -> None:
    """Send what is left and stop; also done when the process ends."""
    global _tracer, _provider
    if _provider is not None:
        _provider.force_flush(_FLUSH_MILLISECONDS)
        _provider.shutdown()
    _tracer = _provider = None


def span(
    name: str,
    kind: Kind = "internal",
    *,
    parent: str | None = None,
    started_at: float | None = None,
    attributes: Mapping[str, Attribute] | None = None,
) -> AbstractContextManager[SpanHandle]:
    """A span around a block, current inside it; an error that leaves the block marks it by its class.

    `parent` is a `traceparent`; without one (or with one that cannot be read) it is a part of the current span, or a trace of its
    own. `started_at` in seconds since the epoch, where it began earlier.
    """
    if _tracer is None:
        return _NOTHING
    return _open(_tracer, name, kind, parent, started_at, attributes)


@contextmanager
def _open(
    tracer: "Tracer",
    name: str,
    kind: Kind,
    parent: str | None,
    started_at: float | None,
    attributes: Mapping[str, Attribute] | None,
) -> Iterator[SpanHandle]:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = None if parent is None else TraceContextTextMapPropagator().extract({TRACEPARENT: parent})
    start = None if started_at is None else int(started_at * 1e9)
    with tracer.start_as_current_span(
        name,
        context,
        SpanKind[kind.upper()],
        attributes,
        start_time=start,
        record_exception=False,
        set_status_on_exception=False,
    ) as opened:
        handle = SpanHandle(opened)
        try:
            yield handle
        except Exception as error:
            handle.fail(type(error).__name__)
            raise


def current_span() -> SpanHandle:
    """The innermost open span."""
    if _tracer is None:
        return SpanHandle()
    from opentelemetry.trace import get_current_span

    return SpanHandle(get_current_span())


def current_trace() -> str | None:
    """`traceparent` of the innermost open span; None where there is none."""
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def trace_id_of(trace: str | None) -> str | None:
    """The trace's id in a `traceparent` that we wrote; None for anything else."""
    parts = (trace or "").split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else None
