"""Jobs over HTTP: submission with all its checks, idempotency, paging, cancel and retry."""

import asyncio
from typing import Any

import httpx2
import pytest

from services.api.state import ApiState
from shared.domain.states import JobState
from tests.services.api.support import SPEC, assert_problem, end_job, submit_directly


async def upload(client: httpx2.AsyncClient, content: bytes, name: str = "own.jsonl") -> str:
    response = await client.post("/v1/files", files={"file": (name, content)})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def test_a_submitted_job_can_be_read_at_its_location(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json=SPEC)

    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    read = (await client.get(answer.headers["location"])).json()
    assert read["state"] == "queued"
    assert read["teacher_is_simulator"] is True
    assert read["progress"] == 0
    assert [stage["name"] for stage in read["stages"]] == [
        "curate",
        "augment",
        "compose",
        "respond",
        "assemble",
        "report",
    ]
    assert read["estimate"]["calls"] > 0
    assert read["spec"]["sources"][0]["bundled"] == "demo"


async def test_a_job_of_an_uploaded_file_is_accepted(client: httpx2.AsyncClient) -> None:
    file_id = await upload(client, b'{"question": "How do plants drink?"}\n' * 3)
    source = {"file": file_id, "mapping": {"instruction": "{question}"}}

    answer = await client.post("/v1/jobs", json={**SPEC, "sources": [source]})

    assert answer.status_code == 202, answer.text
    assert answer.json()["estimate"]["rows"] == 3


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"colour": "red"}, "/colour"),
        ({"augment": {"sets_per_instruction": 0}}, "/augment/sets_per_instruction"),
        ({"augment": {"sets": 2}}, "/augment/sets"),
        ({"teacher": {"provider": "nobody", "model": "m"}}, "/teacher/provider"),
        ({"teacher": {"provider": "simulator", "model": "gpt-9"}}, "/teacher/model"),
        ({"teacher": {"provider": "simulator"}}, "/teacher/model"),
        ({"judge": {"provider": "nobody", "model": "m"}}, "/judge/provider"),
        ({"judge": {"provider": "simulator", "model": "simulator-large"}, "stop_after": "curate"}, "/judge"),
        ({"curate": {"languages": ["en", "EN"]}}, "/curate/languages/1"),
        ({"sources": [{"bundled": "demo", "hub_split": "test"}]}, "/sources/0/hub_split"),
        ({"sources": []}, "/sources"),
        ({"sources": [{}]}, "/sources/0"),
        ({"sources": [{"bundled": "demo", "hub": "a/b"}]}, "/sources/0"),
        ({"sources": [{"bundled": "nothing"}]}, "/sources/0/bundled"),
        ({"sources": [{"file": "file_unknown"}]}, "/sources/0/file"),
        ({"sources": [{"bundled": "demo", "mapping": {"instruction": "{no_such_column}"}}]}, "/sources/0/mapping"),
        ({"sources": [{"bundled": "demo", "mapping": {"prompt": "x"}}]}, "/sources/0/mapping/prompt"),
        (
            {"sources": [{"bundled": "demo", "mapping": {"instruction": "{instruction}", "main_source": "{set}"}}]},
            "/sources/0/mapping/main_source",
        ),
        ({"taxonomy": "taxonomy_unknown"}, "/taxonomy"),
        ({"curate": {"decontaminate_against": ["file_unknown"]}}, "/curate/decontaminate_against/0"),
        ({"curate": {"minimum_characters": 100, "maximum_characters": 10}}, "/curate/minimum_characters"),
        ({"compose": {"minimum_characters": 900, "maximum_characters": 200}}, "/compose/minimum_characters"),
        ({"budget_usd": 0.000001}, "/budget_usd"),
        ({"budget_usd": 0}, "/budget_usd"),
        ({"budget_usd": 1e300}, "/budget_usd"),
        ({"deadline_seconds": 10**12}, "/deadline_seconds"),
        ({"seed": -1}, "/seed"),
        ({"name": "a\0b"}, "/name"),
        ({"respond": {"minimum_followed": 0.7}}, "/respond/minimum_followed"),
    ],
)
async def test_bad_specs_are_refused_at_the_fault(
    client: httpx2.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    for path in ("/v1/jobs", "/v1/jobs/estimate"):
        if path.endswith("estimate") and change == {"budget_usd": 0.000001}:
            continue  # an estimate is what tells the budget
        body = assert_problem(await client.post(path, json={**SPEC, **change}), 422, pointers=[pointer])
        assert len(body["detail"]) > 20


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b'{"instruction": "caf\xe9"}\n' * 3, "UTF-8"),
        (b"\xff\xfe" + '{"instruction": "x"}'.encode("utf-16-le"), "UTF-16"),
        (b'{"other": "x"}\n', "other"),
        (b"\n\n  \n", "white space"),
        (b'{"instruction": "' + b"x" * (10 << 20) + b'"}\n', "row"),
        (b"\x1f\x8b" + b"\0" * 50, "compressed"),
        (b"PAR1 and then nothing", ""),
    ],
)
async def test_unusable_files_are_refused_at_submission(client: httpx2.AsyncClient, content: bytes, word: str) -> None:
    file_id = await upload(client, content)

    answer = await client.post("/v1/jobs", json={**SPEC, "sources": [{"bundled": "demo"}, {"file": file_id}]})

    body = assert_problem(answer, 422, "input_refused")
    assert body["errors"][0]["pointer"].startswith("/sources/1")
    assert word in body["detail"]


async def test_a_budget_below_the_estimate_is_told_with_figures(client: httpx2.AsyncClient) -> None:
    estimate = (await client.post("/v1/jobs/estimate", json=SPEC)).json()
    enough = estimate["cost_micro_usd"] / 1e6

    refused = assert_problem(
        await client.post("/v1/jobs", json={**SPEC, "budget_usd": enough / 2}), 422, "budget_below_estimate"
    )

    assert refused["estimate"]["cost_micro_usd"] == estimate["cost_micro_usd"]
    assert (await client.post("/v1/jobs", json={**SPEC, "budget_usd": enough})).status_code == 202


async def test_a_budget_without_a_known_price_is_refused(client: httpx2.AsyncClient, state: ApiState) -> None:
    unpriced = state.providers.providers["simulator"].model_copy(update={"models": {"free": None}})
    state.providers.providers["unpriced"] = unpriced
    teacher = {"provider": "unpriced", "model": "free"}

    answer = await client.post("/v1/jobs", json={**SPEC, "teacher": teacher, "budget_usd": 5})

    assert_problem(answer, 422, "price_unknown", ["/budget_usd"])
    assert (await client.post("/v1/jobs", json={**SPEC, "teacher": teacher})).status_code == 202


async def test_one_key_makes_one_job_however_often_and_at_once(client: httpx2.AsyncClient) -> None:
    async def submit() -> httpx2.Response:
        return await client.post("/v1/jobs", json={**SPEC, "name": "race"}, headers={"Idempotency-Key": "key-1"})

    answers = await asyncio.gather(*(submit() for _ in range(8)))
    answers.append(await submit())

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    jobs = (await client.get("/v1/jobs", params={"limit": 200})).json()["items"]
    assert sum(job["name"] == "race" for job in jobs) == 1


async def test_a_key_used_with_another_body_is_refused(client: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": "key-2"}
    assert (await client.post("/v1/jobs", json=SPEC, headers=headers)).status_code == 202

    answer = await client.post("/v1/jobs", json={**SPEC, "name": "another"}, headers=headers)

    assert "key-2" in assert_problem(answer, 422, "input_refused")["detail"]


async def test_lists_are_paged_newest_first_and_filtered_by_state(client: httpx2.AsyncClient, state: ApiState) -> None:
    made = [(await submit_directly(state, name="paged")).id for _ in range(5)]
    await end_job(state, made[2])

    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await client.get("/v1/jobs", params={"limit": 2, **cursor})).json()
        assert len(page["items"]) <= 2
        seen += [job["id"] for job in page["items"] if job["name"] == "paged"]
        if page["next"] is None:
            break
        cursor = {"before": page["next"]}

    assert seen == made[::-1]
    done = (await client.get("/v1/jobs", params={"state": "succeeded"})).json()["items"]
    assert [job["id"] for job in done] == [made[2]]


async def test_cancel_is_heard_and_may_be_repeated(client: httpx2.AsyncClient, state: ApiState) -> None:
    job = await submit_directly(state)

    first = await client.post(f"/v1/jobs/{job.id}/cancel")
    second = await client.post(f"/v1/jobs/{job.id}/cancel")

    assert (first.status_code, first.json()["state"]) == (202, "cancelling")
    assert (second.status_code, second.json()["state"]) == (202, "cancelling")


async def test_what_the_state_forbids_is_a_conflict(client: httpx2.AsyncClient, state: ApiState) -> None:
    job = await submit_directly(state)
    assert_problem(await client.post(f"/v1/jobs/{job.id}/retry"), 409, "job_conflict")
    await end_job(state, job.id)
    assert_problem(await client.post(f"/v1/jobs/{job.id}/cancel"), 409, "job_conflict")


async def test_a_failed_job_is_retried_with_a_new_budget(client: httpx2.AsyncClient, state: ApiState) -> None:
    job = await submit_directly(state)
    await end_job(state, job.id, JobState.FAILED)

    answer = await client.post(f"/v1/jobs/{job.id}/retry", json={"budget_usd": 2.5})

    assert answer.status_code == 202
    assert answer.json()["state"] == "queued"
    assert answer.json()["budget_micro_usd"] == 2_500_000
    assert answer.json()["run_no"] == 2


async def test_steps_can_be_listed_and_filtered(client: httpx2.AsyncClient, state: ApiState) -> None:
    job = await submit_directly(state)

    answer = await client.get(f"/v1/jobs/{job.id}/steps", params={"stage": "curate", "state": "ready"})

    assert answer.json() == {"items": [], "next": None}


@pytest.mark.parametrize(
    "path", ["", "/steps", "/events", "/artifacts", "/datasets", "/datasets/rows", "/datasets/facets"]
)
async def test_an_unknown_job_is_not_found(client: httpx2.AsyncClient, path: str) -> None:
    assert_problem(await client.get(f"/v1/jobs/job_unknown{path}"), 404, "not_found")


async def test_a_job_of_another_project_is_not_found(client: httpx2.AsyncClient, state: ApiState) -> None:
    job = await submit_directly(state, project_id="other")

    assert_problem(await client.get(f"/v1/jobs/{job.id}"), 404, "not_found")
    assert_problem(await client.post(f"/v1/jobs/{job.id}/cancel"), 404, "not_found")
    assert job.id not in {item["id"] for item in (await client.get("/v1/jobs")).json()["items"]}
