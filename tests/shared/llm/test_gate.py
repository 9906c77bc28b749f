"""The gate: retries first, then the oldest step's calls, in order of arrival; a cancelled call keeps no place."""

import asyncio

from shared.llm.gate import Admission, Gate, Slots
from shared.llm.pacing import SendRate


def one_slot() -> tuple[Admission, Gate]:
    admission = Admission(1)
    pace = SendRate(1)
    pace.delay = lambda now: 0.0  # type: ignore[method-assign]  # the order is the question, not the pace
    return admission, Gate(admission, Slots(1), pace)


async def passed_in_order(gate: Gate, calls: list[tuple[str, bool, int]], cancelled: str = "") -> list[str]:
    """Names of calls in the order in which they pass a gate whose slot was taken when they came."""
    order: list[str] = []

    async def call(name: str, is_retry: bool, turn: int) -> None:
        await gate.enter(1, is_retry, turn)
        order.append(name)
        gate.leave()

    await gate.enter(1, is_retry=False)
    tasks = {}
    for name, is_retry, turn in calls:
        tasks[name] = asyncio.create_task(call(name, is_retry, turn))
        await asyncio.sleep(0)
    assert gate.waiting == len(calls)
    if cancelled:
        tasks[cancelled].cancel()
    gate.leave()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    return order


async def test_the_calls_of_an_older_step_pass_before_those_of_a_younger_one_and_retries_before_both() -> None:
    _, gate = one_slot()
    calls = [("b1", False, 8), ("a1", False, 7), ("b2", False, 8), ("b-retry", True, 8), ("a2", False, 7)]
    assert await passed_in_order(gate, calls) == ["b-retry", "a1", "a2", "b1", "b2"]


async def test_a_cancelled_call_neither_passes_nor_keeps_a_slot() -> None:
    admission, gate = one_slot()
    calls = [("first", False, 1), ("second", False, 2), ("third", False, 3)]
    assert await passed_in_order(gate, calls, cancelled="first") == ["second", "third"]
    assert admission.slots.used == 0
    assert gate.waiting == 0


async def test_the_queue_is_told_in_seconds_of_the_busiest_gate() -> None:
    admission, gate = one_slot()
    assert admission.queue_seconds == 0.0
    await gate.enter(1, is_retry=False)
    waiting = asyncio.create_task(gate.enter(1, is_retry=False))
    await asyncio.sleep(0)
    assert admission.queue_seconds == gate.queue_seconds > 0.0
    gate.leave()
    await waiting
    assert admission.queue_seconds == 0.0
