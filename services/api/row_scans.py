"""A search through rows that goes on only while somebody wants it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np

from services.api.row_tables import Positions

KEEP_ON_SECONDS = 5.0
"""A scan nobody waits for goes on for so long: the next page of a search is probably asked for."""

Source = Callable[[int], Iterator[Positions]]
"""Matches in order, one array per unit of work (row group or file), after passing over so many units."""


class Scan:
    """Matches of one filter, found in order by one thread and awaited on the loop.

    A scan stops when nobody asked for it for a while, or when others wait for a thread and nobody waits for this one. It
    keeps what it found, and `run` takes it up again at the unit where it stopped.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._bell = asyncio.Event()
        self._lock = threading.Lock()
        self._pieces: list[Positions] = []
        self._count = 0
        self._units = 0
        self._waiting = 0
        self._wanted_at = time.monotonic()
        self._stopped = False
        self._error: Exception | None = None
        self.done = False
        self.task: asyncio.Task[None] | None = None

    @property
    def failed(self) -> bool:
        return self._error is not None

    @property
    def running(self) -> bool:
        return self.task is not None and not self.task.done()

    def run(self, source: Source, crowded: Callable[[], bool]) -> None:
        """Go on to the end, or until nobody wants this any more; called on a thread."""
        try:
            for piece in source(self._units):
                with self._lock:
                    self._units += 1
                    self._count += len(piece)
                    if len(piece):
                        self._pieces.append(piece)
                self._tell()
                idle = self._waiting == 0 and (crowded() or time.monotonic() - self._wanted_at > KEEP_ON_SECONDS)
                if idle or self._stopped:
                    return
            self.done = True
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self._error = error
        finally:
            self._tell()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._tell()

    def stop(self) -> None:
        self._stopped = True

    async def wait_for(self, count: int, seconds: float) -> tuple[Positions, int, bool]:
        """The matches so far, their number, and whether that is all: returns at `count` matches, at the end, or when the
        time is over. Raises what the scan raised."""
        deadline = time.monotonic() + seconds
        self._waiting += 1
        try:
            while True:
                bell = self._bell
                left = deadline - time.monotonic()
                if self.done or self.failed or self._count >= count or left <= 0:
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(bell.wait(), left)
        finally:
            self._waiting -= 1
            self._wanted_at = time.monotonic()
        if self._error is not None:
            raise self._error
        with self._lock:
            done = self.done
            if len(self._pieces) > 1:
                self._pieces = [np.concatenate(self._pieces)]
            return self._pieces[0] if self._pieces else np.empty(0, np.int64), self._count, done

    def _tell(self) -> None:
        with suppress(RuntimeError):  # the loop is gone: nobody waits
            self._loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        self._bell.set()
        self._bell = asyncio.Event()
