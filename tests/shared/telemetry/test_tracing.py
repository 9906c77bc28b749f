"""Spans reach a collector with their parents and without texts; without a collector there are none, and nothing is loaded."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from shared.settings import Settings
from shared.telemetry.tracing import (
    close_tracing,
    configure_tracing,
    current_span,
    current_trace,
    span,
    trace_id_of,
)
from tests.support.collector import Collector, running_collector

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        configure_tracing(Settings(otlp_endpoint=running.address), "test")
        yield running
        close_tracing()


def test_spans_carry_their_parents_kinds_and_attributes(collector: Collector) -> None:
    with span("outer", "server", parent=PARENT, attributes={"a": 1}) as outer:
        outer.rename("renamed")
        outer.set({"b": "text"})
        inside = current_trace()
        with span("inner", "client"):
            current_span().set({"c": True})
    assert current_trace() is None
    close_tracing()
    inner, outermost = collector.spans
    assert (inner.name, outermost.name) == ("inner", "renamed")
    assert (inner.kind, outermost.kind) == (3, 2)  # client, server
    assert inner.trace_id == outermost.trace_id == trace_id_of(PARENT)
    assert outermost.parent_id == "b7ad6b7169203331"
    assert inner.parent_id == outermost.span_id
    assert inside == f"00-{outermost.trace_id}-{outermost.span_id}-01"
    assert outermost.attributes == {"a": 1, "b": "text"}
    assert inner.attributes == {"c": True}
    assert inner.service == "multifacet-test"


def test_an_error_is_told_by_its_class_alone(collector: Collector) -> None:
    with pytest.raises(ValueError, match="a private prompt"), span("fails"):
        raise ValueError("a private prompt")
    close_tracing()
    (failed,) = collector.spans
    assert (failed.failed, failed.attributes) == (True, {"error.type": "ValueError"})
    assert (failed.status_text, failed.events) == ("", 0)
    assert b"private" not in collector.bytes


def test_a_span_can_have_begun_before(collector: Collector) -> None:
    with span("late", started_at=1_700_000_000.5):
        pass
    close_tracing()
    assert collector.spans[0].started_at == 1_700_000_000_500_000_000


@pytest.mark.parametrize("parent", ["", "garbage", "00-0-0-01", PARENT[:-1], f"{PARENT}\r\nx: y"])
def test_a_parent_that_cannot_be_read_begins_a_trace_of_its_own(collector: Collector, parent: str) -> None:
    with span("alone", parent=parent):
        pass
    close_tracing()
    assert collector.spans[0].parent_id == ""


def test_a_trace_that_was_not_kept_where_it_began_is_kept_nowhere(collector: Collector) -> None:
    with span("not kept", parent=PARENT[:-1] + "0"):
        assert (current_trace() or "").endswith("-00"), "who goes on with it hears that"
    with span("kept"):
        pass
    close_tracing()
    assert [kept.name for kept in collector.spans] == ["kept"]


def test_a_share_of_none_keeps_none(collector: Collector) -> None:
    close_tracing()
    configure_tracing(Settings(otlp_endpoint=collector.address, trace_share=0), "test")
    with span("not kept"):
        pass
    close_tracing()
    assert collector.spans == []


def test_a_collector_that_is_away_holds_nobody_up() -> None:
    with running_collector() as gone:
        address = gone.address
    configure_tracing(Settings(otlp_endpoint=address), "test")
    began = time.monotonic()
    with span("lost"):
        pass
    close_tracing()
    # The exporter alone tries again for a minute.
    assert time.monotonic() - began < 30


def test_without_a_collector_there_is_no_span_and_nothing_of_the_sdk_is_loaded() -> None:
    program = """
import sys
from shared.settings import Settings
from shared.telemetry.tracing import configure_tracing, current_span, current_trace, span
configure_tracing(Settings(), "test")
with span("nothing", "server", parent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") as opened:
    opened.set({"a": 1}); opened.rename("b"); opened.fail("c"); current_span().set({"d": 2})
    assert current_trace() is None
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValidationError, match="http://host:4318"):
        Settings(otlp_endpoint="collector:4318")
    assert Settings(otlp_endpoint="").otlp_endpoint is None
    assert trace_id_of(None) is None
    assert trace_id_of("garbage") is None
