"""Answer stages get a step for each shard of what is asked, whatever else they need, and wait for all of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.controller.partition import partition, unblock
from services.controller.state import ControllerState
from shared.domain.jobs import JobSpec
from shared.metadata.engine import create_engine, session_factory
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import Job
from tests.support.control_plane import PROJECT, toy_taxonomy
from tests.support.scheduling import Sessions, step_states

SPEC: dict[str, Any] = {
    "questions": {"job": "job_1"},
    "answer": [
        {"name": "one", "candidate": {"registry": "model_1"}, "samples": 4, "reward": {"registry": "model_2"}},
        {"name": "two", "candidate": {"deployment": "d"}},
    ],
}


@pytest.fixture
async def sessions(postgres_url: str) -> AsyncIterator[Sessions]:
    engine = create_engine(postgres_url, pool_size=2)
    yield session_factory(engine)
    await engine.dispose()


async def succeed(sessions: Sessions, job: Job, stage: str, *parts: str) -> None:
    async with sessions() as session, session.begin():
        for name in parts:
            await ArtifactRepository(session).add(
                project_id=PROJECT, job_id=job.id, stage=stage, name=name, key=f"{job.id}/{stage}/{name}", kind="table",
                media_type="application/octet-stream", sha256="0" * 64, size=1, step_id="step_1", rows=16,
            )  # fmt: skip
        values = {"job": job.id, "stage": stage}
        await session.execute(
            sa.text("UPDATE stage SET state = 'succeeded' WHERE job_id = :job AND name = :stage"), values
        )


async def states(sessions: Sessions, job: Job, stage: str) -> dict[int, str]:
    return {shard: state for (name, shard), state in (await step_states(sessions, job)).items() if name == stage}


async def test_shards_come_from_the_questions_and_wait_for_every_deployment(sessions: Sessions, tmp_path: Path) -> None:
    async with sessions() as session, session.begin():
        job, _ = await JobRepository(session).submit(
            PROJECT, JobSpec.model_validate(SPEC), toy_taxonomy(), teacher_is_simulator=False
        )
    duties = ControllerState(None, sessions, None, None)  # type: ignore[arg-type]
    await partition(duties)
    assert await states(sessions, job, "one") == await states(sessions, job, "two") == {}
    await succeed(sessions, job, "select", "part-00000.parquet", "part-00001.parquet", "rejected.parquet")
    await partition(duties)
    await unblock(duties)
    assert await states(sessions, job, "one") == {0: "blocked", 1: "blocked"}
    assert await states(sessions, job, "two") == {0: "ready", 1: "ready"}
    await succeed(sessions, job, "deploy-model_1")
    await unblock(duties)
    assert await states(sessions, job, "one") == {0: "blocked", 1: "blocked"}
    await succeed(sessions, job, "deploy-model_2")
    await unblock(duties)
    assert await states(sessions, job, "one") == {0: "ready", 1: "ready"}
