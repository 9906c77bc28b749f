"""Pages about registered models: the list, and one model with its lineage, recipe, figures and curves."""

import asyncio
import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from services.api.local_objects import ObjectReference
from services.api.metric_rows import read_metrics
from services.api.pages.rendering import Viewer, plotly_json, render
from services.api.pages.trainings import PREVIEW_FILE
from services.api.schemas import ArtifactView
from services.api.state import ApiState, State
from shared.artifacts.protocol import ObjectNotFound
from shared.charts import training_curves
from shared.domain.deployments import NAME_PATTERN
from shared.domain.models import ADAPTER_KIND, METRICS_FILE, MODEL_KIND
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.models import ModelRepository
from shared.metadata.tables import Artifact, RegisteredModel
from shared.pages.trainings import base_text, data_text, ends_of, method_text, metric_rows, metric_text, recipe_rows

router = APIRouter()

_PAGE_MODELS = 50
_WEIGHT_KINDS = (MODEL_KIND, ADAPTER_KIND)


@router.get("/models")
async def models_page(
    request: Request, caller: Viewer, state: State, before: Annotated[str | None, Query(max_length=100)] = None
) -> Response:
    """Registered models, newest first."""
    async with state.transaction() as session:
        found = await ModelRepository(session).list(caller.project_id, before=before, limit=_PAGE_MODELS + 1)
        shown = found[:_PAGE_MODELS]
        jobs = await JobRepository(session).names(caller.project_id, {model.job_id for model in shown})
    return render(
        request,
        "models.html",
        models=[_row(model, jobs) for model in shown],
        next=shown[-1].id if len(found) > _PAGE_MODELS else None,
        before=before,
        may_write=caller.may("write"),
    )


@router.get("/models/{model_id}")
async def model_page(request: Request, model_id: str, caller: Viewer, state: State) -> Response:
    """One model."""
    async with state.transaction() as session:
        model = await ModelRepository(session).require(caller.project_id, model_id)
        job = await JobRepository(session).require(caller.project_id, model.job_id)
        siblings = {one.stage: one for one in await ModelRepository(session).of_job(model.job_id)}
        artifacts = await ArtifactRepository(session).list(caller.project_id, model.job_id, stage=model.stage)
    parameters: dict[str, Any] = model.lineage.get("parameters") or {}
    curves = await _curves(state, artifacts)
    files = [ArtifactView.of(item) for item in artifacts if item.kind != "manifest"]
    return render(
        request,
        "model.html",
        model=model,
        job=job,
        what=method_text(model.method, model.tuning),
        base=_base(model, siblings),
        data=_data(model),
        trial=bool(model.lineage.get("random_weights")),
        simulated=bool((model.lineage.get("data") or {}).get("simulator")),
        metrics=metric_rows(*ends_of(model.metrics)),
        recipe=recipe_rows(parameters),
        code_version=model.lineage.get("code_version"),
        curves=curves,
        weights=[item for item in files if item.kind in _WEIGHT_KINDS],
        others=[item for item in files if item.kind not in _WEIGHT_KINDS and not item.name.startswith("tensorboard/")],
        preview=next((item for item in files if item.name == PREVIEW_FILE), None),
        may_write=caller.may("write"),
        name_to_deploy=model.name if re.match(NAME_PATTERN, model.name) else "",
    )


def _row(model: RegisteredModel, jobs: dict[str, str]) -> dict[str, Any]:
    training, held_out = ends_of(model.metrics)
    result = {**training, **held_out}
    return {
        "model": model,
        "base": base_text(model.base),
        "data": _data(model)["text"],
        "loss": metric_text("loss", result.get("loss")),
        "accuracy": metric_text("rewards/accuracies", result.get("rewards/accuracies")),
        "job": jobs.get(model.job_id, model.job_id),
    }


def _base(model: RegisteredModel, siblings: dict[str, RegisteredModel]) -> dict[str, str | None]:
    """Words for the base, and the page of the model that it is, if it is a registered one."""
    source, name = model.base.get("source"), str(model.base.get("name"))
    earlier = siblings.get(name) if source == "stage" else None
    link = f"/models/{earlier.id}" if earlier else f"/models/{name}" if source == "registry" else None
    return {"text": base_text(model.base), "link": link}


def _data(model: RegisteredModel) -> dict[str, str | None]:
    """Words for the rows that were trained on, and where they can be looked at: an upload cannot."""
    rows: dict[str, Any] = model.lineage.get("data") or {}
    job = rows.get("job_id")
    own = job == model.job_id
    text = data_text({"job": None if own else job, "file": rows.get("file_id")})
    return {"text": text, "link": f"/jobs/{job}/data" if job else None}


async def _curves(state: ApiState, artifacts: list[Artifact]) -> list[dict[str, Any]] | None:
    """Figures of the logged steps; None where their bytes are not in the store."""
    item = next((artifact for artifact in artifacts if artifact.name == METRICS_FILE), None)
    if item is None:
        return None
    try:
        async with state.objects.local(ObjectReference(item.key, item.sha256, item.size)) as path:
            rows = read_metrics(await asyncio.to_thread(path.read_bytes))
    except ObjectNotFound:
        return None
    return [
        {"name": curve.name, "title": curve.title, "figure": plotly_json(curve.figure)}
        for curve in training_curves(rows)
    ]
