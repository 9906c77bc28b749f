"""Hearing: a Celery worker in this process that hands every doorbell to a function and waits for it."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import structlog
from celery import Celery
from celery.concurrency.thread import TaskPool
from celery.worker import WorkController
from celery.worker import state as celery_state

from shared.queue.celery_app import RUN_STEP, create_app
from shared.telemetry.tracing import TRACEPARENT

_log = structlog.get_logger(__name__)

_RESTART_SECONDS = 1.0


class WakingThreadPool(TaskPool):  # type: ignore[misc]
    """Celery's thread pool, which also wakes Celery's event loop when a thread is done.

    Without prefetching the loop takes no message while all threads are busy, and by itself it looks again only once a
    second: every free slot would stay empty for half a second.

    `capacity`, to be set before the worker starts, tells how many of the threads may be busy now.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Celery looks a task up in the application that is current in the thread; there is no other in these.
        self.executor = ThreadPoolExecutor(self.limit, "doorbell", initializer=self.app.set_current)
        self.capacity: Callable[[], int] = lambda: self.limit
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)

    def register_with_event_loop(self, hub: Any) -> None:
        hub.add_reader(self._reader, self._drain)

    def on_apply(self, *arguments: Any, **options: Any) -> Any:
        result = super().on_apply(*arguments, **options)
        result.f.add_done_callback(self.wake)
        return result

    @property
    def num_processes(self) -> int:
        """Tasks at once. Celery reads it before every message it takes."""
        return min(int(self.limit), self.capacity())

    def on_stop(self) -> None:
        super().on_stop()
        for end in (self._writer, self._reader):
            with suppress(OSError):
                os.close(end)

    def wake(self, _: object = None) -> None:
        """Make the loop look again whether it may take a message; from any thread."""
        # A full pipe wakes the loop as well as a byte more; a closed one has no loop to wake.
        with suppress(OSError):
            os.write(self._writer, b".")

    def _drain(self, *_: object) -> None:
        with suppress(BlockingIOError):
            os.read(self._reader, 4096)


class DoorbellWorker:
    """Takes doorbells from the queues, at most `slots` at once, until `stop`.

    `capacity` tells how many of the slots may be used now; when it has grown, `look_again` makes the worker take more at once.
    `answer(step_id, dispatch_no, trace)` runs in a pool thread and returns when the step is done with; `trace` is the
    `traceparent` that came with the doorbell. `run` must be called in the main thread and returns after the answers that were
    under way have returned.
    """

    def __init__(
        self,
        redis_url: str,
        queues: Sequence[str],
        slots: int,
        name: str,
        answer: Callable[[str, int, str | None], None],
        capacity: Callable[[], int] | None = None,
    ) -> None:
        self._app: Celery = create_app(redis_url, queues)
        self._slots = slots
        self._name = name
        self._capacity = capacity or (lambda: slots)
        self._pool: WakingThreadPool | None = None
        self._stopping = threading.Event()

        def run_step(task: Any, step_id: str, dispatch_no: int) -> None:
            trace = (task.request.headers or {}).get(TRACEPARENT)
            answer(step_id, dispatch_no, trace if isinstance(trace, str) else None)

        self._app.task(run_step, bind=True, name=RUN_STEP, ignore_result=True, shared=False)
        self._app.finalize()
        # The broker's absence is told once by the consumer; Celery's own lines about every message are noise here.
        logging.getLogger("celery").setLevel(logging.WARNING)
        logging.getLogger("kombu").setLevel(logging.WARNING)

    def run(self) -> None:
        """Take doorbells until `stop`. A worker that Celery gave up on is started anew."""
        while not self._stopping.is_set():
            celery_state.should_stop = None
            celery_state.should_terminate = None
            worker = WorkController(
                app=self._app,
                hostname=self._name,
                pool=WakingThreadPool,
                concurrency=self._slots,
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
                loglevel=logging.WARNING,
            )
            self._pool = worker.pool
            worker.pool.capacity = self._capacity
            try:
                worker.start()
            except Exception as error:  # noqa: BLE001  whatever broke the consumer, doorbells must be heard again
                _log.warning("doorbell_consumer_ended", error=type(error).__name__)
            self._stopping.wait(_RESTART_SECONDS)

    def look_again(self) -> None:
        """The capacity has grown; from any thread."""
        if self._pool is not None:
            self._pool.wake()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Take no more doorbells; may be called from a signal handler or another thread."""
        self._stopping.set()
        celery_state.should_stop = 0
        self.look_again()  # its loop would else sleep for up to a second
