"""An application over a real database and a directory store, per test."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from services.api.state import ApiState
from shared.settings import Settings
from tests.services.api.support import api_settings, client_of, running_app, state_of


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    return api_settings(postgres_url, tmp_path)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    async with running_app(settings) as app:
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with an admin key."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
def state(app: FastAPI) -> ApiState:
    return state_of(app)
