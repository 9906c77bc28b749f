"""One timer for many waits: each ends at its own time, and cancellations from outside stay what they are."""

import asyncio

import pytest

from shared.llm.servers.patience import Patience


@pytest.fixture
async def patience() -> Patience:
    return Patience(asyncio.get_running_loop())


async def test_a_wait_that_ends_in_time_gives_its_result_and_one_that_does_not_is_cancelled(patience: Patience) -> None:
    loop = asyncio.get_running_loop()
    for number in range(3):
        assert await patience.wait(asyncio.sleep(0, number), loop.time() + 5) == number
    never = loop.create_future()
    with pytest.raises(TimeoutError):
        await patience.wait(never, loop.time() + 0.05)
    assert never.cancelled()
    assert await patience.wait(asyncio.sleep(0, "after"), loop.time() + 5) == "after"
    patience.close()


@pytest.mark.parametrize(("first", "second"), [(60.0, 0.05), (0.01, 0.08)], ids=["earlier", "later"])
async def test_a_wait_ends_at_its_own_time_and_not_at_that_of_the_one_before(
    patience: Patience, first: float, second: float
) -> None:
    loop = asyncio.get_running_loop()
    await patience.wait(asyncio.sleep(0), loop.time() + first)
    due = loop.time() + second
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(patience.wait(loop.create_future(), due), 5)
    # The loop's clock may fire a timer by its resolution early.
    assert loop.time() >= due - 0.01
    patience.close()


async def test_time_between_waits_does_not_count(patience: Patience) -> None:
    loop = asyncio.get_running_loop()
    await patience.wait(asyncio.sleep(0), loop.time() + 0.02)
    await asyncio.sleep(0.06)
    assert await patience.wait(asyncio.sleep(0.01, "x"), loop.time() + 5) == "x"
    patience.close()


async def test_a_cancellation_from_outside_stays_one(patience: Patience) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(patience.wait(loop.create_future(), loop.time() + 5))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    patience.close()


async def test_a_cancellation_in_the_moment_of_the_time_out_is_not_swallowed(patience: Patience) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time() + 0.03
    task = asyncio.create_task(patience.wait(loop.create_future(), due))
    await asyncio.sleep(0.01)
    loop.call_at(due, task.cancel)
    while loop.time() < due + 0.01:
        pass  # both are due at once
    with pytest.raises(asyncio.CancelledError):
        await task
    patience.close()


async def test_the_task_is_as_it_was_after_a_time_out(patience: Patience) -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        await patience.wait(loop.create_future(), loop.time() + 0.01)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    async with asyncio.timeout(5):
        await asyncio.sleep(0)
    patience.close()
