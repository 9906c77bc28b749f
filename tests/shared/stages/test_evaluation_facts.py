"""What the stage `evaluate` is told of the models, so that it can say who judges whom."""

from typing import Any

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.domain.benches import BenchRegistration
from shared.domain.jobs import JobSpec
from shared.domain.models import ModelRegistration
from shared.domain.plan import StageKind
from shared.metadata.engine import create_engine, session_factory
from shared.metadata.repositories.benches import BenchRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.models import ModelRepository
from shared.metadata.tables import Job
from shared.stages.step_inputs import job_facts
from tests.shared.stages.test_row_runner import CLAIM
from tests.support.control_plane import PROJECT, toy_taxonomy
from tests.support.scheduling import submitted

Sessions = async_sessionmaker[AsyncSession]
JUDGE = {"provider": "simulator", "model": "simulator-large"}


@pytest.fixture
async def sessions(postgres_url: str) -> Any:
    engine = create_engine(postgres_url, pool_size=2)
    yield session_factory(engine)
    await engine.dispose()


def evaluation(questions: dict[str, Any], candidate: dict[str, Any]) -> JobSpec:
    return JobSpec.model_validate(
        {
            "questions": questions,
            "judge": JUDGE,
            "answer": [{"name": "a", "candidate": candidate}],
            "evaluate": {"conversation": {}},
        }
    )


async def started(sessions: Sessions, spec: JobSpec) -> Job:
    async with sessions() as session, session.begin():
        job, _ = await JobRepository(session).submit(PROJECT, spec, toy_taxonomy(), teacher_is_simulator=True)
        return job


async def facts_of(sessions: Sessions, job: Job, spec: JobSpec, kind: StageKind = StageKind.EVALUATE) -> dict[str, Any]:
    claim = msgspec.structs.replace(CLAIM, project_id=PROJECT, job_id=job.id, stage=kind.value, kind=kind.value)
    async with sessions() as session:
        return await job_facts(session, claim, spec)


async def test_all_who_wrote_what_a_bench_asks_are_named_however_far_back(sessions: Sessions) -> None:
    collection = await submitted(sessions, teacher={"provider": "simulator", "model": "writes-answers"})
    spec = JobSpec.model_validate(
        {
            "questions": {"job": collection.id},
            "bench": {},
            "teacher": {"provider": "openai", "model": "writes-rubrics"},
        }
    )
    making = await started(sessions, spec)
    async with sessions() as session, session.begin():
        registration = BenchRegistration("bench", 1, 3, "openai/writes-rubrics")
        bench = await BenchRepository(session).add(PROJECT, registration, job_id=making.id)
    asked = evaluation({"bench": bench}, JUDGE)
    job = await started(sessions, asked)
    facts = await facts_of(sessions, job, asked)
    assert facts["asked_teachers"] == ["openai/writes-rubrics", "simulator/writes-answers"]
    assert facts["answer_models"]["a"]["model"] == "simulator/simulator-large"
    assert "asked_teachers" not in await facts_of(sessions, job, asked, StageKind.REPORT)


async def test_of_a_registered_model_is_told_on_whose_texts_it_was_trained(sessions: Sessions) -> None:
    making = await submitted(sessions)
    lineage = {"data": {"teacher": "openai/gpt-x", "simulator": False}}
    registration = ModelRegistration("sft", "sft", "full", {}, 1, "bfloat16", {}, lineage, adapter_only=False)
    async with sessions() as session, session.begin():
        model = await ModelRepository(session).add(
            project_id=PROJECT, job_id=making.id, stage="sft", attempt_id=1, registration=registration
        )
    asked = evaluation({"suite": "facts"}, {"registry": model})
    facts = await facts_of(sessions, await started(sessions, asked), asked)
    assert facts["answer_models"]["a"] == {
        "random_weights": False,
        "simulated_data": False,
        "trained_on": "openai/gpt-x",
    }
    assert (facts["asked_teachers"], facts["asked_is_simulated"]) == ([], False)
