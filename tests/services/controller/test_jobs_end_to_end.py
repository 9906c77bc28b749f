"""Whole jobs through real processes: PostgreSQL, Redis, a controller, a worker, children; the handlers are toys."""

import asyncio
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts.directory import DirectoryStore
from shared.artifacts.tables import read_rows
from shared.domain.ledger import Ledger
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.events import EventRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import Artifact, Job, Stage
from tests.support.control_plane import PROJECT, ControlPlane, toy_spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STAGES = ["curate", "augment", "compose", "respond", "assemble", "report"]


@pytest.fixture(scope="module")
def plane(postgres_url: str, redis_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    folder = tmp_path_factory.mktemp("plane")
    # A long lease: on a busy machine a child's start must not look like a dead worker here.
    plane = ControlPlane(postgres_url, redis_server.url, folder, MULTIFACET_LEASE_SECONDS="20", TOY_ROW_SECONDS="0.3")
    plane.start_controller()
    plane.start_worker()
    yield plane
    plane.close()


async def run(plane: ControlPlane, name: str, rows: int = 32, **more: Any) -> Job:
    job = await plane.submit(toy_spec(name, rows, **more))
    return await plane.wait(job.id, 150)


async def stages_of(plane: ControlPlane, job: Job) -> dict[str, Stage]:
    async with plane.sessions() as session:
        return {stage.name: stage for stage in await JobRepository(session).stages(job.id)}


async def artifacts_of(plane: ControlPlane, job: Job) -> list[Artifact]:
    async with plane.sessions() as session:
        return await ArtifactRepository(session).list(PROJECT, job.id)


def ledger(stage: Stage) -> Ledger:
    return Ledger(**stage.ledger)


async def test_a_job_runs_to_its_end_and_every_count_and_hash_adds_up(plane: ControlPlane) -> None:
    job = await run(plane, "whole", rows=70)
    assert (job.state, job.error) == ("succeeded", None), plane.logs()
    stages = await stages_of(plane, job)
    assert [(stage.state, stage.steps_succeeded) for stage in stages.values()] == [
        ("succeeded", 1), ("succeeded", 5), ("succeeded", 5), ("succeeded", 5), ("succeeded", 1), ("succeeded", 1)
    ]  # fmt: skip
    for name in ("augment", "compose", "respond"):
        assert ledger(stages[name]) == Ledger(70, 70, 0, 210, 210, 0, {})
        assert stages[name].rows_expected == 70
    assert stages["report"].summary == {"stages": sorted(STAGES[:5]), "simulator": True}
    assert stages["curate"].summary == {"uploads": []}

    artifacts = await artifacts_of(plane, job)
    root = plane.folder / "artifacts"
    for artifact in artifacts:
        if artifact.name != "README.md":
            assert sha256((root / artifact.key).read_bytes()).hexdigest() == artifact.sha256
    parts = [a for a in artifacts if a.stage == "respond" and a.name.startswith("part-")]
    rows = [row for part in parts for row in read_rows(root / part.key)]
    assert [row.source_row for row in rows] == list(range(70))
    assert all(facet.response for row in rows for facet in row.facets)

    manifest = json.loads((root / (stages["augment"].manifest_key or "")).read_bytes())
    assert [part["name"] for part in manifest["parts"]] == [f"part-{n:05d}.parquet" for n in range(5)]
    assert manifest["prompts"] == {"toy": ["0123456789ab"]}
    assert manifest["parameters"]["sets_per_instruction"] == 3
    assert sum(part["rows"] for part in manifest["parts"]) == 70
    curated = {a.id for a in artifacts if a.stage == "curate"}
    assert all(set(part["inputs"]) <= curated for part in manifest["parts"])
    index = json.loads((root / f"artifacts/{PROJECT}/{job.id}/index.json").read_bytes())
    assert index["state"] == "succeeded"
    assert {item["key"] for item in index["objects"]} == {a.key for a in artifacts if a.name != "index.json"}

    async with plane.sessions() as session:
        events = await EventRepository(session).since(job.id, 0, 1000)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    job_states = [event.data["state"] for event in events if event.type == "job.state"]
    assert job_states == ["queued", "running", "succeeded"]
    finished = [e.data["stage"] for e in events if e.type == "stage.state" and e.data["state"] == "succeeded"]
    assert sorted(finished, key=STAGES.index) == STAGES
    assert events[-1].type == "job.state"


async def test_stop_after_ends_the_job_there(plane: ControlPlane) -> None:
    job = await run(plane, "front", stop_after="augment")
    assert job.state == "succeeded"
    assert list(await stages_of(plane, job)) == ["curate", "augment"]


async def test_a_handlers_fault_rejects_the_row_and_keeps_the_text_out(plane: ControlPlane) -> None:
    job = await run(plane, "bug", max_reject_rate=0.6, stop_after="respond")
    assert job.state == "succeeded"
    composed = ledger((await stages_of(plane, job))["compose"])
    assert composed == Ledger(32, 16, 16, 96, 48, 48, {"internal_error": 48})
    responded = ledger((await stages_of(plane, job))["respond"])
    assert responded == Ledger(16, 16, 0, 48, 48, 0, {})
    assert "must not be kept" not in plane.logs()
    root = plane.folder / "artifacts"
    details = {
        facet.rejection.detail
        for artifact in await artifacts_of(plane, job)
        if artifact.stage == "compose" and artifact.name.startswith("part-")
        for row in read_rows(root / artifact.key)
        for facet in row.facets
        if facet.rejection
    }
    assert details == {"ValueError"}


async def test_too_many_rejections_fail_the_job_and_keep_what_was_made(plane: ControlPlane) -> None:
    job = await run(plane, "reject", rows=40)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == "too_many_rejected"
    assert "max_reject_rate 0.5" in job.error["message"]
    assert "toy_reason" in job.error["message"]
    stages = await stages_of(plane, job)
    assert (stages["augment"].state, stages["compose"].state, stages["assemble"].state) == (
        "succeeded",
        "failed",
        "skipped",
    )
    assert {a.stage for a in await artifacts_of(plane, job)} >= {"curate", "augment", "compose", "job"}


@pytest.mark.parametrize(
    ("name", "code", "attempts"),
    [("crash", "poisoned", 3), ("raise", "poisoned", 3), ("refuse", "input_refused", 1)],
)
async def test_broken_children(plane: ControlPlane, name: str, code: str, attempts: int) -> None:
    job = await run(plane, name)
    assert job.state == "failed"
    assert job.error is not None
    assert (job.error["code"], job.error["stage"]) == (code, "curate")
    if name == "refuse":
        assert job.error["pointer"] == "/sources/0"
        assert job.error["message"] == "the toy refuses this source"
    assert "must not be kept" not in json.dumps(job.error) + plane.logs()
    query = "SELECT count(*) FROM attempt JOIN step ON step.id = step_id WHERE job_id = %s"
    assert plane.value(query, job.id) == attempts


async def test_a_deferred_step_runs_again_without_using_up_a_retry(plane: ControlPlane) -> None:
    job = await run(plane, "defer", rows=16, stop_after="augment")
    assert job.state == "succeeded"
    query = "SELECT sum(failures), sum(losses), max(dispatch_no) > 1 FROM step WHERE job_id = %s"
    assert plane.rows(query, job.id) == [(0, 0, True)]


async def test_a_cancel_keeps_finished_parts_and_a_retry_goes_on_from_there(plane: ControlPlane) -> None:
    job = await plane.submit(toy_spec("slow cancel", 160, stop_after="respond"))
    await plane.wait_for(
        "SELECT count(*) > 0 FROM artifact WHERE job_id = %s AND stage = 'augment'", job.id, seconds=60
    )
    async with plane.sessions() as session, session.begin():
        await JobRepository(session).request_cancel(PROJECT, job.id)
    cancelled = await plane.wait(job.id)
    assert cancelled.state == "cancelled"
    stages = await stages_of(plane, job)
    assert (stages["curate"].state, stages["respond"].state) == ("succeeded", "cancelled")
    kept = {a.key for a in await artifacts_of(plane, job) if a.stage != "job"}
    assert plane.value("SELECT count(*) FROM step WHERE job_id = %s AND state = 'running'", job.id) == 0

    async with plane.sessions() as session, session.begin():
        await JobRepository(session).retry(PROJECT, job.id)
    again = await plane.wait(job.id, 150)
    assert (again.state, again.run_no) == ("succeeded", 2)
    assert kept <= {a.key for a in await artifacts_of(plane, job)}
    assert ledger((await stages_of(plane, job))["respond"]).rows_out == 160
    winners = (
        "SELECT max(count) FROM (SELECT count(*) FROM attempt JOIN step ON step.id = step_id "
        "WHERE job_id = %s AND attempt.state = 'succeeded' GROUP BY step_id) AS c"
    )
    assert plane.value(winners, job.id) == 1


async def test_a_cancel_kills_a_child_with_all_its_processes(plane: ControlPlane) -> None:
    job = await plane.submit(toy_spec("sleep"))
    await plane.wait_for(
        "SELECT progress IS NOT NULL FROM step WHERE job_id = %s AND state = 'running'", job.id, seconds=90
    )
    async with plane.sessions() as session, session.begin():
        await JobRepository(session).request_cancel(PROJECT, job.id)
    assert (await plane.wait(job.id)).state == "cancelled"
    for _ in range(100):
        if not children_of(plane):
            break
        await asyncio.sleep(0.1)
    assert children_of(plane) == []


async def test_a_deadline_fails_the_job(plane: ControlPlane) -> None:
    job = await run(plane, "sleep until the deadline", deadline_seconds=1)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == "deadline_exceeded"


async def test_uploads_reach_the_curation_step_and_a_missing_one_is_refused(plane: ControlPlane) -> None:
    store = DirectoryStore(plane.folder / "artifacts")
    stored = await store.put_bytes("uploads/tests/file_1/mine.jsonl", b'{"a": 1}\n')
    plane.rows(
        "INSERT INTO uploaded_file (id, project_id, name, key, sha256, size) "
        "VALUES ('file_1', %s, 'mine.jsonl', %s, %s, %s) RETURNING id",
        PROJECT, stored.key, stored.sha256, stored.size,
    )  # fmt: skip
    job = await run(plane, "upload", sources=[{"file": "file_1"}], stop_after="curate")
    assert (await stages_of(plane, job))["curate"].summary == {"uploads": ["mine.jsonl: 9"]}
    refused = await run(plane, "upload", sources=[{"bundled": "demo"}, {"file": "file_2"}])
    assert refused.error is not None
    assert (refused.error["code"], refused.error["pointer"]) == ("input_refused", "/sources/1/file")


def children_of(plane: ControlPlane) -> list[str]:
    """Command lines of children of whole steps that belong to this plane."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "shared.stages.child" in command and str(plane.folder) in command:
            found.append(command)
    return found
