"""Model servers that are open in this process, one object per address."""

from collections.abc import Callable

import msgspec

from shared.llm.servers.protocol import ModelServer, ServerAddress

_MOST_IDLE = 64


class _Open(msgspec.Struct):
    server: ModelServer
    calls: int = 0


class ServerPool:
    """`take` a server for a call and `give_back` it after that. Those that nobody calls are closed when there are many: an
    address dies with its deployment."""

    def __init__(self, opener: Callable[[ServerAddress], ModelServer]) -> None:
        self._opener = opener
        self._open: dict[ServerAddress, _Open] = {}

    async def take(self, address: ServerAddress) -> ModelServer:
        found = self._open.get(address)
        if found is None:
            found = self._open[address] = _Open(self._opener(address))
        found.calls += 1
        if len(self._open) > _MOST_IDLE:
            await self._close_idle()
        return found.server

    def give_back(self, address: ServerAddress) -> None:
        self._open[address].calls -= 1

    async def close(self) -> None:
        for one in self._open.values():
            await one.server.close()
        self._open.clear()

    async def _close_idle(self) -> None:
        idle = [address for address, one in self._open.items() if not one.calls]
        closing = [self._open.pop(address) for address in idle[: len(self._open) - _MOST_IDLE]]
        for one in closing:
            await one.server.close()
