"""Pools over HTTP: demand, workers, the autoscaler's word, and telling workers to leave."""

from collections.abc import AsyncIterator

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from services.api.state import ApiState
from shared.domain.plan import SERVICES
from shared.metadata.repositories.pools import GroupRow, PoolRepository
from shared.metadata.repositories.workers import WorkerRepository
from tests.services.api.support import assert_problem, client_of


@pytest.fixture(autouse=True)
async def workers(state: ApiState) -> AsyncIterator[None]:
    async with state.transaction() as session:
        for name, roles in (("one", ["composition", "generation"]), ("two", ["generation"])):
            await WorkerRepository(session).beat(
                name, host="box", process_id=7, roles=roles, slots=2, busy=0, draining=False
            )
    yield
    async with state.transaction() as session:
        await session.execute(sa.text("DELETE FROM worker"))
        await session.execute(sa.text("DELETE FROM worker_group"))


async def test_every_pool_is_told_with_its_workers(client: httpx2.AsyncClient) -> None:
    body = (await client.get("/v1/pools")).json()
    assert [pool["pool"] for pool in body["pools"]] == sorted(SERVICES)
    pools = {pool["pool"]: (pool["slots"], pool["workers"]) for pool in body["pools"]}
    assert (pools["composition"], pools["generation"], pools["training"]) == ((2, 1), (4, 2), (0, 0))
    assert [(worker["id"], worker["draining"]) for worker in body["workers"]] == [("one", False), ("two", False)]
    assert body["groups"] == []


async def test_what_the_autoscaler_wants_and_has_is_told_until_it_falls_silent(
    client: httpx2.AsyncClient, state: ApiState
) -> None:
    async with state.transaction() as session:
        row = GroupRow("generation", ("generation",), 0, 5, 3, 1, 4, 90.0, "starts failed")
        await PoolRepository(session).save_groups([row])
    (group,) = (await client.get("/v1/pools")).json()["groups"]
    told = (group["desired"], group["running"], group["maximum"], group["failures"], group["detail"], group["stale"])
    assert told == (3, 1, 5, 4, "starts failed", False)
    assert group["paused_until"] > group["seen_at"]
    async with state.transaction() as session:
        await session.execute(sa.text("UPDATE worker_group SET seen_at = now() - interval '61 s'"))
    assert (await client.get("/v1/pools")).json()["groups"][0]["stale"]
    page = (await client.get("/pools", headers={"Accept": "text/html"})).text
    assert "has not been heard of" in page


async def test_a_pool_or_one_worker_is_told_to_leave_once(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/pools/generation/drain", json={"worker": "two"})
    assert (answer.status_code, answer.json()) == (202, {"workers": ["two"]})
    assert (await client.post("/v1/pools/composition/drain", json={})).json() == {"workers": ["one"]}
    body = (await client.get("/v1/pools")).json()
    assert all(worker["draining"] for worker in body["workers"])
    assert all(pool["workers"] == 0 for pool in body["pools"])


async def test_unknown_pools_and_workers_and_keys_that_may_not_are_refused(
    client: httpx2.AsyncClient, app: FastAPI
) -> None:
    assert_problem(await client.post("/v1/pools/cooking/drain", json={}), 404, "not_found")
    assert_problem(await client.post("/v1/pools/composition/drain", json={"worker": "two"}), 404, "not_found")
    assert_problem(await client.post("/v1/pools/composition/drain", json={"all": True}), 422, pointers=["/all"])
    reader = (await client.post("/v1/keys", json={"name": "r", "scopes": ["read"]})).json()["key"]
    async with client_of(app, reader) as reading:
        assert (await reading.get("/v1/pools")).status_code == 200
        assert_problem(await reading.post("/v1/pools/generation/drain", json={}), 403, "forbidden")
