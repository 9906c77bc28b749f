"""Running duties one after the other, without letting one that waits hold up all others."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from services.controller.state import ControllerState
from shared.telemetry.logs import error_place

_log = structlog.get_logger(__name__)

LONGEST_SECONDS = 2.0
"""The others wait so long for a duty. Those that write to the object store may wait minutes for one that says nothing, and dead
workers must be noticed meanwhile."""

Duty = Callable[[ControllerState], Awaitable[None]]


class Duties:
    """Duties under way of one leader."""

    def __init__(self, longest_seconds: float = LONGEST_SECONDS) -> None:
        self._longest_seconds = longest_seconds
        self._under_way: dict[Duty, asyncio.Future[None]] = {}

    async def run(self, duty: Duty, state: ControllerState) -> None:
        """Run `duty` and return when it is done, or goes on beside the others. One that is still under way is not begun again."""
        if duty in self._under_way and not self._noted(duty):
            return
        work = self._under_way[duty] = asyncio.ensure_future(duty(state))
        await asyncio.wait({work}, timeout=self._longest_seconds)
        if not self._noted(duty):
            _log.warning("duty_takes_long", duty=_name(duty))

    def _noted(self, duty: Duty) -> bool:
        """Whether `duty` is done; its trouble is told then, and keeps no other duty from its own."""
        work = self._under_way[duty]
        if not work.done():
            return False
        del self._under_way[duty]
        error = work.exception()
        if error is not None:
            _log.error("duty_failed", duty=_name(duty), error=error_place(error))
        return True

    async def close(self) -> None:
        """End what is under way: another leader does it again."""
        for work in self._under_way.values():
            work.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        self._under_way.clear()


def _name(duty: Duty) -> str:
    return f"{duty.__module__}.{duty.__name__}"
