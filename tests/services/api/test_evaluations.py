"""Evaluations over HTTP: a short body becomes a job, and what the job's last stage made is read back."""

import re
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import yaml

from services.api.evaluation_views import EvaluationRequest
from services.api.state import ApiState
from shared.domain.jobs import JobSpec
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import Job
from tests.services.api.benches import bench_of_job
from tests.services.api.support import add_artifact, assert_problem, submit_directly
from tests.support.benches import bench_facet, bench_row

MODEL = {"provider": "simulator", "model": "simulator-large"}
JANUS: dict[str, Any] = {"name": "janus", "candidate": MODEL, "decoding": {"repetition_penalty": None}}
SMALL = {**JANUS, "name": "small", "candidate": {"provider": "simulator", "model": "simulator-small"}}
ABSOLUTE = {"absolute": {"runs": 2}}
PAGE = Path(__file__).parents[3] / "docs" / "benches.md"
ROWS = [bench_row(0, bench_facet(0), bench_facet(1)), bench_row(1, bench_facet(0))]


@pytest.fixture
async def bench(state: ApiState, tmp_path: Path) -> str:
    return await bench_of_job(state, tmp_path, ROWS)


def short(bench: str, **changes: Any) -> dict[str, Any]:
    return {"bench": bench, "candidates": [JANUS], "judge": MODEL, "evaluate": ABSOLUTE, **changes}


async def evaluating(state: ApiState, bench: str) -> Job:
    """A stored job that evaluates, made of nothing but its spec."""
    return await submit_directly(
        state,
        sources=[],
        teacher=None,
        questions={"bench": bench},
        answer=[JANUS],
        judge=MODEL,
        evaluate=ABSOLUTE,
    )


async def test_a_short_body_becomes_the_job_that_it_is_short_for(client: httpx2.AsyncClient, bench: str) -> None:
    body = short(bench, name="first", candidates=[JANUS, SMALL], seed=7, budget_usd=100)
    answer = await client.post("/v1/evaluations", json=body)
    assert answer.status_code == 202, answer.text
    view = answer.json()
    job = view["job"]
    assert answer.headers["location"] == f"/v1/evaluations/{job['id']}"
    assert (view["evaluation"], view["files"]) == (None, [])
    spec = JobSpec.model_validate(job["spec"])
    assert spec == JobSpec.model_validate(
        {
            "name": "first",
            "questions": {"bench": bench},
            "answer": [JANUS, SMALL],
            "judge": MODEL,
            "evaluate": ABSOLUTE,
            "seed": 7,
            "budget_usd": 100,
        }
    )
    names = [stage["name"] for stage in job["stages"]]
    assert names == ["select", "janus", "small", "judge-janus", "judge-small", "evaluate", "report"]
    assert (await client.get(f"/v1/evaluations/{job['id']}")).json()["job"]["id"] == job["id"]


async def test_a_teacher_writes_rubrics_where_the_questions_have_none(
    client: httpx2.AsyncClient, state: ApiState, bench: str
) -> None:
    questions = {"bench": bench, "maximum_rows": 1}
    body = short(bench, name="with rubrics", teacher=MODEL, questions=questions)
    del body["bench"]
    answer = await client.post("/v1/evaluations", json=body)
    assert answer.status_code == 202, answer.text
    spec = answer.json()["job"]["spec"]
    assert (spec["bench"]["name"], spec["teacher"]["model"]) == ("with rubrics", "simulator-large")
    assert spec["questions"]["maximum_rows"] == 1
    assert "rubric" in [stage["name"] for stage in answer.json()["job"]["stages"]]


async def test_the_same_key_gives_the_same_evaluation(client: httpx2.AsyncClient, bench: str) -> None:
    headers = {"Idempotency-Key": f"key-{bench}"}
    first = await client.post("/v1/evaluations", json=short(bench), headers=headers)
    again = await client.post("/v1/evaluations", json=short(bench), headers=headers)
    assert first.status_code == again.status_code == 202
    assert first.json()["job"]["id"] == again.json()["job"]["id"]
    other = await client.post("/v1/evaluations", json=short(bench, seed=1), headers=headers)
    assert_problem(other, 422)


async def test_the_estimate_counts_every_verdict(client: httpx2.AsyncClient, bench: str) -> None:
    estimate = (await client.post("/v1/evaluations/estimate", json=short(bench))).json()
    calls = {stage["stage"]: stage["calls"] for stage in estimate["stages"]}
    assert calls["janus"] == 3
    assert calls["judge-janus"] > 3 * 2


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"bench": None}, "/questions"),
        ({"questions": {"suite": "facts"}}, "/questions"),
        ({"bench": "bench_none"}, "/bench"),
        ({"candidates": []}, "/candidates"),
        ({"candidates": [JANUS, JANUS]}, "/candidates"),
        ({"candidates": [{**JANUS, "candidate": {"deployment": "nobody"}}]}, "/candidates/0/candidate/deployment"),
        ({"candidates": [{**JANUS, "samples": 2}]}, "/candidates/0"),
        ({"judge": None}, "/judge"),
        ({"judge": {"provider": "nobody", "model": "m"}}, "/judge/provider"),
        ({"evaluate": {"pairwise": {"baseline": "nobody"}}}, "/evaluate"),
        ({"evaluate": {"absolut": {}}}, "/evaluate/absolut"),
        ({"budget_usd": 1e-9}, "/budget_usd"),
        ({"sources": []}, "/sources"),
    ],
)
async def test_what_cannot_be_evaluated_is_refused_where_the_body_says_it(
    client: httpx2.AsyncClient, bench: str, change: dict[str, Any], pointer: str
) -> None:
    body = short(bench) | change
    assert_problem(await client.post("/v1/evaluations", json=body), 422, pointers=[pointer])
    if "budget_usd" not in change:
        assert_problem(await client.post("/v1/evaluations/estimate", json=body), 422, pointers=[pointer])


async def test_a_budget_below_the_estimate_says_how_to_ask_less(client: httpx2.AsyncClient, bench: str) -> None:
    refused = await client.post("/v1/evaluations", json=short(bench, budget_usd=1e-6))
    problem = assert_problem(refused, 422, "budget_below_estimate")
    assert "for what is asked" in problem["detail"]
    assert "questions.maximum_rows" in problem["detail"]


async def test_an_evaluation_is_listed_and_shows_its_figures_once_they_are_there(
    client: httpx2.AsyncClient, state: ApiState, bench: str, tmp_path: Path
) -> None:
    other = await submit_directly(state)
    job = await evaluating(state, bench)
    listed = (await client.get("/v1/evaluations", params={"limit": 1})).json()
    (one,) = listed["items"]
    assert (one["id"], one["candidates"], one["judge"], one["bench"]) == (job.id, ["janus"], MODEL, bench)
    assert (one["evaluate_state"], one["incomplete"], one["headline"]) == ("pending", None, None)
    figures = {"schema_version": "evaluation/1", "candidates": []}
    path = tmp_path / "evaluation.json"
    path.write_bytes(orjson.dumps(figures))
    identifier = await add_artifact(state, job, "evaluate", "evaluation.json", path, media_type="application/json")
    async with state.transaction() as session:
        stages = await JobRepository(session).stages(job.id)
        stage = next(stage for stage in stages if stage.name == "evaluate")
        stage.state, stage.summary = "succeeded", {"incomplete": True}
    (one,) = (await client.get("/v1/evaluations", params={"limit": 1})).json()["items"]
    assert (one["evaluate_state"], one["incomplete"]) == ("succeeded", True)
    view = (await client.get(f"/v1/evaluations/{job.id}")).json()
    assert view["evaluation"] == figures
    assert [(file["id"], file["name"]) for file in view["files"]] == [(identifier, "evaluation.json")]
    listed = [one["id"] for one in (await client.get("/v1/evaluations", params={"limit": 200})).json()["items"]]
    assert job.id in listed
    assert other.id not in listed
    assert_problem(await client.get(f"/v1/evaluations/{other.id}"), 404, "not_found")
    assert_problem(await client.get("/v1/evaluations/job_none"), 404, "not_found")
    async with state.transaction() as session:
        key = (await session.get_one(Job, job.id)).project_id
    await state.store.delete(f"artifacts/{key}/{job.id}/00-evaluate/evaluation.json")
    lost = await state.objects.close()
    assert lost is None
    assert_problem(await client.get(f"/v1/evaluations/{job.id}"), 410)


def test_the_specs_that_the_documentation_shows_are_taken() -> None:
    job, evaluation = (
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    )
    assert JobSpec.model_validate(job).bench is not None
    spec = EvaluationRequest.model_validate(evaluation).spec()
    assert spec.evaluate is not None
    assert spec.asked.bench == evaluation["bench"]
