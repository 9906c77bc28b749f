"""The open calls of one step, and whether it may make more.

A call that is cut off is billed by the provider and never stored, so it would be paid for again. Whatever ends a step early
(a wait, a final error, a cancelled job) therefore stops new calls first, and lets the open ones be answered.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.domain.errors import StepDeferred, StepFailed


class StepCalls:
    """Shared by the teacher and the judge of one step. `stopping` says whether the step was asked to end."""

    def __init__(self, stopping: Callable[[], bool] = lambda: False) -> None:
        self._stopping = stopping
        self._ended: StepDeferred | StepFailed | None = None
        self._open = 0
        self._all_closed = asyncio.Event()

    def admit(self) -> None:
        """Raise what ended the step, if it ended: no new call may be made."""
        if self._ended is not None:
            raise self._ended
        if self._stopping():
            raise StepDeferred("the step was asked to stop", 0.0)

    @contextmanager
    def open_call(self) -> Iterator[None]:
        """Around a call from when it is sent until its answer was read."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._all_closed.set()

    async def wind_down(self, error: StepDeferred | StepFailed, seconds: float) -> None:
        """End the step by `error` and return when no call is open any more, at the latest after `seconds`."""
        if self._ended is None or (isinstance(error, StepFailed) and not isinstance(self._ended, StepFailed)):
            self._ended = error
        if self._open:
            self._all_closed.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._all_closed.wait()
            except TimeoutError:
                return
