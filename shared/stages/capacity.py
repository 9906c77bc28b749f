"""How many steps a worker takes at once: a few always, more while its LLM calls would otherwise run dry."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LEAD_SECONDS = 0.25
"""From asking for a step to its first call: the controller's round, the doorbell, the claim and the reading of the part."""

_LOOK_SECONDS = 0.05
"""Longer than a fresh step's calls take to the gate: those look-ups share a SELECT for at most 20 ms."""


class Capacity:
    """The number of steps of one worker process, on its event loop; `steps` may be read from any thread.

    `least` steps are always taken. One more is, up to `most`, whenever the steps that run will soon not use what the provider
    takes: all their rows are under way, and the calls that wait to be sent are sent within `LEAD_SECONDS`. Rows that pause
    before a retry, or that a slow answer holds up, then cost nothing but their own time. Steps are not taken earlier than
    that, because another worker may be free for them.

    `queue_seconds` tells how long the waiting LLM calls keep the provider busy; `changed` is told the new number.
    """

    def __init__(
        self, least: int, most: int, queue_seconds: Callable[[], float], changed: Callable[[int], None]
    ) -> None:
        self._least = least
        self._most = max(least, most)
        self._queue_seconds = queue_seconds
        self._changed = changed
        self._running = 0
        self._with_rows_left = 0
        self._timer: asyncio.TimerHandle | None = None
        self.steps = least

    @contextmanager
    def step(self) -> "Iterator[StepLoad]":
        """A step that runs."""
        load = StepLoad(self)
        self._running += 1
        self._with_rows_left += 1
        try:
            yield load
        finally:
            self._running -= 1
            self.rows_started(load)
            self._set(max(self._least, min(self.steps, self._running)))

    def rows_started(self, load: "StepLoad") -> None:
        if load.rows_left:
            load.rows_left = False
            self._with_rows_left -= 1
        self._look_soon()

    def _look_soon(self) -> None:
        if self._timer is None and self._running and self._with_rows_left == 0 and self.steps < self._most:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._with_rows_left == 0 and self._running >= self.steps and self._queue_seconds() <= LEAD_SECONDS:
            self._set(min(self._most, self._running + 1))
        self._look_soon()

    def _set(self, steps: int) -> None:
        if steps != self.steps:
            self.steps = steps
            self._changed(steps)


class StepLoad:
    """What one step tells about its rows. A step that never tells anything counts as busy until it ends."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self.rows_left = True

    def rows_started(self) -> None:
        """The step has no row left to start."""
        self._capacity.rows_started(self)
