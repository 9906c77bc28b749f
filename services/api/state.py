"""What one api process holds: made in the lifespan, reached by every route."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from services.api.benches import BenchReader
from services.api.datasets import DatasetReader
from services.api.events import EventHub
from services.api.gateway.gateway import Gateway
from services.api.local_objects import LocalObjects
from services.api.system_metrics import SystemMetrics
from shared.artifacts.protocol import ArtifactStore
from shared.llm.models import LanguageModels
from shared.llm.providers import Providers
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class ApiState:
    """Connections and caches of this process."""

    settings: Settings
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    store: ArtifactStore
    providers: Providers
    events: EventHub
    objects: LocalObjects
    datasets: DatasetReader
    benches: BenchReader
    gateway: Gateway
    models: LanguageModels
    system_metrics: SystemMetrics
    inferring: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the request whose preferences are being inferred."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One transaction, committed at the end of the block: an answer is sent only after that."""
        async with self.sessions() as session, session.begin():
            yield session


def _state(request: Request) -> ApiState:
    state: ApiState = request.app.state.api
    return state


State = Annotated[ApiState, Depends(_state)]
