"""Workers that leave by themselves: idle, told to drain, or done with their one step. None of it costs an attempt."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.metadata.repositories.workers import WorkerRepository
from tests.support.control_plane import ControlPlane, toy_spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WORKERS = "SELECT count(*) = %s FROM worker WHERE NOT draining"
RUNNING = "SELECT count(*) > 0 FROM attempt WHERE state = 'running'"
TRIED = "SELECT count(*) FROM attempt JOIN step ON step.id = step_id WHERE job_id = %s AND queue = 'augmentation'"
UNHARMED = "SELECT bool_and(state = 'succeeded') FROM attempt"


@pytest.fixture
def plane(postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[ControlPlane]:
    plane = ControlPlane(postgres_url, redis_url, tmp_path, MULTIFACET_LEASE_SECONDS="20", TOY_ROW_SECONDS="0.2")
    yield plane
    plane.close()
    # What a test left undone must not be done by the next one's workers.
    plane.rows("DELETE FROM worker RETURNING id")
    plane.rows("UPDATE job SET state = 'cancelling' WHERE state IN ('queued', 'running') RETURNING id")
    plane.rows("UPDATE step SET state = 'cancelled' WHERE state <> 'succeeded' RETURNING id")


@pytest.mark.long
async def test_an_idle_worker_leaves_with_0_but_not_the_last_that_shall_stay(plane: ControlPlane) -> None:
    idle = {"MULTIFACET_WORKER_IDLE_SECONDS": "1", "MULTIFACET_POOL_MINIMUM": "1"}
    workers = [plane.start_worker("composition", MULTIFACET_POOL_MINIMUM="1") for _ in range(2)]
    await plane.wait_for(WORKERS, 2, seconds=240)
    leaver = plane.start_worker("composition", **idle)
    assert leaver.wait(240) == 0, plane.logs()
    for worker in workers:
        plane.kill(worker)
    plane.rows("DELETE FROM worker RETURNING id")
    last = plane.start_worker("composition", **idle)
    await plane.wait_for(WORKERS, 1, seconds=240)
    await plane.wait_for("SELECT heartbeat_at > started_at + interval '6 s' FROM worker", seconds=240)
    assert last.poll() is None, "a pool keeps its minimum"


async def test_a_worker_does_not_leave_while_steps_wait_for_it_and_leaves_after_them(plane: ControlPlane) -> None:
    controller = plane.start_controller()
    job = await plane.submit(toy_spec("waits", 16, stop_after="curate"))
    await plane.wait_for("SELECT count(*) = 1 FROM step WHERE job_id = %s AND state = 'ready'", job.id, seconds=60)
    plane.kill(controller)  # nobody rings for it any more
    worker = plane.start_worker(MULTIFACET_WORKER_IDLE_SECONDS="1")
    await plane.wait_for(
        "SELECT count(*) = 1 FROM worker WHERE heartbeat_at > started_at + interval '6 s'", seconds=240
    )
    plane.start_controller()
    assert (await plane.wait(job.id, 300)).state == "succeeded"
    assert worker.wait(240) == 0, plane.logs()
    assert plane.value(UNHARMED)


@pytest.mark.long
async def test_a_worker_that_is_told_to_drain_finishes_its_step_and_leaves(plane: ControlPlane) -> None:
    plane.start_controller()
    worker = plane.start_worker(TOY_ROW_SECONDS="4")
    job = await plane.submit(toy_spec("slow to drain", 16, stop_after="augment"))
    await plane.wait_for(RUNNING + " AND step_id IN (SELECT id FROM step WHERE queue = 'augmentation')", seconds=240)
    async with plane.sessions() as session, session.begin():
        told = await WorkerRepository(session).request_drain(["augmentation"])
    assert len(told) == 1
    assert worker.wait(240) == 0, plane.logs()
    assert plane.value("SELECT state FROM step WHERE queue = 'augmentation' AND job_id = %s", job.id) == "succeeded"
    assert (await plane.wait(job.id, 240)).state == "succeeded"
    assert plane.value(UNHARMED)
    assert plane.value("SELECT count(*) FROM worker") == 0


@pytest.mark.long
async def test_a_worker_for_one_step_runs_one_and_the_next_is_rung_for_another(plane: ControlPlane) -> None:
    plane.start_controller()
    job = await plane.submit(toy_spec("many once", 3, stop_after="augment"))
    plane.start_worker("curation")
    await plane.wait_for(
        "SELECT count(*) = 3 FROM step WHERE queue = 'augmentation' AND state = 'ready' AND job_id = %s",
        job.id,
        seconds=240,
    )
    for done in (1, 2, 3):
        worker = plane.start("shared.stages.worker", "--roles", "augmentation", "--once", *TOY)
        assert worker.wait(240) == 0, plane.logs()
        assert plane.value(TRIED, job.id) == done
    assert (await plane.wait(job.id, 240)).state == "succeeded"
    assert plane.value(UNHARMED)


TOY = ("--handlers", "augmentation=tests.support.toy_handlers.augmentation")
