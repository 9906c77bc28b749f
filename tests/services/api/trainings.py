"""Jobs with trainings that look as if they ran."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson

from services.api.state import ApiState
from shared.domain.models import METRICS_KIND, MODEL_KIND, ModelRegistration
from shared.domain.states import JobState, StageState
from shared.metadata.repositories.events import METRICS_EVENT, EventRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.models import ModelRepository
from shared.metadata.tables import Artifact, Job
from tests.services.api.support import add_artifact, submit_directly
from tests.support.trained import DPO, SFT, metrics

TRAININGS = [training.model_dump(mode="json") for training in (SFT, DPO)]


async def training_job(state: ApiState, name: str = "trains", work: dict[str, Any] | None = None) -> Job:
    """A running job with the trainings `sft`, which runs and said of itself what `work` says, and `dpo`, which waits."""
    job = await submit_directly(state, name=name, train=TRAININGS)
    async with state.transaction() as session:
        stored = await session.get_one(Job, job.id)
        stored.state = JobState.RUNNING.value
        for stage in await JobRepository(session).stages(job.id):
            if stage.name == "sft":
                stage.state = StageState.RUNNING.value
                stage.work = work
            elif stage.name not in ("dpo", "report"):
                stage.state = StageState.SUCCEEDED.value
    return job


async def log_steps(
    state: ApiState, job_id: str, steps: range, stage: str = "sft", rows: Sequence[dict[str, Any]] | None = None
) -> None:
    """What the training logged of these steps, as events; `rows` in place of made-up ones."""
    training = SFT if stage == "sft" else DPO
    logged = [row for row in metrics(training) if row["step"] in steps] if rows is None else rows
    events = [
        (METRICS_EVENT, {"stage": stage, **row, "steps": 20, "remaining_seconds": (20 - row["step"]) * 1.5})
        for row in logged
    ]
    async with state.transaction() as session:
        await EventRepository(session).append_many(job_id, events)


MODEL = ModelRegistration(
    name="tiny",
    method="sft",
    tuning="full",
    base={"source": "random", "name": "tiny-mistral", "revision": None, "sha256": None},
    parameter_count=1_234_567,
    dtype="float32",
    metrics={"final": {"loss": 1.5337, "grad_norm": 1.15}, "evaluation": {"eval_loss": 1.7123}},
    lineage={"parameters": TRAININGS[0], "inputs": [], "code_version": "0.1.0", "random_weights": True},
    adapter_only=False,
)


async def register(state: ApiState, job: Job, stage: str = "sft", **changes: Any) -> str:
    """A registered model of a training, without files; returns its id."""
    registration = msgspec.structs.replace(MODEL, **changes)
    async with state.transaction() as session:
        return await ModelRepository(session).add(
            project_id=job.project_id, job_id=job.id, stage=stage, attempt_id=1, registration=registration
        )


async def store_files(state: ApiState, job: Job, folder: Path, stage: str = "sft") -> None:
    """What a training leaves in the store, as far as the pages show it."""
    training = SFT if stage == "sft" else DPO
    contents = {
        "metrics.jsonl": (METRICS_KIND, b"".join(orjson.dumps(row) + b"\n" for row in metrics(training))),
        "model/config.json": (MODEL_KIND, b"{}"),
        "model/model.safetensors": (MODEL_KIND, bytes(2_000)),
        "preview.html": ("file", b"<p>rows</p>"),
        "training.json": ("file", b"{}"),
        "tensorboard/events.out": ("file", b"x"),
    }
    for name, (kind, content) in contents.items():
        path = folder / f"{stage}-{name.replace('/', '-')}"
        path.write_bytes(content)
        identifier = await add_artifact(state, job, stage, name, path, ordinal=5, media_type="text/html")
        async with state.transaction() as session:
            (await session.get_one(Artifact, identifier)).kind = kind


async def trained_job(state: ApiState, folder: Path) -> tuple[Job, dict[str, str]]:
    """A job whose trainings `sft` and `dpo` ended; ids of their models by stage."""
    job = await training_job(state, "trained")
    models = {}
    for stage, parameters in (("sft", TRAININGS[0]), ("dpo", TRAININGS[1])):
        await log_steps(state, job.id, range(1, 21), stage)
        await store_files(state, job, folder, stage)
        models[stage] = await register(
            state,
            job,
            stage,
            name=f"tiny-{stage}",
            method=parameters["method"],
            base={"source": "stage", "name": "sft"} if stage == "dpo" else MODEL.base,
            lineage={
                "parameters": parameters,
                "code_version": "0.1.0",
                "random_weights": True,
                "data": {"job_id": job.id, "file_id": None, "simulator": True},
            },
        )
    return job, models
