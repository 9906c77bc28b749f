"""The parts of the live side in one api process, started and closed together."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from services.api.gateway.buckets import RateLimiter
from services.api.gateway.chat import ChatEndpoint
from services.api.gateway.directory import DeploymentDirectory
from services.api.gateway.keys import KeyCache
from services.api.gateway.metering import Meter
from services.api.gateway.people import People
from services.api.gateway.servers import ServerPool
from shared.llm.providers import Providers
from shared.llm.servers.calls import CallPolicy
from shared.llm.servers.opening import Connections, open_server
from shared.llm.servers.protocol import ModelServer, ServerAddress
from shared.settings import Settings


class Gateway:
    """`start` before use, `close` at the end: what was counted is written, and connections to model servers are closed."""

    def __init__(self, settings: Settings, providers: Providers, sessions: async_sessionmaker[AsyncSession]) -> None:
        self.keys = KeyCache(sessions)
        self.directory = DeploymentDirectory(sessions)
        self.meter = Meter(sessions)
        self._limiter = RateLimiter(settings.redis_url)
        self._connections = Connections()
        self._policy = CallPolicy(
            first_piece_seconds=settings.live_first_piece_seconds,
            whole_seconds=settings.live_request_seconds,
            # The chat endpoint tries once more itself, where the server may have moved; all else is the client's to try again.
            tries=1,
            # How many come is bounded by the process, and how many at once are answered is the model server's to say.
            maximum_in_flight=settings.live_open_requests,
            maximum_waiting=0,
        )
        self._pool = ServerPool(self._open_server)
        self.chat = ChatEndpoint(
            settings=settings,
            providers=providers,
            directory=self.directory,
            people=People(sessions),
            pool=self._pool,
            limiter=self._limiter,
            meter=self.meter,
        )
        self._correcting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._connections.start()
        self.meter.start()
        self._correcting = asyncio.create_task(self._limiter.correct_forever(), name="key-limits")

    async def close(self) -> None:
        if self._correcting is not None:
            self._correcting.cancel()
            await asyncio.gather(self._correcting, return_exceptions=True)
        await self.keys.close()
        await self.directory.close()
        await self.meter.close()
        await self._limiter.close()
        await self._pool.close()
        await self._connections.close()

    def _open_server(self, address: ServerAddress) -> ModelServer:
        return open_server(address, self._policy, self._connections)
