"""The pages of registered models lead to where a model comes from, and call a trial a trial."""

import re
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from services.api.app import create_key
from services.api.state import ApiState
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.settings import Settings
from tests.services.api.support import client_of
from tests.services.api.trainings import register, store_files, trained_job, training_job


def _text(page: str) -> str:
    main = page.split("<main")[1]
    return " ".join(re.sub(r"<script.*?</script>|<[^>]*>", " ", main, flags=re.DOTALL).split())


async def test_another_projects_models_are_not_shown_and_the_page_says_how_one_is_made(
    app: FastAPI, state: ApiState, settings: Settings
) -> None:
    model = await register(state, await training_job(state))
    key = await create_key(settings, "elsewhere", "test", ["read"])
    async with client_of(app, key) as stranger:
        page = (await stranger.get("/models")).text
        assert '<a href="/models" aria-current="page">Models</a>' in page
        assert "preset: smoke-cpu" in page
        assert "<table" not in page
        assert (await stranger.get(f"/models/{model}")).status_code == 404


async def test_the_list_tells_method_base_size_and_result_and_leads_to_model_and_job(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    job, models = await trained_job(state, tmp_path)
    page = (await client.get("/models")).text
    for stage in ("sft", "dpo"):
        assert f'<a href="/models/{models[stage]}">tiny-{stage}</a>' in page
    assert f'<a href="/jobs/{job.id}">trained</a>' in page
    assert re.search(
        r"tiny-sft sft full tiny-mistral with random weights 1.23 M .* 1.7123 – trained \d{4}-", _text(page)
    )


async def test_the_list_goes_on_where_the_page_before_ended(client: httpx2.AsyncClient, state: ApiState) -> None:
    jobs = [await training_job(state, f"job {number}") for number in range(26)]
    for job in jobs:
        await register(state, job, "sft", name="<b>one</b>")
        await register(state, job, "dpo")
    first = (await client.get("/models")).text
    assert "<b>one" not in first
    older = re.search(r'href="(/models\?before=model_\w+)"', first)
    assert older is not None
    second = (await client.get(older[1])).text
    ids = [re.findall(r'href="/models/(model_\w+)"', page) for page in (first, second)]
    assert len(ids[0]) == 50
    assert not set(ids[0]) & set(ids[1])


async def test_a_model_links_its_job_its_data_its_base_and_its_files(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    job, models = await trained_job(state, tmp_path)
    page = (await client.get(f"/models/{models['dpo']}")).text
    for link in (f"/jobs/{job.id}", f"/jobs/{job.id}/data", f"/models/{models['sft']}"):
        assert f'href="{link}"' in page
    assert f"base: {{registry: {models['dpo']}}}" in page
    assert f"multifacet models pull {models['dpo']} FOLDER" in page
    async with state.transaction() as session:
        files = await ArtifactRepository(session).list(job.project_id, job.id, stage="dpo")
    shown = {item.name for item in files if f"/v1/artifacts/{item.id}/content" in page}
    assert shown == {
        "metrics.jsonl",
        "model/config.json",
        "model/model.safetensors",
        "preview.html",
        "training.json",
    }
    assert "Rows as tokens" in page


async def test_a_model_shows_curves_of_its_logged_steps_and_its_figures(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    _, models = await trained_job(state, tmp_path)
    for stage, curves in (("sft", 4), ("dpo", 6)):
        page = (await client.get(f"/models/{models[stage]}")).text
        assert page.count("data-figure=") == curves
        assert "plotly.min.js" in page
        assert "loss 1.5337 1.7123" in _text(page)
        assert "learning_rate 0.001" in _text(page)


@pytest.mark.parametrize("gone", ["row", "bytes"])
async def test_a_model_whose_steps_are_gone_has_a_page_without_curves(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path, gone: str
) -> None:
    job = await training_job(state)
    model = await register(state, job)
    if gone == "bytes":
        await store_files(state, job, tmp_path)
        async with state.transaction() as session:
            files = await ArtifactRepository(session).list(job.project_id, job.id, stage="sft")
        await state.store.delete(next(item.key for item in files if item.name == "metrics.jsonl"))
    answer = await client.get(f"/models/{model}")
    assert answer.status_code == 200
    assert "no curves" in answer.text
    assert "plotly" not in answer.text


@pytest.mark.parametrize("trial", [True, False])
async def test_a_model_that_had_random_weights_is_called_a_trial(
    client: httpx2.AsyncClient, state: ApiState, trial: bool
) -> None:
    model = await register(state, await training_job(state), lineage={"random_weights": trial})
    assert ("had random weights" in (await client.get(f"/models/{model}")).text) is trial


@pytest.mark.parametrize("simulated", [True, False])
async def test_data_of_another_job_are_linked_and_simulated_texts_are_told(
    client: httpx2.AsyncClient, state: ApiState, simulated: bool
) -> None:
    data = {"job_id": "job_other", "file_id": None, "simulator": simulated}
    model = await register(state, await training_job(state), lineage={"data": data})
    page = (await client.get(f"/models/{model}")).text
    assert '<a href="/jobs/job_other/data">the collection of job_other</a>' in page
    assert ("texts of the simulator" in page) is simulated


async def test_an_uploaded_file_is_named_and_not_linked(client: httpx2.AsyncClient, state: ApiState) -> None:
    data = {"job_id": None, "file_id": "file_1", "simulator": False}
    model = await register(state, await training_job(state), lineage={"data": data})
    page = (await client.get(f"/models/{model}")).text
    assert "on uploaded file file_1, by" in page


async def test_a_registered_base_of_another_job_is_linked(client: httpx2.AsyncClient, state: ApiState) -> None:
    model = await register(state, await training_job(state), base={"source": "registry", "name": "model_0"})
    assert '<a href="/models/model_0">registered model model_0</a>' in (await client.get(f"/models/{model}")).text


async def test_adapters_alone_are_told_and_not_offered_as_a_base(client: httpx2.AsyncClient, state: ApiState) -> None:
    model = await register(state, await training_job(state), adapter_only=True, tuning="lora")
    page = (await client.get(f"/models/{model}")).text
    assert "adapters alone" in page
    assert "Go on from it" not in page


async def test_who_is_not_logged_in_is_led_to_the_login(app: FastAPI) -> None:
    async with client_of(app, None) as nobody:
        for place in ("/models", "/models/model_1"):
            answer = await nobody.get(place)
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")


async def test_a_jobs_page_leads_to_the_models_and_the_rows_as_tokens(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    job, models = await trained_job(state, tmp_path)
    page = (await client.get(f"/jobs/{job.id}")).text
    for model in models.values():
        assert f'href="/models/{model}"' in page
    assert page.count("Rows as tokens") == 2
