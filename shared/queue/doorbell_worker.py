"""Hearing: a Celery worker in this process that hands every doorbell to a function and waits for it."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog
from celery import Celery
from celery.concurrency.thread import TaskPool
from celery.worker import WorkController
from celery.worker import state as celery_state

from shared.queue.celery_app import RUN_STEP, create_app

_log = structlog.get_logger(__name__)

_RESTART_SECONDS = 1.0


class WakingThreadPool(TaskPool):  # type: ignore[misc]
    """Celery's thread pool, which also wakes Celery's event loop when a thread is done.

    Without prefetching the loop takes no message while all threads are busy, and by itself it looks again only once a
    second: every free slot would stay empty for half a second.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)

    def register_with_event_loop(self, hub: Any) -> None:
        hub.add_reader(self._reader, self._drain)

    def on_apply(self, *arguments: Any, **options: Any) -> Any:
        result = super().on_apply(*arguments, **options)
        result.f.add_done_callback(self._wake)
        return result

    def on_stop(self) -> None:
        super().on_stop()
        for end in (self._writer, self._reader):
            with suppress(OSError):
                os.close(end)

    def _wake(self, _: object) -> None:
        # A full pipe wakes the loop as well as a byte more; a closed one has no loop to wake.
        with suppress(OSError):
            os.write(self._writer, b".")

    def _drain(self, *_: object) -> None:
        with suppress(BlockingIOError):
            os.read(self._reader, 4096)


class DoorbellWorker:
    """Takes doorbells from the queues, at most `slots` at once, until `stop`.

    `answer(step_id, dispatch_no)` runs in a pool thread and returns when the step is done with. `run` must be called in the
    main thread and returns after the answers that were under way have returned.
    """

    def __init__(
        self, redis_url: str, queues: Sequence[str], slots: int, name: str, answer: Callable[[str, int], None]
    ) -> None:
        self._app: Celery = create_app(redis_url, queues)
        self._slots = slots
        self._name = name
        self._stopping = threading.Event()

        def run_step(step_id: str, dispatch_no: int) -> None:
            answer(step_id, dispatch_no)

        self._app.task(run_step, name=RUN_STEP, ignore_result=True)
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
            try:
                worker.start()
            except Exception as error:  # noqa: BLE001  whatever broke the consumer, doorbells must be heard again
                _log.warning("doorbell_consumer_ended", error=type(error).__name__)
            self._stopping.wait(_RESTART_SECONDS)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Take no more doorbells; may be called from a signal handler or another thread."""
        self._stopping.set()
        celery_state.should_stop = 0
