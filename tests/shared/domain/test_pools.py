"""How many workers are wanted, and how long failed starts make the autoscaler wait."""

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.pools import PoolDemand, desired_workers, pause_seconds, within_free_gpus

COUNTS = st.integers(0, 10_000)


def demand(ready: int, running: int = 0, pool: str = "generation") -> list[PoolDemand]:
    return [PoolDemand(pool, ready, running, 0), PoolDemand("training", 9, 9, 9)]


def wanted(ready: int, running: int = 0, minimum: int = 0, maximum: int = 8) -> int:
    return desired_workers(
        demand(ready, running), ["generation", "composition"], steps_per_worker=4, minimum=minimum, maximum=maximum
    )


def test_steps_that_wait_or_run_are_divided_among_workers() -> None:
    assert [wanted(ready) for ready in (0, 1, 4, 5, 400)] == [0, 1, 1, 2, 8]
    assert wanted(2, running=3) == 2
    assert wanted(0, minimum=1) == 1


@given(COUNTS, COUNTS, st.integers(0, 5), st.integers(5, 50))
def test_never_outside_the_bounds_and_never_fewer_for_more_steps(ready: int, running: int, low: int, high: int) -> None:
    found = wanted(ready, running, low, high)
    assert low <= found <= high
    assert found <= wanted(ready + 1, running, low, high)
    assert found == high or found * 4 >= ready + running


def test_workers_that_would_only_wait_for_a_gpu_are_not_wanted() -> None:
    assert within_free_gpus(4, 1, 2, 1) == 3
    assert within_free_gpus(4, 1, 0, 1) == 1
    assert within_free_gpus(4, 1, None, 1) == 4
    assert within_free_gpus(1, 0, 8, 1) == 1


def test_pauses_begin_with_the_third_failure_double_and_end_at_a_quarter_of_an_hour() -> None:
    assert [pause_seconds(failures) for failures in range(9)] == [0, 0, 0, 60, 120, 240, 480, 900, 900]
