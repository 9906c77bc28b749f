"""Jobs that answer, over HTTP: what is estimated, and what is refused at submission with which pointer."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.api.state import ApiState
from shared.domain.deployments import DeploymentTarget, ServerOptions
from shared.domain.states import JobState
from shared.metadata.repositories.deployments import DeploymentRepository
from shared.metadata.tables import Artifact, Job
from tests.services.api.support import SPEC, add_artifact, assert_problem, end_job, submit_directly
from tests.services.api.trainings import register

PENALTY = {"repetition_penalty": None}
SIMULATED: dict[str, Any] = {
    "name": "janus",
    "candidate": {"provider": "simulator", "model": "simulator-large"},
    "decoding": PENALTY,
}


async def model_of(state: ApiState, job: Job, folder: Path, stage: str, method: str) -> str:
    """A registered model with a file; its id."""
    path = folder / f"{stage}.json"
    path.write_bytes(b"{}")
    identifier = await add_artifact(state, job, stage, "model/config.json", path, ordinal=5)
    async with state.transaction() as session:
        (await session.get_one(Artifact, identifier)).kind = "model"
    return await register(state, job, stage, method=method)


async def finished(state: ApiState) -> Job:
    job = await submit_directly(state)
    await end_job(state, job.id)
    return job


async def test_a_collection_that_is_answered_shows_its_stages_and_what_they_cost(client: httpx2.AsyncClient) -> None:
    spec = {**SPEC, "sources": [{"bundled": "demo", "limit": 50}], "answer": [SIMULATED]}
    estimate = (await client.post("/v1/jobs/estimate", json=spec)).json()
    (stage,) = [stage for stage in estimate["stages"] if stage["stage"] == "janus"]
    assert (stage["calls"], stage["provider"]) == (5 * 3, "simulator")
    assert stage["cost_micro_usd"] > 0
    answer = await client.post("/v1/jobs", json=spec)
    assert answer.status_code == 202, answer.text
    stages = {stage["name"]: stage for stage in answer.json()["stages"]}
    assert list(stages)[5:] == ["select", "janus", "report"]
    assert stages["janus"]["parameters"]["samples"] == 1
    page = await client.get(f"/jobs/{answer.json()['id']}/live")
    assert (page.status_code, "janus" in page.text) == (200, True)


async def test_models_on_our_own_servers_cost_nothing_and_samples_multiply(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    job = await finished(state)
    model = await model_of(state, job, tmp_path, "sft", "sft")
    reward = await model_of(state, job, tmp_path, "rm", "rm")
    spec = {
        "questions": {"job": job.id, "split": "all"},
        "answer": [{"name": "janus", "candidate": {"registry": model}, "samples": 16, "reward": {"registry": reward}}],
        "budget_usd": 1,
    }
    estimate = (await client.post("/v1/jobs/estimate", json=spec)).json()
    assert (estimate["cost_micro_usd"], [stage["stage"] for stage in estimate["stages"]]) == (0, ["janus"])
    answer = await client.post("/v1/jobs", json=spec)
    assert answer.status_code == 202, answer.text
    names = [stage["name"] for stage in answer.json()["stages"]]
    assert names == ["select", f"deploy-{model}", f"deploy-{reward}", "janus", "report"]
    assert answer.json()["teacher_is_simulator"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"candidate": {"registry": "model_none"}}, "/answer/0/candidate/registry"),
        ({"candidate": {"registry": "RM"}}, "/answer/0/candidate/registry"),
        ({"candidate": {"deployment": "nobody"}}, "/answer/0/candidate/deployment"),
        ({"candidate": {"provider": "nobody", "model": "m"}}, "/answer/0/candidate/provider"),
        ({"candidate": {"provider": "simulator", "model": "m"}}, "/answer/0/candidate/model"),
        ({"decoding": {}}, "/answer/0/decoding/repetition_penalty"),
        ({"reward": {"registry": "SFT"}}, "/answer/0/reward/registry"),
        ({"reward": {"registry": "model_none"}}, "/answer/0/reward/registry"),
        ({"reward": {"deployment": "nobody"}}, "/answer/0/reward/deployment"),
        ({"reward": {"deployment": "hosted"}}, "/answer/0/reward/deployment"),
        ({"candidate": {"deployment": "hosted"}, "decoding": {}}, "/answer/0/decoding/repetition_penalty"),
        ({"samples": 2}, "/answer/0"),
    ],
)
async def test_what_an_answer_stage_cannot_have_is_refused_with_a_pointer(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path, change: dict[str, Any], pointer: str
) -> None:
    job = await finished(state)
    known = {
        "SFT": await model_of(state, job, tmp_path, "sft", "sft"),
        "RM": await model_of(state, job, tmp_path, "rm", "rm"),
    }
    async with state.transaction() as session:
        target = DeploymentTarget(provider="simulator", model="simulator-large")
        await DeploymentRepository(session).deploy(job.project_id, "hosted", target, ServerOptions())
    change = {
        name: {key: known.get(str(value), value) for key, value in part.items()} if isinstance(part, dict) else part
        for name, part in change.items()
    }
    answer = await client.post("/v1/jobs", json={**SPEC, "answer": [SIMULATED | change]})
    assert_problem(answer, 422, pointers=[pointer])


@pytest.mark.parametrize(
    ("questions", "pointer"),
    [({"job": "job_none"}, "/questions/job"), ({"file": "file_none"}, "/questions/file")],
)
async def test_questions_that_are_not_there_are_refused(
    client: httpx2.AsyncClient, questions: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/v1/jobs", json={"questions": questions, "answer": [SIMULATED]})
    assert_problem(answer, 422, pointers=[pointer])


async def test_a_job_that_failed_or_made_no_rows_to_ask_is_refused(client: httpx2.AsyncClient, state: ApiState) -> None:
    failed = await submit_directly(state)
    await end_job(state, failed.id, JobState.CANCELLED)
    short = await submit_directly(state, stop_after="augment")
    await end_job(state, short.id)
    for job in (failed, short):
        answer = await client.post("/v1/jobs", json={"questions": {"job": job.id}, "answer": [SIMULATED]})
        assert_problem(answer, 422, pointers=["/questions/job"])
