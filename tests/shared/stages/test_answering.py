"""Where an answer stage finds its models, and what it does when they are not there."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.domain.answers import AnswerParameters
from shared.domain.errors import StepDeferred, StepFailed
from shared.llm.models import Find
from shared.llm.providers import ResolvedModel, load_providers
from shared.metadata.engine import create_engine, session_factory
from shared.metadata.repositories.deployments import DeploymentRepository
from shared.stages.answering import AnsweringModels
from tests.support.control_plane import PROJECT
from tests.support.scheduling import submitted
from tests.support.served import Launcher, Sessions, deploy, found, place, registered


@pytest.fixture
async def sessions(postgres_url: str) -> AsyncIterator[Sessions]:
    engine = create_engine(postgres_url, pool_size=2)
    yield session_factory(engine)
    await engine.dispose()


class Finder:
    """The models of one stage, as far as the binding."""

    def __init__(self, sessions: Sessions, job_id: str) -> None:
        self.bound: list[tuple[ResolvedModel, Find | None]] = []

        def bind(resolved: ResolvedModel, find: Find | None) -> Any:
            self.bound.append((resolved, find))
            return resolved

        self.models = AnsweringModels(sessions, load_providers(None), PROJECT, job_id, bind)

    async def candidate(self, **candidate: Any) -> Any:
        answer = AnswerParameters.model_validate({"name": "janus", "candidate": candidate})
        return await self.models.candidate(answer, "/answer/0")


async def test_a_deployment_is_bound_where_it_answers_and_found_again(sessions: Sessions) -> None:
    model = await registered(sessions)
    deployment = await deploy(sessions, "mine", model)
    launcher = Launcher(sessions)
    await launcher.report()
    assert await place(sessions, deployment)
    finder = Finder(sessions, "job_1")
    with pytest.raises(StepDeferred, match="does not answer yet"):
        await finder.candidate(deployment="mine")
    await launcher.serves(deployment, 1)
    resolved = await finder.candidate(deployment="mine")
    assert (resolved.model, resolved.provider_name, resolved.base_url()) == (
        model,
        "deployment",
        "http://127.0.0.1:9000/v1",
    )
    ((_, find),) = finder.bound
    assert find is not None
    assert await find() == resolved
    async with sessions() as session, session.begin():
        await DeploymentRepository(session).stop(PROJECT, deployment.id)
    assert await find() is None
    with pytest.raises(StepFailed, match="deploy the model again") as failed:
        await finder.candidate(deployment="mine")
    assert failed.value.code == "deployment_gone"
    await launcher.leave()


async def test_a_jobs_own_deployment_that_was_stopped_is_asked_for_again(sessions: Sessions) -> None:
    job = await submitted(sessions)
    model = await registered(sessions, job_id=job.id)
    finder = Finder(sessions, job.id)
    with pytest.raises(StepDeferred):
        await finder.candidate(stage="sft")
    first = await found(sessions, f"{job.id}.sft")
    async with sessions() as session, session.begin():
        await DeploymentRepository(session).stop(PROJECT, first.id)
    with pytest.raises(StepDeferred):
        await finder.candidate(stage="sft")
    second = await found(sessions, f"{job.id}.sft")
    assert second.id != first.id
    assert second.job_id == job.id
    async with sessions() as session:
        (revision,) = await DeploymentRepository(session).revisions(second.id)
    assert revision.target["registry"] == model


async def test_a_providers_model_is_that_providers(sessions: Sessions) -> None:
    resolved = await Finder(sessions, "job_1").candidate(provider="openai", model="gpt-4o")
    assert (resolved.provider_name, resolved.model, resolved.deployment) == ("openai", "gpt-4o", "")
