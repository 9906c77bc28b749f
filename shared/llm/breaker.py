"""Circuit breaker: a provider that fails every call is left alone for a while, and its steps wait without using retries."""

import asyncio
import time
from collections.abc import Callable

from shared.domain.errors import StepDeferred

FAILURES_TO_OPEN = 20
"""Failures in a row (5xx, broken answers, connections) that open the circuit, once the streak is old enough."""
STREAK_SECONDS = 2.0
"""Age of such a streak: a blip that hits all open calls at once is no outage."""
REJECTED_STREAK_SECONDS = 60.0
"""Age of a streak that holds 429 alone: rate limits pass, an exhausted account does not."""


class CircuitBreaker:
    """Closed: calls pass. Open: calls raise StepDeferred. After `open_seconds` one call probes, and the others wait for what
    comes of it: its success closes the circuit, its failure opens it anew, and if it is given up the next one probes."""

    def __init__(self, name: str, open_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._open_seconds = open_seconds
        self._clock = clock
        self._failures = 0
        self._rejections = 0
        self._streak_since = 0.0
        self._last_failure = ""
        self._open_until: float | None = None
        self._probe: asyncio.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._open_until is not None

    async def check(self) -> bool:
        """Return when the call may go; True says that it is the probe, which must end in `succeeded`, `failed`, `rejected` or
        `gave_up`. Raises StepDeferred while the circuit is open, and where the probe that it waited for failed."""
        while self._open_until is not None:
            if self._probe is not None:
                # Who waits here keeps its step alive: a step that went away would take the probe along.
                await asyncio.shield(self._probe)
                continue
            now = self._clock()
            if now >= self._open_until:
                self._probe = asyncio.get_running_loop().create_future()
                return True
            raise StepDeferred(
                f"{self._name} answered none of the last {self._failures + self._rejections} calls "
                f"(last: {self._last_failure}); calls are held back",
                max(1.0, self._open_until - now),
            )
        return False

    def succeeded(self) -> None:
        self._failures = self._rejections = 0
        self._open_until = None
        self._end_probe()

    def failed(self, reason: str) -> None:
        """A call failed by the provider's fault (not a 429)."""
        self._count(reason)
        self._failures += 1
        if self._open_until is not None or (
            self._failures >= FAILURES_TO_OPEN and self._clock() - self._streak_since >= STREAK_SECONDS
        ):
            self._open()

    def rejected(self) -> None:
        """A call was answered 429."""
        self._count("429")
        self._rejections += 1
        if self._open_until is not None or (
            self._rejections >= FAILURES_TO_OPEN and self._clock() - self._streak_since >= REJECTED_STREAK_SECONDS
        ):
            self._open()

    def gave_up(self) -> None:
        """The probe was cut off before it was answered: the next call probes."""
        self._end_probe()

    def _count(self, reason: str) -> None:
        if self._failures + self._rejections == 0:
            self._streak_since = self._clock()
        self._last_failure = reason

    def _open(self) -> None:
        self._open_until = self._clock() + self._open_seconds
        self._end_probe()

    def _end_probe(self) -> None:
        probe, self._probe = self._probe, None
        if probe is not None and not probe.done():
            probe.set_result(None)
