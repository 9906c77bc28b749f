"""Ringing: publish one message per dispatched step."""

import time
from collections.abc import Sequence

import structlog
from celery import Celery
from kombu.connection import Connection
from kombu.messaging import Producer

from shared.metadata.repositories.scheduling import DoorbellRow
from shared.queue.celery_app import RUN_STEP, create_app
from shared.telemetry.tracing import TRACEPARENT, current_trace, span

_log = structlog.get_logger(__name__)


class DoorbellPublisher:
    """Publishes doorbells to Redis. Not thread-safe; blocks, so call it in a thread."""

    def __init__(self, redis_url: str) -> None:
        self._app: Celery = create_app(redis_url, ())
        # Asked once: whoever publishes has other duties, and what is not published now is tried again with the next round.
        self._app.conf.broker_transport_options = {**self._app.conf.broker_transport_options, "max_retries": 0}
        self._connection: Connection | None = None
        self._producer: Producer | None = None

    def publish(self, doorbells: Sequence[DoorbellRow]) -> list[int]:
        """Ring in the given order; returns the outbox ids that were published. Stops at the first that fails: the rest
        stays in the outbox."""
        published: list[int] = []
        try:
            producer = self._open_producer()
            for doorbell in doorbells:
                self._ring(doorbell, producer)
                published.append(doorbell.id)
        except Exception as error:  # noqa: BLE001  every client error means the same: not published
            _log.warning("doorbells_not_published", error=type(error).__name__, left=len(doorbells) - len(published))
            self._drop()  # a broken connection must not be met again next time
        return published

    def _ring(self, doorbell: DoorbellRow, producer: Producer) -> None:
        # From when it was written: the span shows how long it waited in the outbox.
        started_at = time.time() - doorbell.waited_seconds
        with span(f"ring {doorbell.queue}", "producer", parent=doorbell.trace, started_at=started_at) as rung:
            rung.set({"multifacet.step_id": doorbell.step_id, "multifacet.dispatch_no": doorbell.dispatch_no})
            trace = current_trace() or doorbell.trace
            self._app.send_task(
                RUN_STEP,
                kwargs={"step_id": doorbell.step_id, "dispatch_no": doorbell.dispatch_no},
                queue=doorbell.queue,
                headers=None if trace is None else {TRACEPARENT: trace},
                producer=producer,
                retry=False,
                ignore_result=True,
            )

    def close(self) -> None:
        self._drop()
        self._app.close()

    def _open_producer(self) -> Producer:
        """On a connection of our own: the pools of kombu cannot be used again once a broken connection was thrown out of them."""
        if self._producer is None:
            self._connection = self._app.connection_for_write()
            self._producer = self._app.amqp.Producer(self._connection)
        return self._producer

    def _drop(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.collect()  # type: ignore[no-untyped-call]
