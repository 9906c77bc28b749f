"""Jobs that train, through real processes with a toy in place of the training: models, stops, crashes, progress."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts.directory import DirectoryStore
from shared.domain.jobs import JobSpec
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import Job
from tests.support.control_plane import PROJECT, ControlPlane

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ATTEMPTS = (
    "SELECT attempt.state, attempt.error->>'code' FROM attempt JOIN step ON step.id = step_id "
    "WHERE job_id = %s AND queue = 'training' ORDER BY attempt.id"
)
SHOWN = "SELECT count(*) > 0 FROM stage WHERE job_id = %s AND name = 'sft' AND work->>'note' = 'step 5'"
SFT: dict[str, Any] = {
    "name": "sft",
    "method": "sft",
    "base": {"random": "tiny-mistral"},
    "data": {"file": "file_1"},
}


@pytest.fixture
def plane(postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[ControlPlane]:
    plane = ControlPlane(
        postgres_url, redis_url, tmp_path, MULTIFACET_LEASE_SECONDS="20", MULTIFACET_CANCEL_GRACE_SECONDS="20"
    )
    yield plane
    plane.close()


async def submitted(plane: ControlPlane, name: str, *trainings: dict[str, Any]) -> Job:
    stored = await DirectoryStore(plane.folder / "artifacts").put_bytes("uploads/tests/file_1/mine.jsonl", b"{}")
    plane.rows("INSERT INTO project (id) VALUES (%s) ON CONFLICT DO NOTHING RETURNING id", PROJECT)
    plane.rows(
        "INSERT INTO uploaded_file (id, project_id, name, key, sha256, size) VALUES ('file_1', %s, 'mine.jsonl', %s, %s, %s) "
        "ON CONFLICT DO NOTHING RETURNING id",
        PROJECT, stored.key, stored.sha256, stored.size,
    )  # fmt: skip
    return await plane.submit(JobSpec.model_validate({"name": name, "train": trainings or (SFT,)}))


def counters(plane: ControlPlane, job: Job) -> tuple[Any, ...]:
    query = "SELECT failures, losses FROM step WHERE job_id = %s AND queue = 'training'"
    (row,) = plane.rows(query, job.id)
    return row


async def test_trainings_build_on_each_other_and_register_their_models(plane: ControlPlane) -> None:
    plane.start_controller()
    plane.start_worker()
    dpo = SFT | {"name": "dpo", "method": "dpo", "base": {"stage": "sft"}}
    job = await submitted(plane, "two", SFT, dpo)
    done = await plane.wait(job.id, 120)
    assert (done.state, done.error) == ("succeeded", None), plane.logs()
    models = plane.rows(
        "SELECT stage, method, lineage, metrics FROM registered_model WHERE job_id = %s ORDER BY id", job.id
    )
    assert [(stage, method) for stage, method, _, _ in models] == [("sft", "sft"), ("dpo", "dpo")]
    config, key = plane.rows("SELECT id, key FROM artifact WHERE stage = 'sft' AND kind = 'model'")[0]
    lineage = models[1][2]
    assert (lineage["inputs"], lineage["rows"]) == (["file_1", config], 1)
    assert lineage["parameters"]["base"]["stage"] == "sft"
    root = plane.folder / "artifacts"
    assert (root / key).read_text() == "upload/file_1"
    (read,) = plane.rows("SELECT key FROM artifact WHERE stage = 'dpo' AND kind = 'model'")
    assert (root / read[0]).read_text() == "upload/file_1 base/model/config.json"
    steps = plane.rows(
        "SELECT data->>'stage', data->>'step' FROM event WHERE job_id = %s AND type = 'train.metrics' ORDER BY sequence",
        job.id,
    )
    assert steps == [(stage, str(step)) for stage in ("sft", "dpo") for step in range(1, 6)]
    (report,) = plane.rows("SELECT lineage FROM artifact WHERE job_id = %s AND name = 'report.html'", job.id)
    assert config not in report[0]["inputs"]


@pytest.mark.long
async def test_a_training_that_gets_further_with_every_crash_is_not_poisoned(plane: ControlPlane) -> None:
    plane.start_controller()
    plane.start_worker()
    job = await submitted(plane, "crash on the way")
    done = await plane.wait(job.id, 150)
    assert (done.state, done.error) == ("succeeded", None), plane.logs()
    assert [state for state, _ in plane.rows(ATTEMPTS, job.id)] == ["failed"] * 4 + ["succeeded"]
    assert plane.value("SELECT count(*) FROM registered_model WHERE job_id = %s", job.id) == 1


async def test_a_training_that_crashes_without_getting_anywhere_is_poisoned(plane: ControlPlane) -> None:
    plane.start_controller()
    plane.start_worker()
    done = await plane.wait((await submitted(plane, "stuck")).id, 120)
    assert done.error is not None
    assert (done.state, done.error["code"], done.error["stage"]) == ("failed", "poisoned", "sft")


async def test_a_worker_that_leaves_lets_a_training_save_itself_and_another_goes_on(plane: ControlPlane) -> None:
    plane.start_controller()
    worker = plane.start_worker()
    job = await submitted(plane, "slow")
    await plane.wait_for(SHOWN, job.id, seconds=90)
    shown = plane.rows(
        "SELECT data->'work' FROM event WHERE job_id = %s AND type = 'stage.progress' ORDER BY sequence DESC LIMIT 1",
        job.id,
    )
    assert shown == [({"done": 5, "total": 10, "note": "step 5"},)]
    plane.kill(worker, signal.SIGTERM)
    assert plane.rows(ATTEMPTS, job.id) == [("preempted", "preempted")]
    plane.start_worker()
    done = await plane.wait(job.id, 120)
    assert (done.state, done.error) == ("succeeded", None), plane.logs()
    assert [state for state, _ in plane.rows(ATTEMPTS, job.id)] == ["preempted", "succeeded"]
    assert counters(plane, job) == (0, 0)
    assert plane.value("SELECT work IS NULL FROM stage WHERE job_id = %s AND name = 'sft'", job.id)


async def test_a_cancelled_training_saves_itself_and_a_retry_goes_on_from_there(plane: ControlPlane) -> None:
    plane.start_controller()
    plane.start_worker()
    job = await submitted(plane, "slow to cancel")
    await plane.wait_for(SHOWN, job.id, seconds=90)
    async with plane.sessions() as session, session.begin():
        await JobRepository(session).request_cancel(PROJECT, job.id)
    assert (await plane.wait(job.id)).state == "cancelled"
    assert plane.rows(ATTEMPTS, job.id) == [("cancelled", "cancelled")]
    assert (plane.folder / "artifacts" / "checkpoints" / job.id / "sft").read_text() == "5"
    async with plane.sessions() as session, session.begin():
        await JobRepository(session).retry(PROJECT, job.id)
    assert (await plane.wait(job.id, 120)).state == "succeeded", plane.logs()
