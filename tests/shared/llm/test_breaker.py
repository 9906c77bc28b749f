"""The circuit breaker, on a clock of its own."""

import pytest

from shared.domain.errors import StepDeferred
from shared.llm.breaker import FAILURES_TO_OPEN, REJECTED_STREAK_SECONDS, STREAK_SECONDS, CircuitBreaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("p/m", 30.0, clock)


def _fail_until_open(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed("502")
    clock.now += STREAK_SECONDS
    breaker.failed("502")
    assert breaker.is_open


def test_a_burst_of_failures_at_once_is_no_outage(breaker: CircuitBreaker) -> None:
    for _ in range(10 * FAILURES_TO_OPEN):
        breaker.failed("reset")
    breaker.check()


def test_a_streak_opens_and_says_how_long(breaker: CircuitBreaker, clock: Clock) -> None:
    _fail_until_open(breaker, clock)
    with pytest.raises(StepDeferred, match="502") as deferred:
        breaker.check()
    assert deferred.value.seconds == 30.0


def test_one_success_ends_the_streak(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed("502")
    breaker.succeeded()
    clock.now += 60
    breaker.failed("502")
    breaker.check()


def test_after_the_pause_one_call_probes(breaker: CircuitBreaker, clock: Clock) -> None:
    _fail_until_open(breaker, clock)
    clock.now += 30
    breaker.check()
    with pytest.raises(StepDeferred):
        breaker.check()
    breaker.failed("502")
    clock.now += 15
    with pytest.raises(StepDeferred):
        breaker.check()
    clock.now += 15
    breaker.check()
    breaker.succeeded()
    breaker.check()
    breaker.check()


def test_a_lost_probe_does_not_close_the_circuit_for_ever(breaker: CircuitBreaker, clock: Clock) -> None:
    _fail_until_open(breaker, clock)
    clock.now += 30
    breaker.check()
    clock.now += 31
    breaker.check()


def test_rejections_alone_open_only_after_a_long_time(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(10 * FAILURES_TO_OPEN):
        breaker.rejected()
    breaker.check()
    clock.now += REJECTED_STREAK_SECONDS
    breaker.rejected()
    with pytest.raises(StepDeferred, match="429"):
        breaker.check()
