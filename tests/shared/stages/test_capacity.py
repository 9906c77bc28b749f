"""How many steps a worker takes at once: one more only when the steps it has cannot keep the provider busy."""

import asyncio
from contextlib import ExitStack

from shared.stages.capacity import LEAD_SECONDS, Capacity

_LONG_ENOUGH = 0.2


class Queue:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def test_a_step_more_is_taken_when_all_rows_are_under_way_and_no_call_waits() -> None:
    told: list[int] = []
    capacity = Capacity(2, 4, Queue(), told.append)
    with capacity.step() as first, capacity.step() as second:
        first.rows_started()
        await asyncio.sleep(_LONG_ENOUGH)
        assert capacity.steps == 2  # the second still has rows to start
        second.rows_started()
        await asyncio.sleep(_LONG_ENOUGH)
        assert (capacity.steps, told) == (3, [3])  # one at a time: the third has not come yet
        with capacity.step() as third:
            third.rows_started()
            await asyncio.sleep(_LONG_ENOUGH)
            assert capacity.steps == 4


async def test_waiting_calls_hold_further_steps_back_until_they_are_nearly_sent() -> None:
    queue = Queue()
    queue.seconds = LEAD_SECONDS * 4
    capacity = Capacity(1, 3, queue, lambda _: None)
    with capacity.step() as step:
        step.rows_started()
        await asyncio.sleep(_LONG_ENOUGH)
        assert capacity.steps == 1
        queue.seconds = LEAD_SECONDS / 2
        await asyncio.sleep(_LONG_ENOUGH)
        assert capacity.steps == 2


async def test_the_number_never_passes_the_most_and_falls_back_as_steps_end() -> None:
    told: list[int] = []
    capacity = Capacity(1, 3, Queue(), told.append)
    with ExitStack() as stack:
        for expected in (2, 3, 3):
            stack.enter_context(capacity.step()).rows_started()
            await asyncio.sleep(_LONG_ENOUGH)
            assert capacity.steps == expected
    assert capacity.steps == 1
    assert told[-1] == 1
    await asyncio.sleep(_LONG_ENOUGH)
    assert capacity.steps == 1  # a worker without steps is not short of them


async def test_a_step_that_tells_nothing_about_rows_counts_as_busy() -> None:
    capacity = Capacity(1, 9, Queue(), lambda _: None)
    with capacity.step():
        await asyncio.sleep(_LONG_ENOUGH)
        assert capacity.steps == 1
