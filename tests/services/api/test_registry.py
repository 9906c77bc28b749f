"""Registered models and presets over HTTP."""

import json
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import yaml

from services.api.state import ApiState
from services.cli.client import ApiClient
from services.cli.models import pull_model
from shared.domain.models import ModelRegistration
from shared.domain.training import TrainParameters
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.models import ModelRepository
from shared.settings import Settings
from tests.services.api.support import assert_problem, running_server, submit_directly

MODEL = ModelRegistration("mine", "sft", "full", {"random": "tiny-mistral"}, 7, "float32", {"loss": 1.5}, {}, False)
CONFIG = b'{"model_type": "mistral"}'


async def registered(state: ApiState, project_id: str = "default", rows: int = 3, **changes: Any) -> str:
    """A model with its files and its metrics; its id."""
    job = await submit_directly(state, project_id)
    metrics = "".join(json.dumps({"step": step, "loss": 1 / step}) + "\n" for step in range(1, rows + 1))
    contents = {
        "model/config.json": ("model", CONFIG),
        "adapter/adapter_config.json": ("adapter", b"{}"),
        "metrics.jsonl": ("metrics", metrics.encode()),
        "manifest.json": ("manifest", b"{}"),
    }
    for name, (kind, content) in contents.items():
        if kind == "metrics" and not rows:
            continue
        stored = await state.store.put_bytes(f"artifacts/{project_id}/{job.id}/50-sft/{name}", content)
        async with state.transaction() as session:
            await ArtifactRepository(session).add(
                project_id=project_id,
                job_id=job.id,
                stage="sft",
                name=name,
                key=stored.key,
                kind=kind,
                media_type="application/json",
                sha256=stored.sha256,
                size=stored.size,
                step_id=None if kind == "manifest" else "step_1",
            )
    registration = msgspec.structs.replace(MODEL, **changes)
    async with state.transaction() as session:
        return await ModelRepository(session).add(
            project_id=project_id, job_id=job.id, stage="sft", attempt_id=1, registration=registration
        )


async def test_models_of_one_job_can_be_asked_for(client: httpx2.AsyncClient, state: ApiState) -> None:
    one, other = await registered(state), await registered(state)
    job = (await client.get(f"/v1/registry/models/{one}")).json()["job_id"]
    found = (await client.get("/v1/registry/models", params={"job": job})).json()["items"]
    assert [model["id"] for model in found] == [one]
    assert other not in {model["id"] for model in found}
    assert (await client.get("/v1/registry/models", params={"job": "job_unknown"})).json()["items"] == []


async def test_models_are_listed_newest_first_with_a_cursor_and_not_those_of_others(
    client: httpx2.AsyncClient, state: ApiState
) -> None:
    made = [await registered(state, name=f"model {number}") for number in range(3)]
    await registered(state, "others")
    first = (await client.get("/v1/registry/models", params={"limit": 2})).json()
    assert [item["id"] for item in first["items"]] == [made[2], made[1]]
    rest = (await client.get("/v1/registry/models", params={"limit": 200, "before": first["next"]})).json()
    assert rest["items"][0]["id"] == made[0]
    assert rest["items"][0]["name"] == "model 0"


async def test_a_model_is_shown_with_its_files_and_where_it_comes_from(
    client: httpx2.AsyncClient, state: ApiState
) -> None:
    model = (await client.get(f"/v1/registry/models/{await registered(state)}")).json()
    assert (model["method"], model["base"], model["metrics"]) == ("sft", {"random": "tiny-mistral"}, {"loss": 1.5})
    assert {file["name"]: file["kind"] for file in model["files"]} == {
        "model/config.json": "model",
        "adapter/adapter_config.json": "adapter",
        "metrics.jsonl": "metrics",
    }
    (config,) = [file["id"] for file in model["files"] if file["kind"] == "model"]
    assert (await client.get(f"/v1/artifacts/{config}/content")).content == CONFIG


async def test_metrics_are_thinned_out_to_what_is_asked_for(client: httpx2.AsyncClient, state: ApiState) -> None:
    identifier = await registered(state, rows=2500)
    whole = (await client.get(f"/v1/registry/models/{identifier}/metrics")).json()
    assert (whole["rows_total"], len(whole["rows"]), whole["rows"][-1]["step"]) == (2500, 1000, 2500)
    few = (await client.get(f"/v1/registry/models/{identifier}/metrics", params={"points": 2})).json()
    assert [row["step"] for row in few["rows"]] == [1, 2500]
    too_many = await client.get(f"/v1/registry/models/{identifier}/metrics", params={"points": 1001})
    assert_problem(too_many, 422, pointers=["/points"])


async def test_what_is_not_there_is_a_404(client: httpx2.AsyncClient, state: ApiState) -> None:
    bare, foreign = await registered(state, rows=0), await registered(state, "others")
    for path in (f"{foreign}", f"{foreign}/metrics", "model_none", f"{bare}/metrics"):
        assert_problem(await client.get(f"/v1/registry/models/{path}"), 404, "not_found")


async def test_presets_can_be_copied_into_a_spec(client: httpx2.AsyncClient) -> None:
    items = (await client.get("/v1/registry/training-presets")).json()["items"]
    assert "janus-sft" in {item["name"] for item in items}
    for item in items:
        assert yaml.safe_load(item["yaml"]) == item["values"]
        TrainParameters.model_validate(
            {"preset": item["name"], "method": "sft", "base": {"hub": "a/b"}} | item["values"]
        )


async def test_a_model_is_pulled_with_its_own_files_alone(settings: Settings, state: ApiState, tmp_path: Path) -> None:
    whole, adapters = await registered(state), await registered(state, adapter_only=True)
    with running_server(settings) as url:
        client = ApiClient(url, "mf_test-admin-key-that-is-long-enough-0123456789")
        assert pull_model(client, whole, tmp_path / "whole") == [tmp_path / "whole" / "config.json"]
        assert (tmp_path / "whole" / "config.json").read_bytes() == CONFIG
        assert [path.name for path in pull_model(client, adapters, tmp_path / "apart")] == ["adapter_config.json"]
