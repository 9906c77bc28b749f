"""Jobs with trainings that look as if they ran."""

from collections.abc import Sequence
from typing import Any

from services.api.state import ApiState
from shared.domain.states import JobState, StageState
from shared.metadata.repositories.events import METRICS_EVENT, EventRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import Job
from tests.services.api.support import submit_directly
from tests.support.trained import DPO, SFT, metrics

TRAININGS = [training.model_dump(mode="json") for training in (SFT, DPO)]


async def training_job(state: ApiState, name: str = "trains") -> Job:
    """A running job with the trainings `sft`, which runs, and `dpo`, which waits."""
    job = await submit_directly(state, name=name, train=TRAININGS)
    async with state.transaction() as session:
        stored = await session.get_one(Job, job.id)
        stored.state = JobState.RUNNING.value
        for stage in await JobRepository(session).stages(job.id):
            if stage.name == "sft":
                stage.state = StageState.RUNNING.value
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
