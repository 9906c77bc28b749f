"""What a training is given to read, and what a report is not; every fault points at the option."""

from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.domain.errors import InputRefused
from shared.domain.jobs import JobSpec
from shared.domain.models import ModelRegistration
from shared.domain.plan import StageKind
from shared.domain.states import JobState
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.files import FileRepository
from shared.metadata.repositories.models import ModelRepository
from shared.metadata.repositories.steps import Claim
from shared.metadata.tables import Job, UploadedFile
from shared.stages.protocol import InputReference, WholeStepHandler
from shared.stages.step_inputs import whole_inputs
from tests.shared.stages.test_row_runner import CLAIM
from tests.support.control_plane import PROJECT, toy_spec
from tests.support.scheduling import submitted

Sessions = async_sessionmaker[AsyncSession]

TRAIN = WholeStepHandler(StageKind.TRAIN, "somewhere:run")
REPORT = WholeStepHandler(StageKind.REPORT, "somewhere:run")
SFT: dict[str, Any] = {"name": "sft", "method": "sft", "base": {"random": "tiny-mistral"}}


@pytest.fixture
async def sessions(postgres_url: str) -> Any:
    from shared.metadata.engine import create_engine, session_factory

    engine = create_engine(postgres_url, pool_size=2)
    yield session_factory(engine)
    await engine.dispose()


async def add(sessions: Sessions, job: Job, stage: str, name: str, kind: str = "table") -> str:
    async with sessions() as session, session.begin():
        return await ArtifactRepository(session).add(
            project_id=PROJECT,
            job_id=job.id,
            stage=stage,
            name=name,
            key=f"{job.id}/{stage}/{name}",
            kind=kind,
            media_type="application/octet-stream",
            sha256="0" * 64,
            size=1,
            step_id="step_1",
        )


async def assembled(sessions: Sessions, state: JobState = JobState.SUCCEEDED) -> Job:
    """A job with the exports of an assembled collection."""
    job = await submitted(sessions)
    for method in ("sft", "dpo"):
        for name in ("train.parquet", "train.jsonl", "test.parquet", "provenance.parquet"):
            await add(sessions, job, "assemble", f"exports/{method}/{name}")
    await add(sessions, job, "assemble", "collection/train.parquet")
    async with sessions() as session, session.begin():
        await session.execute(sa.text("UPDATE job SET state = :state WHERE id = :id"), {"id": job.id, "state": state})
    return job


async def with_model(sessions: Sessions, job: Job, stage: str = "sft", **changes: Any) -> str:
    """A registered model of a stage with its files; its id."""
    for name, kind in (
        ("model/config.json", "model"),
        ("model/model.safetensors", "model"),
        ("metrics.jsonl", "metrics"),
    ):
        await add(sessions, job, stage, name, kind)
    await add(sessions, job, stage, "adapter/adapter_model.safetensors", "adapter")
    registration = ModelRegistration(stage, "sft", "full", {}, 1, "bfloat16", {}, {}, adapter_only=False)
    async with sessions() as session, session.begin():
        return await ModelRepository(session).add(
            project_id=PROJECT,
            job_id=job.id,
            stage=stage,
            attempt_id=1,
            registration=msgspec.structs.replace(registration, **changes),
        )


def claim_of(job: Job | None, stage: str, kind: StageKind = StageKind.TRAIN, needs: tuple[str, ...] = ()) -> Claim:
    job_id = "job_new" if job is None else job.id
    return msgspec.structs.replace(CLAIM, project_id=PROJECT, job_id=job_id, stage=stage, kind=kind.value, needs=needs)


async def inputs_of(
    sessions: Sessions, spec: JobSpec, claim: Claim, handler: WholeStepHandler = TRAIN
) -> tuple[list[InputReference], list[str]]:
    async with sessions() as session:
        return await whole_inputs(session, claim, spec, handler)


def places(references: list[InputReference]) -> list[tuple[str, str]]:
    return [(item.stage, item.name) for item in references]


async def test_a_training_on_its_own_collection_reads_two_files_of_its_method_alone(sessions: Sessions) -> None:
    job = await assembled(sessions, JobState.RUNNING)
    spec = toy_spec(train=[SFT])
    references, ids = await inputs_of(sessions, spec, claim_of(job, "sft", needs=("assemble",)))
    assert places(references) == [("data", "train.parquet"), ("data", "test.parquet")]
    assert [item.key for item in references] == [
        f"{job.id}/assemble/exports/sft/{name}.parquet" for name in ("train", "test")
    ]
    assert ids == [item.id for item in references]
    assert all(identifier.startswith("art_") for identifier in ids)


async def test_a_training_reads_the_model_of_an_earlier_one_and_nothing_else_of_it(sessions: Sessions) -> None:
    job = await assembled(sessions, JobState.RUNNING)
    await with_model(sessions, job)
    spec = toy_spec(train=[SFT, {"name": "dpo", "method": "dpo", "base": {"stage": "sft"}}])
    references, _ = await inputs_of(sessions, spec, claim_of(job, "dpo", needs=("assemble", "sft")))
    assert places(references)[2:] == [("base", "model/config.json"), ("base", "model/model.safetensors")]
    assert references[0].key == f"{job.id}/assemble/exports/dpo/train.parquet"


async def test_a_training_reads_another_job_and_a_registered_model(sessions: Sessions) -> None:
    job = await assembled(sessions)
    model = await with_model(sessions, job)
    spec = JobSpec.model_validate({"train": [SFT | {"base": {"registry": model}, "data": {"job": job.id}}]})
    references, ids = await inputs_of(sessions, spec, claim_of(None, "sft"))
    assert [stage for stage, _ in places(references)] == ["data", "data", "base", "base"]
    assert len(set(ids)) == 4


async def test_a_training_reads_an_upload_under_the_name_that_its_user_gave_it(sessions: Sessions) -> None:
    file = UploadedFile(id="file_1", project_id=PROJECT, name="mine.jsonl", key="uploads/1", sha256="1" * 64, size=3)
    async with sessions() as session, session.begin():
        await FileRepository(session).add(file)
    spec = JobSpec.model_validate({"train": [SFT | {"data": {"file": "file_1"}}]})
    references, ids = await inputs_of(sessions, spec, claim_of(None, "sft"))
    assert (places(references), references[0].metadata, ids) == (
        [("upload", "file_1")],
        {"name": "mine.jsonl"},
        ["file_1"],
    )


async def test_a_report_is_never_given_weights(sessions: Sessions) -> None:
    job = await assembled(sessions, JobState.RUNNING)
    await with_model(sessions, job)
    await add(sessions, job, "sft", "checkpoint.bin", "checkpoint")
    claim = claim_of(job, "report", StageKind.REPORT, ("assemble", "sft"))
    references, _ = await inputs_of(sessions, toy_spec(train=[SFT]), claim, REPORT)
    assert [name for stage, name in places(references) if stage == "sft"] == ["metrics.jsonl"]
    assert ("assemble", "collection/train.parquet") in places(references)


async def refusal(sessions: Sessions, **change: Any) -> InputRefused:
    other = SFT | {"name": "first", "data": {"file": "file_of_the_first"}}
    spec = JobSpec.model_validate({"train": [other, SFT | {"data": {"file": "file_none"}} | change]})
    with pytest.raises(InputRefused) as caught:
        await inputs_of(sessions, spec, claim_of(None, "sft"))
    return caught.value


async def test_what_is_not_there_is_refused_at_its_place(sessions: Sessions) -> None:
    running = await assembled(sessions, JobState.RUNNING)
    bare = await submitted(sessions)
    async with sessions() as session, session.begin():
        await session.execute(sa.text("UPDATE job SET state = 'succeeded' WHERE id = :id"), {"id": bare.id})
    for job_id, said in (("job_none", "no job"), (running.id, "is running"), (bare.id, "made no exports/sft/train")):
        error = await refusal(sessions, data={"job": job_id})
        assert (error.pointer, said in str(error)) == ("/train/1/data/job", True), error
    assert (await refusal(sessions, data={"file": "file_none"})).pointer == "/train/1/data/file"


async def test_a_base_that_cannot_be_started_from_is_refused_at_its_place(sessions: Sessions) -> None:
    job = await assembled(sessions)
    data = {"data": {"job": job.id}}
    apart = await with_model(sessions, job, "apart", adapter_only=True)
    scores = await with_model(sessions, job, "scores", method="rm")
    for model, said in (("model_none", "no registered model"), (apart, "without their base"), (scores, "no text")):
        error = await refusal(sessions, base={"registry": model}, **data)
        assert (error.pointer, said in str(error)) == ("/train/1/base/registry", True), error
    error = await refusal(sessions, base={"stage": "first"}, **data)
    assert (error.pointer, "made no file of a model" in str(error)) == ("/train/1/base/stage", True)
