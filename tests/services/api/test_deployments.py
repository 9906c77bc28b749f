"""Deployments over HTTP: what is accepted, what is refused and where, and who may."""

from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from services.api.app import create_key
from services.api.state import ApiState
from shared.domain.deployments import LauncherReport
from shared.metadata.repositories.deployments import DeploymentRepository
from shared.metadata.repositories.model_servers import LauncherTerms, ModelServerRepository
from tests.services.api.support import assert_problem, client_of
from tests.services.api.test_registry import registered

PROVIDER = {"provider": "simulator", "model": "simulator-large"}


async def deploy(client: httpx2.AsyncClient, name: str, target: dict[str, Any], **more: Any) -> httpx2.Response:
    return await client.post("/v1/deployments", json={"name": name, "target": target, **more})


async def test_a_model_is_accepted_without_a_server_and_told_how_one_is_started(
    client: httpx2.AsyncClient, state: ApiState
) -> None:
    model = await registered(state)
    answer = await deploy(client, "first", {"registry": model}, options={"server": "tgi", "maximum_total_tokens": 64})
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/v1/deployments/{body['id']}"
    assert body["state"] == "waiting"
    assert "no server of kind tgi is there; docs/deployments.md" in body["detail"]
    assert body["target"] == {"registry": model, "provider": None, "model": None}
    shown = (await client.get("/v1/deployments/first")).json()
    assert shown["id"] == body["id"]
    assert [(item["revision"], item["state"]) for item in shown["revisions"]] == [(1, "pending")]
    assert [event["type"] for event in shown["events"]] == ["revision"]
    assert (await client.get(f"/v1/deployments/{body['id']}")).json()["name"] == "first"


async def test_a_providers_model_is_ready_rolled_back_and_undeployed(client: httpx2.AsyncClient) -> None:
    small = PROVIDER | {"model": "simulator-small"}
    assert (await deploy(client, "hosted", PROVIDER)).json()["state"] == "ready"
    second = (await deploy(client, "hosted", small)).json()
    assert (second["serving_revision"], second["target"]["model"]) == (2, "simulator-small")
    back = await client.post("/v1/deployments/hosted/rollback")
    assert (back.status_code, back.json()["serving_revision"]) == (202, 3)
    assert back.json()["target"]["model"] == "simulator-large"
    gone = await client.delete("/v1/deployments/hosted")
    assert (gone.status_code, gone.json()["state"]) == (200, "stopped")
    assert_problem(await client.get("/v1/deployments/hosted"), 404, "not_found")
    assert (await client.get(f"/v1/deployments/{second['id']}")).json()["state"] == "stopped"
    assert_problem(await client.post(f"/v1/deployments/{second['id']}/rollback"), 409, "deployment_conflict")


async def test_a_list_is_paged_newest_first_and_without_what_was_undeployed(client: httpx2.AsyncClient) -> None:
    for number in range(3):
        await deploy(client, f"paged-{number}", PROVIDER)
    await client.delete("/v1/deployments/paged-1")
    first = (await client.get("/v1/deployments", params={"limit": 1})).json()
    assert [item["name"] for item in first["items"]] == ["paged-2"]
    rest = (await client.get("/v1/deployments", params={"before": first["next"]})).json()
    assert rest["items"][0]["name"] == "paged-0"
    every = (await client.get("/v1/deployments", params={"stopped": True})).json()
    assert [item["name"] for item in every["items"]][:3] == ["paged-2", "paged-1", "paged-0"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "x", "target": {}}, "/target"),
        ({"name": "x", "target": {"registry": "model_1", **PROVIDER}}, "/target"),
        ({"name": "x", "target": {"provider": "simulator"}}, "/target"),
        ({"name": "x", "target": {"registry": "model_unknown"}}, "/target/registry"),
        ({"name": "x", "target": {"registry": "model_\u0000"}}, "/target/registry"),
        ({"name": "x", "target": PROVIDER | {"provider": "nobody"}}, "/target/provider"),
        ({"name": "x", "target": PROVIDER | {"model": "unknown"}}, "/target/model"),
        ({"name": "x", "target": PROVIDER, "options": {"server": "tgi"}}, "/options"),
        ({"name": "not a name", "target": PROVIDER}, "/name"),
        ({"name": "", "target": PROVIDER}, "/name"),
        ({"name": "x", "target": PROVIDER, "url": "http://169.254.169.254/"}, "/url"),
        ({"name": "x", "target": PROVIDER, "options": {"dtype": "float32", "server": "tgi"}}, "/options"),
        ({"name": "x", "target": PROVIDER, "options": {"quantize": "fp8"}}, "/options"),
        (
            {"name": "x", "target": PROVIDER, "options": {"server": "tgi", "quantize": "fp8", "dtype": "float16"}},
            "/options",
        ),
        (
            {"name": "x", "target": PROVIDER, "options": {"maximum_input_tokens": 9, "maximum_total_tokens": 9}},
            "/options",
        ),
    ],
)
async def test_what_cannot_be_deployed_is_refused_where_it_stands(
    client: httpx2.AsyncClient, body: dict[str, Any], pointer: str
) -> None:
    assert_problem(await client.post("/v1/deployments", json=body), 422, pointers=[pointer])
    assert_problem(await client.get("/v1/deployments/x"), 404)


async def test_reward_models_on_tgi_and_adapters_without_a_base_are_refused(
    client: httpx2.AsyncClient, state: ApiState
) -> None:
    reward = await registered(state, method="rm")
    answer = await deploy(client, "scores", {"registry": reward}, options={"server": "tgi"})
    assert_problem(answer, 422, "input_refused", ["/options/server"])
    adapters = await registered(state, adapter_only=True, base={"source": "random", "name": "tiny-mistral"})
    answer = await deploy(client, "adapters", {"registry": adapters})
    body = assert_problem(answer, 422, "input_refused", ["/target/registry"])
    assert "lora.merge true" in body["detail"]


async def test_rolling_back_what_served_nothing_else_is_a_conflict(client: httpx2.AsyncClient) -> None:
    await deploy(client, "only", PROVIDER)
    assert_problem(await client.post("/v1/deployments/only/rollback"), 409, "deployment_conflict")


async def test_readers_look_and_writers_deploy_and_other_projects_see_nothing(
    client: httpx2.AsyncClient, state: ApiState, app: FastAPI
) -> None:
    await deploy(client, "mine", PROVIDER)
    reader = await create_key(state.settings, "default", "reader", ["read"])
    other = await create_key(state.settings, "others", "other", ["write"])
    async with client_of(app, reader) as reading:
        assert (await reading.get("/v1/deployments/mine")).status_code == 200
        assert_problem(await deploy(reading, "more", PROVIDER), 403, "forbidden")
        assert_problem(await reading.post("/v1/deployments/mine/rollback"), 403)
        assert_problem(await reading.delete("/v1/deployments/mine"), 403)
    async with client_of(app, other) as foreign:
        assert_problem(await foreign.get("/v1/deployments/mine"), 404)
        assert_problem(await foreign.delete("/v1/deployments/mine"), 404)
        assert (await deploy(foreign, "mine", PROVIDER)).status_code == 202, "names are a project's own"
    async with client_of(app, None) as nobody:
        assert_problem(await nobody.get("/v1/deployments"), 401)


async def test_a_deployment_on_a_server_shows_where(client: httpx2.AsyncClient, state: ApiState) -> None:
    model = await registered(state)
    terms = LauncherTerms(30, 60)
    report = {"kind": "cpu", "host": "h", "places": [{"place": 0, "state": "empty"}]}
    async with state.transaction() as session:
        await ModelServerRepository(session, terms).report("shown", LauncherReport.model_validate(report))
    made = (await deploy(client, "shown", {"registry": model})).json()
    assert made["detail"] == "waits for a place on a server"
    async with state.transaction() as session:
        assert await ModelServerRepository(session, terms).place(made["id"])
    (place,) = (await client.get("/v1/deployments/shown")).json()["places"]
    assert (place["id"], place["kind"], place["state"]) == ("shown/0", "cpu", "empty")
    assert "address" not in place, "servers are the operator's; clients go through the api"
    async with state.transaction() as session:
        assert await DeploymentRepository(session).live_servers("tgi", 30) == 0
