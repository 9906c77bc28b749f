"""The thread that runs the model. Everything it says is handed to the event loop in one call per step."""

import asyncio
import ctypes
import logging
import threading
from collections.abc import Callable, Sequence

import torch

from services.inference.cpu_server.engine.batch import Batch
from services.inference.cpu_server.engine.language_model import RewardModel
from services.inference.cpu_server.engine.protocol import EngineFailed
from services.inference.cpu_server.engine.sequences import Item, Running

SCORED_TOKENS = 2048
"""Tokens of a forward pass of a reward model: sequences fill it one behind the other."""

_log = logging.getLogger(__name__)


class Scoring:
    """Sequences to score, and whom to tell."""

    def __init__(self, sequences: Sequence[Sequence[int]], future: "asyncio.Future[list[float]]") -> None:
        self.sequences = sequences
        self.future = future


class Worker:
    """Takes work from the event loop and gives results back to it. `batch` for a language model, `reward` for a reward model."""

    def __init__(self, batch: Batch | None, reward: RewardModel | None, threads: int) -> None:
        self._batch = batch
        self._reward = reward
        self._threads = threads
        self._wake = threading.Condition()
        self._incoming: list[Running | Scoring] = []
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Called on the event loop that is given the results."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def put(self, work: Running | Scoring) -> None:
        with self._wake:
            self._incoming.append(work)
            self._wake.notify()

    def close(self) -> None:
        """End the thread after the step under way. Blocks until then."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            while True:
                with self._wake:
                    while not self._incoming and not self._is_closing and (self._batch is None or self._batch.is_idle):
                        self._wake.wait()
                    incoming, self._incoming = self._incoming, []
                    is_closing = self._is_closing
                if is_closing:
                    self._end(incoming)
                    return
                self._work(incoming)

    def _work(self, incoming: Sequence[Running | Scoring]) -> None:
        for work in incoming:
            if isinstance(work, Scoring):
                self._score(work)
            elif self._batch is not None:
                self._batch.add(work)
        if self._batch is None or self._batch.is_idle:
            return
        try:
            results = self._batch.step()
        except Exception as error:  # noqa: BLE001
            # A fault of ours: nobody may wait for ever, and whoever comes next is served.
            _log.exception("a step failed")
            results = self._batch.end_all(f"the engine failed ({type(error).__name__})")
        self._tell(results)
        if self._batch.is_idle:
            give_memory_back()

    def _tell(self, results: Sequence[tuple[Running, list[Item]]]) -> None:
        if results:
            self._on_loop(lambda: _deliver(results))

    def _score(self, work: Scoring) -> None:
        assert self._reward is not None
        scores = [0.0] * len(work.sequences)
        # Sequences of about one length make passes of about one cost.
        order = sorted(range(len(work.sequences)), key=lambda place: len(work.sequences[place]))
        try:
            for places in _passes(order, work.sequences):
                if work.future.cancelled():
                    return
                found = self._reward.scores([work.sequences[place] for place in places])
                for place, score in zip(places, found, strict=True):
                    scores[place] = score
        except Exception as error:  # noqa: BLE001  as in a batch: the thread goes on
            failure = EngineFailed(f"the forward pass failed ({type(error).__name__}: {str(error)[:200]})")
            self._on_loop(lambda: _settle(work.future, failure))
            return
        self._on_loop(lambda: _settle(work.future, scores))

    def _end(self, incoming: Sequence[Running | Scoring]) -> None:
        message = "the engine was closed"
        for work in incoming:
            if isinstance(work, Scoring):
                future = work.future
                self._on_loop(lambda future=future: _settle(future, EngineFailed(message)))  # type: ignore[misc]
            elif self._batch is not None:
                self._batch.add(work)
        if self._batch is not None:
            self._tell(self._batch.end_all(message))

    def _on_loop(self, call: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop has ended, and with it everybody who could hear
            _log.debug("results came after the event loop had ended")


def _passes(order: Sequence[int], sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    passes: list[list[int]] = []
    room = 0
    for place in order:
        length = len(sequences[place])
        if not passes or length > room:
            passes.append([])
            room = SCORED_TOKENS
        passes[-1].append(place)
        room -= length
    return passes


def _deliver(results: Sequence[tuple[Running, list[Item]]]) -> None:
    for running, items in results:
        if running.receiver is not None:
            if running.prompt_tokens:
                running.receiver.receive_prompt(running.prompt_tokens)
                running.prompt_tokens = []
            running.receiver.receive(items)


def _settle(future: "asyncio.Future[list[float]]", result: list[float] | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def give_memory_back() -> None:
    """Let the C library return freed memory to the system, where it can (glibc): it keeps buffers of sizes that come and go."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except OSError:
        return None
