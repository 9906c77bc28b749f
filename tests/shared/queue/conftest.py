"""Sessions over the test module's database."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.metadata.engine import create_engine, session_factory


@pytest.fixture
async def sessions(postgres_url: str) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    engine = create_engine(postgres_url, pool_size=10)
    yield session_factory(engine)
    await engine.dispose()
