"""Nothing is lost and nothing is done twice when workers, the controller and the broker's memory go away in mid-job."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from shared.artifacts.tables import read_rows
from tests.support.control_plane import ControlPlane, toy_spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

RUNNING = (
    "SELECT count(*) > 0 FROM attempt JOIN step ON step.id = step_id "
    "WHERE job_id = %s AND attempt.state = 'running' AND queue = %s"
)
LEADS = (
    "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@pytest.fixture
def plane(postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[ControlPlane]:
    plane = ControlPlane(postgres_url, redis_url, tmp_path, MULTIFACET_LEASE_SECONDS="3", TOY_ROW_SECONDS="1.0")
    yield plane
    plane.close()


@pytest.mark.long
async def test_kills_and_a_wiped_broker_in_mid_job_lose_nothing(plane: ControlPlane, redis_url: str) -> None:
    broker = redis.Redis.from_url(redis_url)
    controller, worker = plane.start_controller(), plane.start_worker()
    job = await plane.submit(toy_spec("slow and attacked", 100))

    await plane.wait_for(RUNNING, job.id, "augmentation", seconds=120)
    broker.flushall()
    plane.kill(worker)
    worker = plane.start_worker()
    await plane.wait_for("SELECT count(*) > 0 FROM attempt WHERE state = 'lost'", seconds=60)

    await plane.wait_for(RUNNING, job.id, "generation", seconds=120)
    plane.kill(controller)
    broker.flushall()
    plane.start_controller()
    plane.kill(worker)
    plane.start_worker()

    done = await plane.wait(job.id, 200)
    assert (done.state, done.error) == ("succeeded", None), plane.logs()
    assert plane.rows(
        "SELECT DISTINCT count(*) FROM attempt JOIN step ON step.id = step_id "
        "WHERE job_id = %s AND attempt.state = 'succeeded' GROUP BY step_id",
        job.id,
    ) == [(1,)]
    assert plane.value("SELECT bool_and(failures = 0) FROM step WHERE job_id = %s", job.id)
    parts = plane.rows("SELECT stage, name, key, rows FROM artifact WHERE job_id = %s AND name LIKE 'part-%%'", job.id)
    assert len({(stage, name) for stage, name, _, _ in parts}) == len(parts)
    for stage in ("curate", "augment", "compose", "respond"):
        mine = sorted((name, key) for found, name, key, _ in parts if found == stage)
        rows = [row.source_row for _, key in mine for row in read_rows(plane.folder / "artifacts" / key)]
        assert rows == list(range(100)), stage
    sequences = [row[0] for row in plane.rows("SELECT sequence FROM event WHERE job_id = %s ORDER BY 1", job.id)]
    assert sequences == list(range(1, len(sequences) + 1))


async def test_a_worker_that_is_told_to_leave_gives_its_steps_back_unharmed(plane: ControlPlane) -> None:
    plane.start_controller()
    worker = plane.start_worker(TOY_ROW_SECONDS="600")
    job = await plane.submit(toy_spec("slow to leave", 16, stop_after="augment"))
    await plane.wait_for(RUNNING, job.id, "augmentation", seconds=120)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0, plane.logs()
    states: list[tuple[Any, ...]] = plane.rows(
        "SELECT attempt.state, step.failures, step.losses FROM attempt JOIN step ON step.id = step_id "
        "WHERE job_id = %s AND queue = 'augmentation'",
        job.id,
    )
    assert states == [("preempted", 0, 0)]
    assert plane.value("SELECT count(*) FROM worker WHERE process_id = %s", worker.pid) == 0
    plane.start_worker(TOY_ROW_SECONDS="0")
    assert (await plane.wait(job.id, 120)).state == "succeeded"


async def test_a_second_controller_waits_and_takes_over(plane: ControlPlane) -> None:
    first = plane.start_controller()
    await plane.wait_for(LEADS, seconds=60)
    second = plane.start_controller()
    plane.kill(first, signal.SIGTERM)
    assert first.returncode == 0, plane.logs()
    await plane.wait_for(LEADS, seconds=60)
    job = await plane.submit(toy_spec("after the change"))
    await plane.wait_for("SELECT count(*) = 3 FROM step WHERE job_id = %s", job.id, seconds=60)
    assert second.poll() is None


async def test_a_frozen_leader_loses_its_lock_within_a_lease_and_does_no_harm_when_it_wakes_up(
    plane: ControlPlane,
) -> None:
    first = plane.start_controller()
    await plane.wait_for(LEADS, seconds=60)
    plane.start_controller()
    first.send_signal(signal.SIGSTOP)
    job = await plane.submit(toy_spec("after the frost"))
    await plane.wait_for("SELECT count(*) = 3 FROM step WHERE job_id = %s", job.id, seconds=120)
    first.send_signal(signal.SIGCONT)
    await plane.wait_for(LEADS, seconds=60)
    plane.kill(first, signal.SIGTERM)
    assert first.returncode == 0, plane.logs()
