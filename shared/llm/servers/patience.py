"""Time-outs of many short waits after one another, for a fraction of what `asyncio.timeout` costs each."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

Result = TypeVar("Result")


class Patience:
    """One timer for all waits of a stream. It is set when it fires or must fire earlier, not for every piece."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._due = 0.0
        self._ended = False

    async def wait(self, awaitable: Awaitable[Result], due: float) -> Result:
        """The result. Raises TimeoutError at `due` on the loop's clock; the awaitable is cancelled then.

        Waits must not overlap.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a task must do the waiting")
        cancelling = task.cancelling()
        self._due = due
        self._waiting = task
        if self._timer is None or due < self._timer.when():
            self._set(due)
        try:
            return await awaitable
        except asyncio.CancelledError as error:
            # As asyncio.timeout has it: a cancellation from outside in the same moment stays one.
            if self._ended and task.uncancel() <= cancelling:
                raise TimeoutError from error
            raise
        finally:
            self._waiting = None
            self._ended = False

    def close(self) -> None:
        """Take the timer away."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, due: float) -> None:
        self.close()
        self._timer = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        # Runs between two steps of the task, so a cancellation always reaches it within its wait.
        self._timer = None
        if self._waiting is None:
            return
        if self._loop.time() < self._due:
            self._set(self._due)
            return
        self._ended = True
        self._waiting.cancel()
