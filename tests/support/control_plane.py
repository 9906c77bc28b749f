"""A control plane of real processes over a test's database, broker and directory store."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from shared.domain.jobs import JobSpec
from shared.domain.states import JOB_END_STATES, JobState
from shared.domain.taxonomy import Dimension, Pole, SeedPreference, Subdimension, Taxonomy
from shared.metadata.engine import connection_string, session_factory
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import Job

ROLES = ("curation", "augmentation", "composition", "evaluation", "generation", "inference", "training")
PROJECT = "tests"

_HANDLERS = [argument for role in ROLES for argument in ("--handlers", f"{role}=tests.support.toy_handlers.{role}")]


def toy_taxonomy() -> Taxonomy:
    poles = (Pole(name="left", description="left"), Pole(name="right", description="right"))
    seeds = tuple(SeedPreference(name=f"seed {pole.name}", pole=pole.name, description="seed") for pole in poles)
    sub = Subdimension(name="toy", description="toy", poles=poles, seeds=seeds)
    return Taxonomy(name="toy", dimensions=(Dimension(name="toy", description="toy", subdimensions=(sub,)),))


def toy_spec(name: str = "toy", rows: int = 32, **more: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "name": name,
            "sources": [{"bundled": "demo"}],
            "teacher": {"provider": "simulator", "model": "simulator-large"},
            "curate": {"limit": rows},
            **more,
        }
    )


class ControlPlane:
    """Starts and kills controllers and workers; submits jobs and looks at the database."""

    def __init__(self, database_url: str, redis_url: str, folder: Path, **environment: str) -> None:
        self.url = database_url
        self.folder = folder
        # Without a pool, so that tests on several event loops can share one plane.
        self.engine = create_async_engine(database_url, poolclass=NullPool)
        self.sessions = session_factory(self.engine)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "MULTIFACET_DATABASE_URL": database_url,
            "MULTIFACET_REDIS_URL": redis_url,
            "MULTIFACET_ARTIFACT_STORE": "directory",
            "MULTIFACET_ARTIFACT_DIRECTORY": str(folder / "artifacts"),
            "MULTIFACET_WORK_FOLDER": str(folder),
            "MULTIFACET_SIMULATOR_URL": "http://127.0.0.1:9/v1",
            "MULTIFACET_LEASE_SECONDS": "2",
            "MULTIFACET_CANCEL_GRACE_SECONDS": "1",
            "MULTIFACET_CONTROLLER_TICK_SECONDS": "0.3",
            "MULTIFACET_REDISPATCH_SECONDS": "2",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **environment,
        }

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
        log = (self.folder / f"process-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=self.environment | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        self.processes.append(process)
        return process

    def start_controller(self) -> "subprocess.Popen[bytes]":
        return self.start("services.controller")

    def start_worker(self, roles: str = "all", **environment: str) -> "subprocess.Popen[bytes]":
        return self.start("shared.stages.worker", "--roles", roles, *_HANDLERS, **environment)

    @staticmethod
    def kill(process: "subprocess.Popen[bytes]", number: int = signal.SIGKILL) -> None:
        process.send_signal(number)
        process.wait(30)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait(10)

    async def submit(self, spec: JobSpec) -> Job:
        async with self.sessions() as session, session.begin():
            job, _ = await JobRepository(session).submit(PROJECT, spec, toy_taxonomy(), teacher_is_simulator=True)
            return job

    async def job(self, job_id: str) -> Job:
        async with self.sessions() as session:
            return await JobRepository(session).require(PROJECT, job_id)

    async def wait(self, job_id: str, seconds: float = 60) -> Job:
        """The job once it has ended and nothing of it runs any more."""
        deadline = time.monotonic() + seconds
        while True:
            job = await self.job(job_id)
            if JobState(job.state) in JOB_END_STATES and job.settled_at is not None:
                return job
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} is still {job.state}\n{self.logs()}\n{self.overview(job_id)}")
            await asyncio.sleep(0.05)

    async def wait_for(self, query: str, *parameters: Any, seconds: float = 30) -> None:
        """Until the query's first value is true."""
        deadline = time.monotonic() + seconds
        while not self.value(query, *parameters):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true in {seconds} s: {query}\n{self.logs()}")
            await asyncio.sleep(0.02)

    def value(self, query: str, *parameters: Any) -> Any:
        rows = self.rows(query, *parameters)
        return rows[0][0] if rows else None

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(connection_string(self.url), autocommit=True) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def overview(self, job_id: str) -> str:
        steps = self.rows(
            "SELECT g.name, s.shard, s.state, s.dispatch_no, s.failures, s.losses, s.error FROM step s "
            "JOIN stage g ON g.id = s.stage_id WHERE s.job_id = %s ORDER BY 1, 2",
            job_id,
        )
        return "\n".join(map(str, steps))

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted(self.folder.glob("process-*.log"))
        )
