"""A worker process: `python -m shared.stages.worker --roles augmentation,composition` (or `--roles all`).

The main thread hears doorbells; each one is handed to the event loop in a thread of its own, which runs all steps of the
process. On SIGTERM the worker takes no more doorbells, gives running steps a grace, marks the rest preempted and leaves. When it
was told to drain, has been idle for long, or has run the one step it was started for, it finishes what runs and leaves by itself,
with exit status 0: whoever restarts failed processes lets it be.
"""

import argparse
import asyncio
import importlib
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import FrameType
from uuid import uuid4

import structlog
import uvloop

from shared.artifacts import open_store
from shared.domain.errors import InputRefused
from shared.domain.plan import SERVICES, StageKind
from shared.gpus import gpu_devices, gpu_host
from shared.llm.providers import load_providers
from shared.metadata.engine import create_engine, parse_url, session_factory
from shared.queue.doorbell_worker import DoorbellWorker
from shared.queue.lease import LeaseKeeper
from shared.settings import Settings, get_settings
from shared.settings.secrets import adopt_secret_files
from shared.settings.start_up import ended_in_words, starting
from shared.stages.gpus import Gpus
from shared.stages.protocol import RowStageHandler
from shared.stages.small_process import settle_after_imports, share_one_heap
from shared.stages.step_runner import Handler, StepRunner
from shared.stages.without_pandas import keep_pandas_out
from shared.telemetry.logs import configure_logging
from shared.telemetry.tracing import configure_tracing

_log = structlog.get_logger(__name__)

ROLES: tuple[str, ...] = SERVICES
"""Every service that runs steps: each has a queue and a `handlers.py`."""

_LOOK_SECONDS = 1.0
"""Between two looks whether this worker is idle; a short idle time is looked at more often."""

_ONCE_IDLE_SECONDS = 60.0
"""A worker for one step leaves without it after so long, where nothing else is set."""

_BLOCKING_THREADS = 32
"""For file and store access and for waiting on child processes."""


def parse_roles(text: str) -> tuple[str, ...]:
    """`all`, or role names with commas between. Raises InputRefused for a role that does not exist."""
    names = ROLES if text.strip() == "all" else tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = sorted(set(names) - set(ROLES))
    if unknown:
        raise InputRefused(f"unknown roles {', '.join(map(repr, unknown))}; choose from all, {', '.join(ROLES)}")
    return names


def load_handlers(roles: Sequence[str], modules: Mapping[str, str]) -> dict[StageKind, Handler]:
    """Import the handlers of the roles: `services.<role>.handlers`, or the module that `modules` names for a role.

    Raises InputRefused when two handlers claim one kind of stage.
    """
    handlers: dict[StageKind, Handler] = {}
    for role in roles:
        module = importlib.import_module(modules.get(role, f"services.{role}.handlers"))
        for handler in module.HANDLERS:
            if handler.kind in handlers:
                raise InputRefused(f"two handlers for stages of kind {handler.kind}, one of them in {module.__name__}")
            handlers[handler.kind] = handler
    return handlers


class Worker:
    """Everything of one worker process. With `once` it runs one step at most."""

    def __init__(
        self, settings: Settings, roles: Sequence[str], handlers: Mapping[StageKind, Handler], *, once: bool = False
    ) -> None:
        if once:
            idle = settings.worker_idle_seconds or _ONCE_IDLE_SECONDS
            settings = settings.model_copy(
                update={"worker_slots": 1, "worker_most_slots": 1, "worker_idle_seconds": idle, "pool_minimum": 0}
            )
        self._once = once
        self._ran_once = asyncio.Event()
        self._settings = settings
        self._roles = tuple(roles)
        self._handlers = handlers
        self.id = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        self._loop = uvloop.new_event_loop()
        self._ready = threading.Event()
        self._leaves = False
        self._serving: asyncio.Task[None]
        self._runner: StepRunner
        self._keeper: LeaseKeeper
        self._doorbells = DoorbellWorker(
            settings.redis_url,
            self._roles,
            max(settings.worker_slots, settings.worker_most_slots),
            self.id,
            self._answer_doorbell,
            lambda: self._runner.capacity.steps,
        )

    def run(self) -> None:
        """Work until SIGTERM or SIGINT. Call in the main thread."""
        settle_after_imports()
        thread = threading.Thread(target=self._run_loop, name="steps")
        thread.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)
        while not self._ready.wait(0.2) and thread.is_alive() and not self._doorbells.stopping:
            pass
        try:
            if self._ready.is_set():
                self._doorbells.run()
        finally:
            if thread.is_alive():
                self._loop.call_soon_threadsafe(self._serving.cancel)
            thread.join()
        _log.info("worker_ended", worker_id=self.id)

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_default_executor(ThreadPoolExecutor(_BLOCKING_THREADS, thread_name_prefix="blocking"))
        self._serving = self._loop.create_task(self._serve())
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serving)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())

    async def _serve(self) -> None:
        engine = create_engine(
            self._settings.database_url,
            pool_size=self._settings.worker_slots + 2,
            application_name="multifacet-worker",
            patience=self._settings.database_patience_seconds,
        )
        host, devices = gpu_host(self._settings), await asyncio.to_thread(self._devices)
        self._keeper = LeaseKeeper(self._settings, self.id, self._roles, (host, devices) if devices else None)
        sessions = session_factory(engine)
        self._runner = StepRunner(
            self._settings,
            self.id,
            sessions,
            open_store(self._settings),
            self._keeper,
            self._handlers,
            self._capacity_changed,
            Gpus(sessions, self._settings.lease_seconds, host, devices),
        )
        try:
            await self._keeper.start()
            self._ready.set()
            _log.info("worker_started", worker_id=self.id, roles=self._roles, slots=self._settings.worker_slots)
            await self._until_it_may_leave()
            self._doorbells.stop()
            await asyncio.Event().wait()  # until the main thread has seen the last answer and cancels
        finally:
            await self._keeper.close()
            await self._runner.close()
            await engine.dispose()

    async def _until_it_may_leave(self) -> None:
        """Until this worker was told to drain, ran its one step, or was idle for long enough and is not needed."""
        idle = self._settings.worker_idle_seconds
        look_seconds = _LOOK_SECONDS if idle is None else min(_LOOK_SECONDS, idle / 4)
        ask_at = 0.0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(look_seconds):
                    await self._keeper.told_to_leave.wait()
            reason = None
            if self._keeper.told_to_leave.is_set():
                reason = "told"
            elif self._once and self._ran_once.is_set():
                reason = "ran its step"
            elif (
                idle is not None
                and self._keeper.idle_seconds >= idle
                and not self._keeper.draining
                and time.monotonic() >= ask_at
            ):
                ask_at = time.monotonic() + idle / 4  # who is needed does not ask the database every second
                reason = "idle" if await self._keeper.may_leave(self._settings.pool_minimum) else None
            if reason is not None:
                _log.info("worker_drains", reason=reason, running=len(self._keeper.leases))
                self._keeper.drain()
                return

    def _devices(self) -> tuple[int, ...]:
        """The GPUs that trainings of this worker lease; other roles use none."""
        return gpu_devices(self._settings) if StageKind.TRAIN in self._handlers else ()

    def _answer_doorbell(self, step_id: str, dispatch_no: int, trace: str | None) -> None:
        """In a pool thread: hand the doorbell to the loop and wait until the step is done with."""
        asyncio.run_coroutine_threadsafe(self._answer(step_id, dispatch_no, trace), self._loop).result()

    async def _answer(self, step_id: str, dispatch_no: int, trace: str | None) -> None:
        if await self._runner.answer(step_id, dispatch_no, trace) and self._once:
            self._keeper.drain()  # at once: the next doorbell is another's
            self._ran_once.set()

    def _capacity_changed(self, steps: int) -> None:
        self._keeper.set_slots(steps)
        self._doorbells.look_again()

    def _leave(self, _number: int, _frame: FrameType | None) -> None:
        self._doorbells.stop()
        if self._ready.is_set():
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        """Ask running steps to end: rows under way may finish, a whole step may come to its end, within the grace."""
        if self._leaves:
            return
        self._leaves = True
        _log.info("worker_leaves", running=len(self._keeper.leases))
        self._keeper.preempt()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m shared.stages.worker", description="Run steps of jobs.")
    parser.add_argument("--roles", required=True, help=f"all, or names with commas between: {', '.join(ROLES)}")
    parser.add_argument(
        "--handlers",
        action="append",
        default=[],
        metavar="ROLE=MODULE",
        help="take a role's HANDLERS from another module than services.ROLE.handlers",
    )
    parser.add_argument("--once", action="store_true", help="run one step, then leave with exit status 0")
    given = parser.parse_args(arguments)
    keep_pandas_out()
    share_one_heap()
    with ended_in_words():
        with starting():
            settings = get_settings()
            configure_logging(settings, "worker")
            adopt_secret_files()
            configure_tracing(settings, "worker")
            parse_url(settings.database_url)
        try:
            roles = parse_roles(given.roles)
            modules = dict(_parse_pair(text) for text in given.handlers)
            handlers = load_handlers(roles, modules)
        except InputRefused as error:
            parser.error(str(error))
        if any(isinstance(handler, RowStageHandler) for handler in handlers.values()):
            load_providers(settings.providers_file)  # else every job would be refused for it, one after the other
        Worker(settings, roles, handlers, once=given.once).run()


def _parse_pair(text: str) -> tuple[str, str]:
    role, equals, module = text.partition("=")
    if not equals or role not in ROLES or not module:
        raise InputRefused(f"--handlers {text!r} is not ROLE=MODULE with a role of {', '.join(ROLES)}")
    return role, module


if __name__ == "__main__":
    main()
