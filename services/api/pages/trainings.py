"""What a job's page shows of its trainings: how far each one is, its last figures, and its loss so far."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.api.pages.sparkline import sparkline
from services.api.schemas import JobView, StageView
from shared.charts import series_points, thinned
from shared.domain.states import StageState
from shared.domain.training import TrainParameters
from shared.metadata.repositories.events import EventRepository
from shared.metadata.repositories.models import ModelRepository
from shared.metadata.tables import Artifact
from shared.pages.trainings import base_text, data_text, method_text

PREVIEW_FILE = "preview.html"
"""The rows of a training as tokens, with the loss mask in colour."""

_CURVE_POINTS = 240


async def training_panels(session: AsyncSession, job: JobView, artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """One record per training of the job, in its order: what it is, its stage, its last logged step, its loss so far, and what
    it left to be looked at: the registered model, and the rows as tokens."""
    trainings = job.spec.train
    if not trainings:
        return []
    events = EventRepository(session)
    losses = await events.training_losses(job.id)
    last = await events.last_metrics(job.id)
    models = {model.stage: model.id for model in await ModelRepository(session).of_job(job.id)}
    previews = {item.stage: item.id for item in artifacts if item.name == PREVIEW_FILE}
    stages = {stage.name: stage for stage in job.stages}
    return [
        {
            **_panel(training, stages[training.name], last.get(training.name), losses.get(training.name, [])),
            "model": models.get(training.name),
            "preview": previews.get(training.name),
        }
        for training in trainings
        if training.name in stages
    ]


def _panel(
    training: TrainParameters, stage: StageView, last: dict[str, Any] | None, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    points = [thinned(series_points(rows, name), _CURVE_POINTS) for name in ("loss", "eval_loss")]
    step, steps = (int((last or {}).get(name) or 0) for name in ("step", "steps"))
    return {
        "name": training.name,
        "what": method_text(training.method, training.tuning),
        "base": base_text(training.base.model_dump()),
        "data": data_text(training.data.model_dump()),
        "dry_run": training.dry_run,
        "state": stage.state,
        "running": stage.state == StageState.RUNNING,
        "doing": stage.work.note if stage.work else "",
        "progress": step / steps if steps else stage.progress,
        "last": last,
        "step": step,
        "steps": steps,
        "curve": sparkline(points, steps),
        "evaluated": any(value is not None for _, value in points[1]),
    }
