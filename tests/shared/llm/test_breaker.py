"""The circuit breaker, on a clock of its own."""

import asyncio

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


async def test_a_burst_of_failures_at_once_is_no_outage(breaker: CircuitBreaker) -> None:
    for _ in range(10 * FAILURES_TO_OPEN):
        breaker.failed("reset")
    assert await breaker.check() is False
    assert not breaker.is_open


async def test_a_streak_opens_and_says_how_long(breaker: CircuitBreaker, clock: Clock) -> None:
    _fail_until_open(breaker, clock)
    with pytest.raises(StepDeferred, match="502") as deferred:
        await breaker.check()
    assert deferred.value.seconds == 30.0


async def test_one_success_ends_the_streak(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed("502")
    breaker.succeeded()
    clock.now += 60
    breaker.failed("502")
    assert await breaker.check() is False
    assert not breaker.is_open


async def _waiting(breaker: CircuitBreaker, count: int) -> list[asyncio.Task[bool]]:
    tasks = [asyncio.create_task(breaker.check()) for _ in range(count)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in tasks)
    return tasks


async def test_after_the_pause_one_call_probes_and_its_success_lets_the_others_go(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    _fail_until_open(breaker, clock)
    clock.now += 30
    assert await breaker.check() is True
    others = await _waiting(breaker, 5)
    breaker.succeeded()
    assert await asyncio.gather(*others) == [False] * 5
    assert await breaker.check() is False


async def test_a_probe_that_fails_holds_the_others_back_for_another_pause(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    _fail_until_open(breaker, clock)
    clock.now += 30
    await breaker.check()
    others = await _waiting(breaker, 5)
    breaker.failed("502")
    for outcome in await asyncio.gather(*others, return_exceptions=True):
        assert isinstance(outcome, StepDeferred)
        assert outcome.seconds == 30.0
    clock.now += 30
    assert await breaker.check() is True


async def test_a_probe_that_is_given_up_is_followed_by_another_at_once(breaker: CircuitBreaker, clock: Clock) -> None:
    _fail_until_open(breaker, clock)
    clock.now += 30
    await breaker.check()
    others = await _waiting(breaker, 3)
    breaker.gave_up()
    await asyncio.sleep(0.01)
    probes = [task for task in others if task.done()]
    assert [task.result() for task in probes] == [True]
    breaker.succeeded()
    assert sorted(await asyncio.gather(*others)) == [False, False, True]


async def test_whoever_stops_waiting_takes_no_probe_along(breaker: CircuitBreaker, clock: Clock) -> None:
    _fail_until_open(breaker, clock)
    clock.now += 30
    await breaker.check()
    first, second = await _waiting(breaker, 2)
    first.cancel()
    await asyncio.sleep(0.01)
    breaker.succeeded()
    assert await second is False


async def test_rejections_alone_open_only_after_a_long_time(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(10 * FAILURES_TO_OPEN):
        breaker.rejected()
    await breaker.check()
    clock.now += REJECTED_STREAK_SECONDS
    breaker.rejected()
    with pytest.raises(StepDeferred, match="429"):
        await breaker.check()
