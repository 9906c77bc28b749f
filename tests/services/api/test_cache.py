"""Stored answers are removed by their own project only, on an administrator's word."""

import httpx2
from fastapi import FastAPI

from services.api.state import ApiState
from shared.metadata.tables import CachedCompletion
from tests.services.api.support import assert_problem, client_of


async def _store(state: ApiState, *projects: str) -> None:
    async with state.transaction() as session:
        for number, project in enumerate(projects):
            session.add(
                CachedCompletion(key=bytes([number]) * 32, project_id=project, provider="p", model="m", body=b"{}")
            )


async def test_the_projects_own_stored_answers_are_removed_and_counted(
    client: httpx2.AsyncClient, state: ApiState
) -> None:
    await _store(state, "default", "default", "other")
    assert (await client.delete("/v1/cache")).json() == {"removed": 2}
    assert (await client.delete("/v1/cache")).json() == {"removed": 0}


async def test_a_key_that_may_only_write_removes_nothing(
    client: httpx2.AsyncClient, app: FastAPI, state: ApiState
) -> None:
    await _store(state, "default")
    key = (await client.post("/v1/keys", json={"name": "writer", "scopes": ["write"]})).json()["key"]
    async with client_of(app, key) as writer:
        assert_problem(await writer.delete("/v1/cache"), 403)
    assert (await client.delete("/v1/cache")).json() == {"removed": 1}
