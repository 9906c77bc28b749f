"""Trainings that are attacked come to the very end that they would have come to: real servers, worker processes and kills."""

import json
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
import pytest_asyncio

from shared.artifacts.directory import DirectoryStore
from shared.domain.jobs import JobSpec
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import Job
from tests.support.control_plane import PROJECT, ControlPlane

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

STEPS = 24
EVERY = 3
"""Steps between two checkpoints."""

ATTEMPTS = (
    "SELECT attempt.state FROM attempt JOIN step ON step.id = step_id "
    "WHERE job_id = %s AND queue = 'training' ORDER BY attempt.id"
)
COUNTERS = "SELECT failures, losses FROM step WHERE job_id = %s AND queue = 'training'"
NOTES = (
    "SELECT data->>'text' FROM event WHERE job_id = %s AND type = 'note' AND data->>'text' LIKE %s ORDER BY sequence"
)
WORDS = ("short", "kind", "clear", "long", "plain", "warm", "exact", "calm", "dry", "brief")
MEASURED = {"seconds", "tokens_per_second", "memory_bytes", "mfu"}
"""Figures of a row that differ from run to run."""

PACE = {"PACED_STEP_SECONDS": "0.2", "PACED_UPLOAD_SECONDS": "0.04"}


def spec() -> JobSpec:
    return JobSpec.model_validate(
        {
            "name": "attacked",
            "train": [
                {
                    "preset": "smoke-cpu",
                    "name": "sft",
                    "data": {"file": "file_1"},
                    "tuning": "lora",
                    "lora": {"rank": 4, "dropout": 0.1},
                    "optimizer": "adamw_8bit",
                    "epochs": 50,
                    "maximum_steps": STEPS,
                    "maximum_length": 64,
                    "checkpoint_every_steps": EVERY,
                }
            ],
        }
    )


class Attacked:
    """A control plane whose workers train for real, and what can be seen and done to them."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.root = plane.folder / "artifacts"

    async def prepare(self) -> None:
        generator = random.Random(0)
        rows = [
            {"system": "Be brief.", "prompt": f"What is {number}?", "output": " ".join(generator.choices(WORDS, k=5))}
            for number in range(30)
        ]
        data = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        stored = await DirectoryStore(self.root).put_bytes("uploads/tests/file_1/mine.jsonl", data)
        self.plane.rows("INSERT INTO project (id) VALUES (%s) RETURNING id", PROJECT)
        self.plane.rows(
            "INSERT INTO uploaded_file (id, project_id, name, key, sha256, size) "
            "VALUES ('file_1', %s, 'mine.jsonl', %s, %s, %s) RETURNING id",
            PROJECT, stored.key, stored.sha256, stored.size,
        )  # fmt: skip
        self.plane.start_controller()

    def worker(self, **environment: str) -> "subprocess.Popen[bytes]":
        return self.plane.start(
            "shared.stages.worker", "--roles", "training,curation",
            "--handlers", "training=tests.support.paced_training", OMP_NUM_THREADS="1",
            # Each attempt imports everything anew: compiled once, also where the environment keeps no bytecode.
            PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=str(self.plane.folder / "bytecode"), **environment,
        )  # fmt: skip

    def checkpoints(self, job: Job) -> dict[str, bool]:
        """Folders of checkpoints in the store, and whether each is complete."""
        folder = self.root / "checkpoints" / PROJECT / job.id / "sft"
        return {path.name: (path / "manifest.json").exists() for path in folder.glob("step-*") if any(path.iterdir())}

    def newest(self, job: Job) -> int:
        """Step of the newest complete checkpoint; 0 without one."""
        complete = (name for name, is_complete in self.checkpoints(job).items() if is_complete)
        return max((int(name.split("-")[1]) for name in complete), default=0)

    def until(self, holds: Callable[[], bool], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.plane.logs()
            time.sleep(0.01)

    def child_of(self, worker: "subprocess.Popen[bytes]") -> psutil.Process:
        """The process that trains for this worker."""
        children = psutil.Process(worker.pid).children()
        (found,) = [child for child in children if "shared.stages.child" in child.cmdline()]
        return found

    def notes(self, job: Job, beginning: str) -> list[str]:
        return [row[0] for row in self.plane.rows(NOTES, job.id, f"{beginning}%")]

    def keys(self, job: Job) -> dict[str, str]:
        return dict(self.plane.rows("SELECT name, key FROM artifact WHERE job_id = %s AND stage = 'sft'", job.id))

    def record(self, job: Job) -> dict[str, Any]:
        """What a finished training tells of itself."""
        record: dict[str, Any] = json.loads((self.root / self.keys(job)["training.json"]).read_text())
        return record

    def made(self, job: Job) -> dict[str, Any]:
        """What the training of a finished job came to, without times."""
        keys = self.keys(job)
        rows = [json.loads(line) for line in (self.root / keys["metrics.jsonl"]).read_text().splitlines()]
        return {
            "model": (self.root / keys["model/model.safetensors"]).read_bytes(),
            "adapter": (self.root / keys["adapter/adapter_model.safetensors"]).read_bytes(),
            "rows": [{name: value for name, value in row.items() if name not in MEASURED} for row in rows],
        }


@pytest.fixture
def plane(postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[ControlPlane]:
    plane = ControlPlane(
        postgres_url, redis_url, tmp_path, MULTIFACET_LEASE_SECONDS="4", MULTIFACET_CANCEL_GRACE_SECONDS="20"
    )
    yield plane
    plane.close()


@pytest_asyncio.fixture
async def attacked(plane: ControlPlane) -> AsyncIterator[Attacked]:
    attacked = Attacked(plane)
    await attacked.prepare()
    yield attacked


async def test_a_training_ends_bit_for_bit_where_it_would_have_whatever_is_killed_or_told_to_stop(
    attacked: Attacked,
) -> None:
    plane = attacked.plane
    worker = attacked.worker()
    untouched = await plane.submit(spec())
    assert (await plane.wait(untouched.id, 120)).state == "succeeded", plane.logs()
    wanted = attacked.made(untouched)
    assert [row["step"] for row in wanted["rows"]] == list(range(1, STEPS + 1))
    plane.kill(worker)

    killed = await _kill_at_three_points(attacked)
    assert attacked.made(killed) == wanted
    stopped = await _stop_and_cancel(attacked)
    assert attacked.made(stopped) == wanted
    for job in (untouched, killed, stopped):
        assert attacked.checkpoints(job) == {}


async def _kill_at_three_points(attacked: Attacked) -> Job:
    """The worker in mid-training, the training alone in mid-training, and the worker while a checkpoint is uploaded."""
    plane, points = attacked.plane, random.Random(20261128)
    worker = attacked.worker(**PACE)
    job = await plane.submit(spec())
    resumed = []

    attacked.until(lambda: attacked.newest(job) >= EVERY)
    time.sleep(points.uniform(0, 1))
    child = attacked.child_of(worker)
    plane.kill(worker)
    attacked.until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10)
    resumed.append(attacked.newest(job))
    worker = attacked.worker(**PACE)

    attacked.until(lambda: attacked.newest(job) > resumed[-1])
    time.sleep(points.uniform(0, 1))
    attacked.child_of(worker).kill()
    resumed.append(attacked.newest(job))

    attacked.until(lambda: attacked.newest(job) > resumed[-1])
    time.sleep(points.uniform(0, 0.5))
    attacked.until(lambda: not all(attacked.checkpoints(job).values()))
    plane.kill(worker)
    torn = [name for name, is_complete in attacked.checkpoints(job).items() if not is_complete]
    assert torn, "the upload was over before the worker was dead"
    resumed.append(attacked.newest(job))
    assert resumed == sorted(set(resumed))
    assert resumed[-1] < STEPS
    worker = attacked.worker()

    done = await plane.wait(job.id, 150)
    assert (done.state, done.error) == ("succeeded", None), plane.logs()
    assert attacked.notes(job, "goes on from") == [f"goes on from the checkpoint of step {step}" for step in resumed]
    assert attacked.record(job)["resumed_from"] == resumed
    assert [state for (state,) in plane.rows(ATTEMPTS, job.id)] == ["lost", "failed", "lost", "succeeded"]
    plane.kill(worker)
    return job


async def _stop_and_cancel(attacked: Attacked) -> Job:
    """A worker that has to leave, then a job that is cancelled and tried again."""
    plane = attacked.plane
    worker = attacked.worker(**PACE)
    job = await plane.submit(spec())
    attacked.until(lambda: attacked.newest(job) >= EVERY)
    plane.kill(worker, signal.SIGTERM)
    assert plane.rows(ATTEMPTS, job.id) == [("preempted",)], plane.logs()
    assert plane.rows(COUNTERS, job.id) == [(0, 0)]
    left = attacked.newest(job)
    assert left > EVERY

    worker = attacked.worker(**PACE)
    attacked.until(lambda: attacked.newest(job) > left)
    async with plane.sessions() as session, session.begin():
        await JobRepository(session).request_cancel(PROJECT, job.id)
    assert (await plane.wait(job.id)).state == "cancelled"
    assert plane.rows(ATTEMPTS, job.id) == [("preempted",), ("cancelled",)], plane.logs()
    cancelled = attacked.newest(job)
    assert left < cancelled < STEPS
    plane.kill(worker)

    attacked.worker()
    async with plane.sessions() as session, session.begin():
        await JobRepository(session).retry(PROJECT, job.id)
    done = await plane.wait(job.id, 120)
    assert (done.state, done.error) == ("succeeded", None), plane.logs()
    assert attacked.notes(job, "goes on from") == [
        f"goes on from the checkpoint of step {step}" for step in (left, cancelled)
    ]
    assert plane.rows(COUNTERS, job.id) == [(0, 0)]
    return job
