"""Starts that fail in a row pause a group; one that goes well ends the row."""

from services.autoscaler.breaker import SETTLED_SECONDS, StartBreaker
from services.autoscaler.engine import Container, ContainerState


def seen(state: ContainerState, status: int | None = None, name: str = "a") -> list[Container]:
    return [Container(name, state, status, {})]


RUNNING = seen(ContainerState.RUNNING)
CRASHED = seen(ContainerState.STOPPED, 1)


def test_three_crashes_pause_and_a_fourth_pauses_longer() -> None:
    breaker = StartBreaker()
    for attempt in range(3):
        assert not breaker.paused(attempt)
        breaker.started("a", attempt)
        breaker.watch(RUNNING, attempt + 0.5)
        breaker.watch(CRASHED, attempt + 0.7)
    assert breaker.paused(3)
    assert breaker.paused(62)
    assert not breaker.paused(63)
    breaker.started("a", 63)
    breaker.watch(CRASHED, 64)
    assert breaker.paused(180)
    assert not breaker.paused(185)


def test_a_start_that_lasts_or_leaves_with_0_ends_the_row() -> None:
    for good in (RUNNING, seen(ContainerState.STOPPED, 0)):
        breaker = StartBreaker()
        breaker.failures = 2
        breaker.started("a", 0)
        breaker.watch(good, SETTLED_SECONDS)
        assert breaker.failures == 0


def test_a_container_that_has_not_begun_yet_is_neither_good_nor_bad() -> None:
    breaker = StartBreaker()
    breaker.failures = 2
    breaker.started("a", 0)
    breaker.watch(seen(ContainerState.STOPPED), 0.5)
    assert breaker.failures == 2


def test_a_container_that_its_engine_restarts_again_and_again_counts_once_a_pause() -> None:
    breaker = StartBreaker()
    crashing = seen(ContainerState.CRASHING, 1)
    for second in range(4):
        breaker.watch(crashing, second)
    assert breaker.paused(10)
    failures = breaker.failures
    for second in range(4, 20):
        breaker.watch(crashing, second)
    assert breaker.failures == failures


def test_what_failed_is_started_last() -> None:
    breaker = StartBreaker()
    containers = [Container(name, ContainerState.STOPPED, None, {}) for name in "abc"]
    breaker.failed("b", 1)
    breaker.failed("a", 2)
    assert [container.id for container in breaker.order(containers)] == ["c", "b", "a"]
