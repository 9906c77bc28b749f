"""What trainings made, and the recipes that the project carries for them."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from services.api.authentication import Caller, Reader
from services.api.metric_rows import MOST_POINTS, read_metrics, thinned
from services.api.problems import Problem
from services.api.routes.common import listing, problems
from services.api.schemas import (
    ArtifactView,
    Before,
    Limit,
    Listing,
    MetricsView,
    RegisteredModelDetail,
    RegisteredModelView,
    TrainingPresetView,
)
from services.api.state import State
from shared.domain.models import METRICS_FILE
from shared.domain.training_presets import training_preset, training_preset_names, training_preset_text
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.models import ModelRepository
from shared.metadata.tables import Artifact, RegisteredModel

router = APIRouter(prefix="/v1/registry", tags=["registry"])


@router.get("/models", operation_id="list_models", responses=problems())
async def list_models(
    caller: Reader,
    state: State,
    job: Annotated[str | None, Query(max_length=100, description="only what the trainings of this job made")] = None,
    limit: Limit = 50,
    before: Before = None,
) -> Listing[RegisteredModelView]:
    """The project's registered models, newest first. A training names one as `base.registry`."""
    async with state.transaction() as session:
        found = await ModelRepository(session).list(caller.project_id, job_id=job, before=before, limit=limit + 1)
    return listing(found, limit, RegisteredModelView.model_validate, lambda model: model.id)


@router.get("/models/{model_id}", operation_id="get_model", responses=problems(404))
async def get_model(model_id: str, caller: Reader, state: State) -> RegisteredModelDetail:
    """A registered model with the records of all files that its training left."""
    model, artifacts = await _with_artifacts(state, caller, model_id)
    return RegisteredModelDetail(
        **RegisteredModelView.model_validate(model).model_dump(),
        files=[ArtifactView.of(item) for item in artifacts if item.step_id is not None],
    )


@router.get("/models/{model_id}/metrics", operation_id="read_metrics", responses=problems(404, 410))
async def metrics(
    model_id: str,
    caller: Reader,
    state: State,
    points: Annotated[int, Query(ge=1, le=MOST_POINTS, description="rows at most; more are thinned out")] = MOST_POINTS,
) -> MetricsView:
    """What the training logged, by step. Rows with `eval_loss` are those of an evaluation on the test split."""
    _, artifacts = await _with_artifacts(state, caller, model_id)
    logged = next((item for item in artifacts if item.name == METRICS_FILE), None)
    if logged is None:
        raise Problem(404, "not_found", f"the training of model {model_id} left no {METRICS_FILE}")
    content = await state.store.get_bytes(logged.key)
    rows = await asyncio.to_thread(read_metrics, content)
    return MetricsView(model_id=model_id, rows_total=len(rows), rows=thinned(rows, points))


@router.get("/training-presets", operation_id="list_training_presets", responses=problems())
async def list_training_presets(_: Reader) -> Listing[TrainingPresetView]:
    """Ready values for a training, by the name that it gives as `preset`."""
    return Listing(
        items=[
            TrainingPresetView(name=name, yaml=training_preset_text(name), values=training_preset(name))
            for name in training_preset_names()
        ]
    )


async def _with_artifacts(state: State, caller: Caller, model_id: str) -> tuple[RegisteredModel, list[Artifact]]:
    async with state.transaction() as session:
        model = await ModelRepository(session).require(caller.project_id, model_id)
        artifacts = await ArtifactRepository(session).list(caller.project_id, model.job_id, stage=model.stage)
    return model, artifacts
