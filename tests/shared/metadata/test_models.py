"""Registered models: written with the commit of the training, once, and read by project."""

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.domain.models import ModelRegistration
from shared.metadata.repositories.models import ModelNotFound, ModelRepository
from shared.metadata.tables import Job
from tests.support.control_plane import PROJECT
from tests.support.scheduling import claimed, commit

Sessions = async_sessionmaker[AsyncSession]

MODEL = ModelRegistration(
    name="mine",
    method="sft",
    tuning="full",
    base={"random": "tiny-mistral"},
    parameter_count=7_241_732_096,
    dtype="bfloat16",
    metrics={"loss": 1.5},
    lineage={"inputs": ["art_1"]},
    adapter_only=False,
)


async def registered(sessions: Sessions, name: str) -> tuple[Job, str]:
    job, taken = await claimed(sessions, name)
    assert await commit(sessions, taken, model=msgspec.structs.replace(MODEL, name=name))
    async with sessions() as session:
        (model,) = await ModelRepository(session).of_job(job.id)
    return job, model.id


async def test_a_commit_registers_its_model_once(sessions: Sessions) -> None:
    job, taken = await claimed(sessions)
    assert await commit(sessions, taken, model=MODEL)
    assert not await commit(sessions, taken, model=MODEL), "a commit that is sent twice counts once"
    async with sessions() as session:
        (model,) = await ModelRepository(session).of_job(job.id)
    assert model.id.startswith("model_")
    assert (model.project_id, model.stage, model.attempt_id) == (PROJECT, "curate", taken.attempt_id)
    kept = {name: getattr(model, name) for name in ModelRegistration.__struct_fields__}
    assert kept == msgspec.to_builtins(MODEL)
    assert model.created_at is not None


async def test_an_attempt_that_lost_its_lease_registers_nothing(sessions: Sessions) -> None:
    job, taken = await claimed(sessions, lease=0.0)
    assert not await commit(sessions, taken, model=MODEL)
    async with sessions() as session:
        assert await ModelRepository(session).of_job(job.id) == []


async def test_a_model_that_cannot_be_registered_takes_the_commit_with_it(sessions: Sessions) -> None:
    _, taken = await claimed(sessions)
    broken = msgspec.structs.replace(MODEL, parameter_count=2**70)
    with pytest.raises(sa.exc.DBAPIError):
        await commit(sessions, taken, model=broken)
    async with sessions() as session:
        state = await session.execute(sa.text("SELECT state FROM step WHERE id = :id"), {"id": taken.step_id})
        assert state.scalar_one() == "running"


async def test_a_step_without_a_model_registers_none(sessions: Sessions) -> None:
    job, taken = await claimed(sessions)
    assert await commit(sessions, taken)
    async with sessions() as session:
        assert await ModelRepository(session).of_job(job.id) == []


async def test_models_are_listed_newest_first_in_pages_and_only_to_their_project(sessions: Sessions) -> None:
    made = [(await registered(sessions, f"page {number}"))[1] for number in range(3)]
    async with sessions() as session:
        models = ModelRepository(session)
        first = await models.list(PROJECT, limit=2)
        assert [model.id for model in first] == [made[2], made[1]]
        rest = await models.list(PROJECT, before=first[-1].id, limit=10)
        assert rest[0].id == made[0]
        assert await models.list("others") == []
        assert (await models.require(PROJECT, made[0])).name == "page 0"
        with pytest.raises(ModelNotFound, match=made[0]):
            await models.require("others", made[0])
