"""The step that puts a job's model on a server: it waits, ends with the server's words, and asks once however often it runs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from services.inference import deploying
from shared.domain.errors import StepFailed
from shared.domain.jobs import JobSpec
from shared.metadata.engine import create_engine, session_factory
from shared.settings import Settings
from shared.stages.protocol import WholeContext, WholeResult
from tests.services.curation.assembly.synthetic import make_context
from tests.support.control_plane import PROJECT
from tests.support.scheduling import submitted
from tests.support.served import Launcher, Sessions, found, place, registered

SFT = {"name": "sft", "method": "sft", "base": {"random": "tiny-mistral"}, "data": {"job": "job_1"}}


@pytest.fixture
async def sessions(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sessions]:
    monkeypatch.setattr(deploying, "get_settings", lambda: Settings(database_url=postgres_url))
    monkeypatch.setattr(deploying, "POLL_SECONDS", 0.02)
    engine = create_engine(postgres_url, pool_size=4)
    yield session_factory(engine)
    await engine.dispose()


class Step:
    """The deploy step of one job, on a thread as its child process would run it."""

    def __init__(self, folder: Path, job_id: str, candidate: dict[str, Any]) -> None:
        spec = JobSpec.model_validate(
            {"train": [SFT], "answer": [{"candidate": candidate}], "questions": {"job": "job_1"}}
        )
        self.notes: list[str] = []
        stage = f"deploy-{next(iter(candidate.values()))}"
        context = make_context(
            folder,
            [],
            stage=stage,
            spec=spec,
            facts={"project_id": PROJECT},
            progress=lambda done, total, note: self.notes.append(note),
        )
        self.context: WholeContext = msgspec.structs.replace(context, job_id=job_id)
        self.name = f"{job_id}.{stage.removeprefix('deploy-')}"

    async def run(self) -> WholeResult:
        return await asyncio.to_thread(deploying.run, self.context)

    async def waits(self) -> None:
        while not self.notes:
            await asyncio.sleep(0.01)


async def test_a_trained_model_is_deployed_under_the_jobs_own_name_and_waited_for(
    sessions: Sessions, tmp_path: Path
) -> None:
    job = await submitted(sessions)
    model = await registered(sessions, job_id=job.id)
    step = Step(tmp_path, job.id, {"stage": "sft"})
    running = asyncio.create_task(step.run())
    await step.waits()
    deployment = await found(sessions, step.name)
    assert deployment.job_id == job.id
    launcher = Launcher(sessions)
    await launcher.report()
    assert await place(sessions, deployment)
    await launcher.serves(deployment, 1)
    result = await asyncio.wait_for(running, 30)
    assert (result.summary["model"], result.summary["maximum_total_tokens"]) == (model, 512)
    assert result.outputs == ()
    again = await Step(tmp_path, job.id, {"stage": "sft"}).run()
    assert again.summary["model"] == model
    async with sessions() as session:
        count = sa.text("SELECT count(*) FROM deployment_revision WHERE deployment_id = :id")
        assert (await session.execute(count, {"id": deployment.id})).scalar_one() == 1
    await launcher.leave()


async def test_a_server_that_cannot_hold_the_model_ends_the_step_in_its_words(
    sessions: Sessions, tmp_path: Path
) -> None:
    job = await submitted(sessions)
    model = await registered(sessions, job_id=job.id)
    step = Step(tmp_path, job.id, {"registry": model})
    running = asyncio.create_task(step.run())
    await step.waits()
    deployment = await found(sessions, step.name)
    launcher = Launcher(sessions)
    await launcher.report()
    assert await place(sessions, deployment)
    await launcher.fails(deployment, 1)
    with pytest.raises(StepFailed, match="it broke") as failed:
        await asyncio.wait_for(running, 30)
    assert failed.value.code == "deployment_failed"


async def test_a_training_that_registered_nothing_is_named(sessions: Sessions, tmp_path: Path) -> None:
    job = await submitted(sessions)
    with pytest.raises(StepFailed, match="sft registered no model") as failed:
        await Step(tmp_path, job.id, {"stage": "sft"}).run()
    assert failed.value.code == "no_model"
