"""Circuit breaker: a provider that fails every call is left alone for a while, and its steps wait without using retries."""

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
    """Closed: calls pass. Open: calls raise StepDeferred. After `open_seconds` one call probes; its success closes."""

    def __init__(self, name: str, open_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._open_seconds = open_seconds
        self._clock = clock
        self._failures = 0
        self._rejections = 0
        self._streak_since = 0.0
        self._last_failure = ""
        self._open_until: float | None = None
        self._probing_since: float | None = None

    @property
    def is_open(self) -> bool:
        return self._open_until is not None

    def check(self) -> None:
        """Raise StepDeferred while the circuit is open. The first call after the pause passes, as the probe."""
        if self._open_until is None:
            return
        now = self._clock()
        if now >= self._open_until and (self._probing_since is None or now - self._probing_since > self._open_seconds):
            self._probing_since = now
            return
        raise StepDeferred(
            f"{self._name} answered none of the last {self._failures + self._rejections} calls "
            f"(last: {self._last_failure}); calls are held back",
            max(1.0, self._open_until - now),
        )

    def succeeded(self) -> None:
        self._failures = self._rejections = 0
        self._open_until = self._probing_since = None

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

    def _count(self, reason: str) -> None:
        if self._failures + self._rejections == 0:
            self._streak_since = self._clock()
        self._last_failure = reason

    def _open(self) -> None:
        self._open_until = self._clock() + self._open_seconds
        self._probing_since = None
