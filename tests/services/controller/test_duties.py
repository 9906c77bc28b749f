"""A duty that waits for a store holds up no other one."""

import asyncio
from typing import Any, cast

import pytest

from services.controller.duties import Duties
from services.controller.state import ControllerState

STATE = cast("ControllerState", None)


class Told:
    """Duties that wait for a word, fail, or note that they ran."""

    def __init__(self) -> None:
        self.begun = 0
        self.ran: list[str] = []
        self.word = asyncio.Event()

    async def waits(self, _: Any) -> None:
        self.begun += 1
        await self.word.wait()
        self.ran.append("waits")

    async def fails(self, _: Any) -> None:
        self.ran.append("fails")
        raise ValueError("a private text")

    async def works(self, _: Any) -> None:
        await asyncio.sleep(0)
        self.ran.append("works")


async def test_a_duty_that_waits_goes_on_beside_the_others_and_is_not_begun_again() -> None:
    told, duties = Told(), Duties(longest_seconds=0.05)
    waits, works = told.waits, told.works
    for _ in range(3):
        await duties.run(waits, STATE)
        await duties.run(works, STATE)
    assert told.ran == ["works"] * 3
    assert told.begun == 1
    told.word.set()
    await asyncio.sleep(0)
    await duties.run(waits, STATE)
    assert told.ran[-1] == "waits"
    assert told.begun == 2
    await duties.close()


async def test_a_duty_that_fails_is_told_without_its_text_and_keeps_no_other_from_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told, duties = Told(), Duties()
    fails, works = told.fails, told.works
    for duty in (fails, works, fails):
        await duties.run(duty, STATE)
    assert told.ran == ["fails", "works", "fails"]
    assert "private" not in caplog.text


async def test_what_is_under_way_ends_with_the_leader() -> None:
    told, duties = Told(), Duties(longest_seconds=0.01)
    await duties.run(told.waits, STATE)
    await duties.close()
    told.word.set()
    await asyncio.sleep(0.01)
    assert told.ran == []
