"""A job whose artifacts were removed because of their age says so wherever somebody asks for them."""

from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

from services.api.state import ApiState
from shared.metadata.tables import Job
from shared.operations.garbage import Ages, Collector
from tests.services.api.support import add_artifact, assert_problem, job_with_rows


@pytest.fixture
async def emptied(state: ApiState, tmp_path: Path) -> tuple[Job, str]:
    """A job that ended long ago and lost what it made, and the id of an artifact that is gone."""
    job = await job_with_rows(state, tmp_path)
    gone = await add_artifact(state, job, "curate", "part-00099.parquet", _file(tmp_path, "rows"), rows=1)
    page = _file(tmp_path, "report")
    await add_artifact(state, job, "report", "report.html", page, media_type="text/html", job_level=True)
    async with state.transaction() as session:
        await session.execute(
            sa.text(
                "UPDATE job SET state = 'failed', finished_at = now(), settled_at = now() - interval '1 year' WHERE id = :id"
            ),
            {"id": job.id},
        )
    collector = Collector(state.sessions, state.store, Ages(artifacts=86_400.0))
    assert [await collector.remove(removal) async for removal in collector.find() if removal.subject == job.id] == [
        True
    ]
    return job, gone


def _file(folder: Path, content: str) -> Path:
    path = folder / content
    path.write_text(content)
    return path


async def test_the_record_stays_and_the_bytes_are_gone_with_a_reason(
    client: httpx2.AsyncClient, emptied: tuple[Job, str]
) -> None:
    job, gone = emptied
    record = (await client.get(f"/v1/artifacts/{gone}")).json()
    assert record["removed_at"] is not None
    problem = assert_problem(await client.get(f"/v1/artifacts/{gone}/content"), 410, "artifact_removed")
    assert "because of their age" in problem["detail"]
    assert (await client.head(f"/v1/artifacts/{gone}/content")).status_code == 410
    view = (await client.get(f"/v1/jobs/{job.id}")).json()
    assert view["artifacts_removed_at"] is not None
    listed = (await client.get(f"/v1/jobs/{job.id}/artifacts")).json()["items"]
    assert {item["kind"] for item in listed} == {"report"}
    assert (await client.get(f"/v1/artifacts/{listed[0]['id']}/content")).text == "report"


async def test_data_sets_that_are_gone_are_410_and_the_job_is_not_retried(
    client: httpx2.AsyncClient, emptied: tuple[Job, str]
) -> None:
    job, _ = emptied
    assert (await client.get(f"/v1/jobs/{job.id}/datasets")).json()["items"] == []
    for path in ("rows", "facets"):
        assert_problem(await client.get(f"/v1/jobs/{job.id}/datasets/{path}"), 410, "artifact_removed")
    assert_problem(await client.post(f"/v1/jobs/{job.id}/retry"), 409, "job_conflict")


async def test_its_pages_say_so(client: httpx2.AsyncClient, emptied: tuple[Job, str]) -> None:
    job, _ = emptied
    page = await client.get(f"/jobs/{job.id}")
    assert page.status_code == 200
    assert "because of its age" in page.text
    assert "/retry" not in page.text
    data = await client.get(f"/jobs/{job.id}/data")
    assert data.status_code == 200
    assert "because of their age" in data.text


async def test_a_new_job_on_its_data_is_refused_with_the_place(
    client: httpx2.AsyncClient, state: ApiState, emptied: tuple[Job, str]
) -> None:
    job, _ = emptied
    async with state.transaction() as session:
        await session.execute(sa.text("UPDATE job SET state = 'succeeded' WHERE id = :id"), {"id": job.id})
    training = {"name": "sft", "method": "sft", "base": {"random": "tiny-mistral"}, "data": {"job": job.id}}
    answer = await client.post("/v1/jobs", json={"name": "again", "train": [training]})
    problem = assert_problem(answer, 422, "input_refused")
    assert problem["errors"][0]["pointer"] == "/train/0/data/job"
    assert "because of its age" in problem["detail"]
