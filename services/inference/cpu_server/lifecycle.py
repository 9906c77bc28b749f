"""From the bound port to the end of the last answer: loading, ready, closing."""

import asyncio
from contextlib import suppress

from services.inference.cpu_server.http.sequences import Service


class Lifecycle:
    """What the process is doing. `service` is there once the model is loaded."""

    def __init__(self) -> None:
        self.service: Service | None = None
        self._closing = False
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Take no further requests; those that run go on."""
        self._closing = True
        if self.service is not None:
            self.service.closing = True

    @property
    def fault(self) -> str | None:
        """Why requests are not taken now; None where they are."""
        if self._closing:
            return "the server is shutting down; send the request to another"
        if self.service is None:
            return "the model is being loaded; try again later"
        return None

    def entered(self) -> None:
        self._active += 1
        self._idle.clear()

    def left(self) -> None:
        self._active -= 1
        if not self._active:
            self._idle.set()

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self._idle.is_set()

    async def wait_until_idle(self, seconds: float) -> None:
        """Returns after that time at the latest."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
