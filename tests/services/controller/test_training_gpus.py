"""Trainings on a machine with made-up GPUs: real workers, one device per process, never two trainings on one."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.metadata.repositories.gpu_slots import GpuSlotRepository
from tests.services.controller.test_trainings import SFT, submitted
from tests.support.control_plane import ControlPlane

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STEPS = (
    "SELECT data->>'attempt', data->>'devices', extract(epoch FROM created_at) FROM event "
    "WHERE type = 'train.metrics' AND job_id = ANY(%s) ORDER BY created_at"
)
HELD = "SELECT count(*) FROM gpu_slot WHERE holder IS NOT NULL AND host = %s"


@pytest.fixture
def plane(postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[ControlPlane]:
    plane = ControlPlane(
        postgres_url, redis_url, tmp_path,
        MULTIFACET_LEASE_SECONDS="3", MULTIFACET_CANCEL_GRACE_SECONDS="5", MULTIFACET_GPUS="2", MULTIFACET_GPU_HOST="big",
        MULTIFACET_WORKER_SLOTS="4",
    )  # fmt: skip
    yield plane
    plane.close()
    plane.rows("DELETE FROM gpu_slot RETURNING device")


def overlaps(rows: list[tuple[Any, ...]]) -> list[tuple[str, str, str]]:
    """Pairs of attempts that trained on one device at the same time."""
    spans: dict[str, tuple[set[str], float, float]] = {}
    for attempt, devices, at in rows:
        _, first, _ = spans.get(attempt, (set(), float(at), 0.0))
        spans[attempt] = (set(devices.split(",")), first, float(at))
    found = []
    for one, (devices, start, end) in spans.items():
        for other, (others, other_start, other_end) in spans.items():
            if one < other and devices & others and start <= other_end and other_start <= end:
                found.append((one, other, str(devices & others)))
    return found


@pytest.mark.long
async def test_trainings_wait_for_each_others_gpus_and_none_shares_one(plane: ControlPlane) -> None:
    plane.start_controller()
    for _ in range(2):
        plane.start_worker()
    two = SFT | {"processes": 2, "global_batch": 2, "optimizer": "adamw"}
    jobs = [await submitted(plane, f"long {number}", two if number == 2 else SFT) for number in range(6)]
    for job in jobs:
        done = await plane.wait(job.id, 120)
        assert (done.state, done.error) == ("succeeded", None), plane.logs()
    rows = plane.rows(STEPS, [job.id for job in jobs])
    assert {devices for _, devices, _ in rows} >= {"0", "1", "0,1"}
    assert overlaps(rows) == []
    assert plane.value(HELD, "big") == 0
    waited = plane.rows(
        "SELECT attempt.error->>'message' FROM attempt JOIN step ON step.id = step_id "
        "WHERE attempt.error->>'code' = 'gpus_taken' AND job_id = ANY(%s)",
        [job.id for job in jobs],
    )
    assert "waits for" in waited[0][0]
    assert "free GPUs" in waited[0][0]
    failures = plane.rows("SELECT sum(failures + losses) FROM step WHERE job_id = ANY(%s)", [job.id for job in jobs])
    assert failures == [(0,)], "to wait uses up no retry"


async def test_a_model_server_on_the_machine_keeps_trainings_from_its_gpu(plane: ControlPlane) -> None:
    async with plane.sessions() as session, session.begin():
        gpus = GpuSlotRepository(session)
        await gpus.register("big", [0, 1])
        assert await gpus.claim("big", [0, 1], 1, "server:tgi/0", 60) == (0,)
    plane.start_controller()
    plane.start_worker()
    job = await submitted(plane, "beside a server")
    done = await plane.wait(job.id, 60)
    assert done.state == "succeeded", plane.logs()
    assert {devices for _, devices, _ in plane.rows(STEPS, [job.id])} == {"1"}
    assert plane.value(HELD, "big") == 1


@pytest.mark.long
async def test_the_gpus_of_a_killed_worker_are_free_when_its_lease_has_run_out(plane: ControlPlane) -> None:
    plane.start_controller()
    worker = plane.start_worker()
    job = await submitted(plane, "slow", SFT | {"processes": 2, "global_batch": 2, "optimizer": "adamw"})
    await plane.wait_for("SELECT count(*) > 0 FROM event WHERE job_id = %s AND type = 'train.metrics'", job.id)
    assert plane.value(HELD, "big") == 2
    await asyncio.sleep(4)
    assert plane.value(HELD, "big") == 2, "renewed with the attempt"
    plane.kill(worker)
    await plane.wait_for("SELECT count(*) = 0 FROM gpu_slot WHERE holder IS NOT NULL AND host = 'big'")


async def test_more_processes_than_gpus_are_refused_where_they_stand(plane: ControlPlane) -> None:
    plane.start_controller()
    plane.start_worker()
    many = SFT | {"processes": 3, "global_batch": 3, "optimizer": "adamw"}
    done = await plane.wait((await submitted(plane, "too many", many)).id, 60)
    assert done.state == "failed"
    assert "processes is 3, one per GPU, but the machine big has 2" in (done.error or {})["message"]


async def test_a_machine_without_gpus_trains_as_before(plane: ControlPlane) -> None:
    plane.start_controller()
    plane.start_worker(MULTIFACET_GPUS="0")
    job = await submitted(plane, "on a CPU", SFT | {"processes": 2, "global_batch": 2, "optimizer": "adamw"})
    assert (await plane.wait(job.id, 60)).state == "succeeded", plane.logs()
    assert {devices for _, devices, _ in plane.rows(STEPS, [job.id])} == {None}
    assert plane.value("SELECT count(*) FROM gpu_slot") == 0
