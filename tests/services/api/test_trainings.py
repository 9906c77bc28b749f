"""Jobs that train, over HTTP: what is not there is refused at submission, with a pointer."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.api.state import ApiState
from shared.domain.states import JobState
from tests.services.api.support import SPEC, add_artifact, assert_problem, end_job, submit_directly

SFT: dict[str, Any] = {"name": "sft", "method": "sft", "base": {"random": "tiny-mistral"}}


async def finished(state: ApiState, folder: Path) -> str:
    """A succeeded job with the exports of its collection; its id."""
    job = await submit_directly(state)
    path = folder / "export.parquet"
    path.write_bytes(b"x")
    for split in ("train", "test"):
        await add_artifact(state, job, "assemble", f"exports/sft/{split}.parquet", path, ordinal=4, rows=1)
    await end_job(state, job.id)
    return job.id


async def test_a_collection_with_trainings_shows_their_stages(client: httpx2.AsyncClient) -> None:
    dpo = {"name": "dpo", "method": "dpo", "base": {"stage": "sft"}}
    answer = await client.post("/v1/jobs", json={**SPEC, "train": [SFT, dpo]})
    assert answer.status_code == 202, answer.text
    stages = {stage["name"]: stage for stage in answer.json()["stages"]}
    assert list(stages)[5:] == ["sft", "dpo", "report"]
    assert (stages["dpo"]["kind"], stages["dpo"]["service"], stages["dpo"]["parameters"]["method"]) == (
        "train",
        "training",
        "dpo",
    )
    assert (await client.get(f"/jobs/{answer.json()['id']}/live")).status_code == 200


async def test_trainings_alone_cost_no_call_and_are_of_a_simulator_when_their_data_are(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    source = await finished(state, tmp_path)
    spec = {"name": "only training", "train": [SFT | {"data": {"job": source}}]}
    estimate = (await client.post("/v1/jobs/estimate", json=spec)).json()
    assert (estimate["calls"], estimate["cost_micro_usd"], estimate["stages"]) == (0, 0, [])
    answer = await client.post("/v1/jobs", json=spec)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert [stage["name"] for stage in job["stages"]] == ["sft", "report"]
    assert job["teacher_is_simulator"] is True
    page = await client.get(f"/jobs/{job['id']}/live")
    assert (page.status_code, "only training" in page.text) == (200, True)


@pytest.mark.parametrize(
    ("training", "pointer"),
    [
        ({"data": {"job": "job_none"}}, "/train/0/data/job"),
        ({"data": {"file": "file_none"}}, "/train/0/data/file"),
        ({"base": {"registry": "model_none"}}, "/train/0/base/registry"),
        ({"base": {"stage": "sft"}}, "/train"),
        ({"epochs": 0}, "/train/0/epochs"),
        ({"epoch": 1}, "/train/0/epoch"),
    ],
)
async def test_what_a_training_cannot_have_is_refused_with_a_pointer(
    client: httpx2.AsyncClient, training: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/v1/jobs", json={**SPEC, "train": [SFT | training]})
    assert_problem(answer, 422, pointers=[pointer])


async def test_data_of_a_job_that_has_not_succeeded_are_refused(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    job = await submit_directly(state)
    await end_job(state, job.id, JobState.CANCELLED)
    answer = await client.post("/v1/jobs", json={"train": [SFT | {"data": {"job": job.id}}]})
    body = assert_problem(answer, 422, pointers=["/train/0/data/job"])
    assert "is cancelled" in body["detail"]
