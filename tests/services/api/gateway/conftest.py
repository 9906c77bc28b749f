"""A listening api whose model servers are fakes."""

from collections.abc import AsyncIterator

import openai
import pytest
from fastapi import FastAPI

from services.api.gateway import gateway
from tests.services.api.gateway.support import FakeServers, listening
from tests.services.api.support import ADMIN_KEY


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> FakeServers:
    made = FakeServers()
    monkeypatch.setattr(gateway, "open_server", made.open)
    return made


@pytest.fixture
async def url(app: FastAPI, servers: FakeServers) -> AsyncIterator[str]:
    async with listening(app) as url:
        yield url


@pytest.fixture
async def ai(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own client, with an admin key; it does not try again, so that a test sees what came first."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
        yield client
