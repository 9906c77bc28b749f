"""Finding what a training reads: its data and the model that it starts from.

The child finds the data as objects of the stage `data` (`train.parquet`, `test.parquet`) or as an upload, and the base as
objects of the stage `base` (`model/config.json`, …). Bases on the Hub, in a folder of the worker and with random weights are
no objects. Every fault is an InputRefused that points at the option in the job spec, so submission can ask the same questions.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from shared.domain.errors import InputRefused
from shared.domain.jobs import JobSpec
from shared.domain.models import MODEL_KIND
from shared.domain.states import JobState
from shared.domain.training import Method, TrainParameters
from shared.domain.trainings import refuse_reward_model
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.files import FileRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.models import ModelRepository
from shared.metadata.repositories.steps import Claim
from shared.metadata.tables import Artifact, Job, RegisteredModel, UploadedFile
from shared.stages.protocol import InputReference

DATA_STAGE = "data"
BASE_STAGE = "base"
UPLOAD_STAGE = "upload"

_SPLITS = ("train", "test")
_ASSEMBLE = "assemble"


async def training_inputs(session: AsyncSession, claim: Claim, spec: JobSpec) -> list[InputReference]:
    """All objects that the training of this stage reads. Raises InputRefused for what is not there."""
    number, training = next(
        (number, training) for number, training in enumerate(spec.train) if training.name == claim.stage
    )
    pointer = f"/train/{number}"
    return [
        *await _data(session, claim, training, pointer),
        *await _base(session, claim, training, pointer),
    ]


async def find_job_of_data(
    session: AsyncSession, project_id: str, training: TrainParameters, pointer: str
) -> tuple[Job, list[Artifact]]:
    """The job that `data.job` names and its export for the training's method. Raises InputRefused at `<pointer>/data/job`."""
    place = f"{pointer}/data/job"
    job_id = training.data.job or ""
    job = await JobRepository(session).get(project_id, job_id)
    if job is None:
        raise InputRefused(f"there is no job {job_id!r} in this project; name one that made a collection", place)
    if job.state != JobState.SUCCEEDED.value:
        raise InputRefused(f"job {job_id} is {job.state}; only what a succeeded job made is trained on", place)
    refuse_removed(job, place)
    return job, await _export(session, job_id, training.method, place)


async def find_file_of_data(
    session: AsyncSession, project_id: str, training: TrainParameters, pointer: str
) -> UploadedFile:
    """The upload that `data.file` names. Raises InputRefused at `<pointer>/data/file`."""
    file_id = training.data.file or ""
    file = await FileRepository(session).get(project_id, file_id)
    if file is None:
        raise InputRefused(
            f"there is no uploaded file {file_id!r}; POST it to /v1/files and set the id it returns, or write "
            "upload:<file name> and give `multifacet submit` its path by --upload",
            f"{pointer}/data/file",
        )
    return file


async def find_registered_base(
    session: AsyncSession, project_id: str, training: TrainParameters, pointer: str
) -> RegisteredModel:
    """The model that `base.registry` names, if this training can start from it. Raises InputRefused at
    `<pointer>/base/registry`."""
    place = f"{pointer}/base/registry"
    model_id = training.base.registry or ""
    model = await ModelRepository(session).get(project_id, model_id)
    if model is None:
        raise InputRefused(
            f"there is no registered model {model_id!r} in this project; GET /v1/registry/models lists them", place
        )
    if model.adapter_only:
        raise InputRefused(
            f"the model {model_id} is adapters without their base, which cannot be trained on; train it again with lora.merge "
            "true, or name another model",
            place,
        )
    if refusal := refuse_reward_model(Method(model.method), training.method):
        raise InputRefused(f"the model {model_id} cannot be the base: {refusal}", place)
    return model


async def _data(session: AsyncSession, claim: Claim, training: TrainParameters, pointer: str) -> list[InputReference]:
    if training.data.file is not None:
        file = await find_file_of_data(session, claim.project_id, training, pointer)
        return [upload_reference(file)]
    if training.data.job is not None:
        _, export = await find_job_of_data(session, claim.project_id, training, pointer)
    else:
        export = await _export(session, claim.job_id, training.method, f"{pointer}/data")
    return [reference(item, DATA_STAGE, item.name.rpartition("/")[2]) for item in export]


async def _base(session: AsyncSession, claim: Claim, training: TrainParameters, pointer: str) -> list[InputReference]:
    if training.base.stage is not None:
        job_id, stage, place = claim.job_id, training.base.stage, f"{pointer}/base/stage"
    elif training.base.registry is not None:
        model = await find_registered_base(session, claim.project_id, training, pointer)
        job_id, stage, place = model.job_id, model.stage, f"{pointer}/base/registry"
    else:
        return []
    found = [item for item in await ArtifactRepository(session).of_stages(job_id, [stage]) if item.kind == MODEL_KIND]
    if not found:
        raise InputRefused(f"the stage {stage} of job {job_id} made no file of a model; name another base", place)
    return [reference(item, BASE_STAGE, item.name) for item in found]


async def _export(session: AsyncSession, job_id: str, method: Method, place: str) -> list[Artifact]:
    names = [f"exports/{method.value}/{split}.parquet" for split in _SPLITS]
    made = {item.name: item for item in await ArtifactRepository(session).of_stages(job_id, [_ASSEMBLE])}
    missing = [name for name in names if name not in made]
    if missing:
        raise InputRefused(
            f"job {job_id} made no {', '.join(missing)}; train on a job whose collection was assembled", place
        )
    return [made[name] for name in names]


def refuse_removed(job: Job, place: str) -> None:
    """Raise InputRefused where what the job made was removed because of its age."""
    if job.artifacts_removed_at is not None:
        raise InputRefused(
            f"what job {job.id} made was removed on {job.artifacts_removed_at:%Y-%m-%d} because of its age; submit its spec as a "
            "new job and name that one",
            place,
        )


def reference(item: Artifact, stage: str, name: str) -> InputReference:
    """An artifact as the child shall see it."""
    return InputReference(stage, name, item.key, item.sha256, item.rows, item.details, item.id)


def upload_reference(file: UploadedFile) -> InputReference:
    """An upload as the child shall see it: named by its id, with the user's file name beside it."""
    return InputReference(UPLOAD_STAGE, file.id, file.key, file.sha256, None, {"name": file.name}, file.id)


def lineage_ids(references: Sequence[InputReference]) -> list[str]:
    """What the lineage of a step names of its inputs: ids of artifacts and uploads."""
    return [item.id for item in references]
