"""Pages about deployments: the list with the places of launchers, and one deployment with its revisions and history."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncSession

from services.api.authentication import Caller
from services.api.pages.rendering import Viewer, render
from services.api.pages.try_it import try_link
from services.api.state import ApiState, State
from shared.domain.deployments import DeploymentState, DeploymentTarget
from shared.llm.providers import ANY_MODEL
from shared.metadata.repositories.deployments import DeploymentRepository
from shared.metadata.repositories.models import ModelRepository
from shared.metadata.repositories.serving import ServingRepository
from shared.metadata.tables import Deployment, DeploymentRevision, RegisteredModel

router = APIRouter()

_MODELS_TO_CHOOSE = 200
_DEPLOYMENTS = 200


@router.get("/deployments")
async def deployments_page(request: Request, caller: Viewer, state: State) -> Response:
    """Deployments, those that answer or may come to answer first."""
    return render(
        request, "deployments.html", **await _list(state, caller), targets=await deployable(state, caller.project_id)
    )


@router.get("/deployments/list")
async def deployments_list(request: Request, caller: Viewer, state: State) -> Response:
    """The live part of the list."""
    return render(request, "_deployments.html", **await _list(state, caller))


@router.get("/deployments/{deployment_id}")
async def deployment_page(request: Request, deployment_id: str, caller: Viewer, state: State) -> Response:
    values = await _one(state, caller, deployment_id)
    return render(request, "deployment.html", **values, targets=await deployable(state, caller.project_id))


@router.get("/deployments/{deployment_id}/live")
async def deployment_live(request: Request, deployment_id: str, caller: Viewer, state: State) -> Response:
    """The live part of a deployment's page."""
    return render(request, "_deployment.html", **await _one(state, caller, deployment_id))


async def deployable(state: ApiState, project_id: str) -> dict[str, Any]:
    """What the form offers: registered models, newest first, and models of the configured providers."""
    async with state.transaction() as session:
        models = await ModelRepository(session).list(project_id, limit=_MODELS_TO_CHOOSE)
    return {
        "models": models,
        "providers": [
            {"provider": name, "model": None if model == ANY_MODEL else model, "simulator": provider.simulator}
            for name, provider in state.providers.providers.items()
            for model in provider.models
        ],
    }


async def _list(state: ApiState, caller: Caller) -> dict[str, Any]:
    async with state.transaction() as session:
        repository = DeploymentRepository(session)
        deployments = await repository.list(caller.project_id, stopped=True, limit=_DEPLOYMENTS)
        revisions = {one.id: await repository.revisions(one.id) for one in deployments}
        models = await _models(session, caller.project_id, [one for group in revisions.values() for one in group])
        servers = await ServingRepository(session).places()
    rows = [_row(one, revisions[one.id], models) for one in deployments]
    return {
        "living": [row for row in rows if row["deployment"].state != DeploymentState.STOPPED],
        "stopped": [row for row in rows if row["deployment"].state == DeploymentState.STOPPED],
        "servers": servers,
        "names": {one.id: one.name for one in deployments},
        "may_chat": caller.may("chat"),
        "may_write": caller.may("write"),
    }


async def _one(state: ApiState, caller: Caller, deployment_id: str) -> dict[str, Any]:
    async with state.transaction() as session:
        repository = DeploymentRepository(session)
        deployment = await repository.require(caller.project_id, deployment_id)
        revisions = await repository.revisions(deployment.id)
        models = await _models(session, caller.project_id, revisions)
        events = await repository.events(deployment.id)
    return {
        "row": _row(deployment, revisions, models),
        "revisions": [{"revision": one, **_target(one, models)} for one in revisions],
        "events": events,
        "may_chat": caller.may("chat"),
        "may_write": caller.may("write"),
    }


async def _models(
    session: AsyncSession, project_id: str, revisions: Sequence[DeploymentRevision]
) -> dict[str, RegisteredModel]:
    wanted = {one.target["registry"] for one in revisions if one.target.get("registry")}
    return await ModelRepository(session).of_ids(project_id, wanted)


def _row(
    deployment: Deployment, revisions: Sequence[DeploymentRevision], models: dict[str, RegisteredModel]
) -> dict[str, Any]:
    """One deployment with the revision that answers now, else the one that it was last asked for."""
    number = deployment.serving_revision or deployment.wanted_revision
    shown = next(one for one in revisions if one.revision == number)
    target = _target(shown, models)
    return {
        "deployment": deployment,
        "revision": shown,
        **target,
        "can_roll_back": _can_roll_back(shown, revisions),
        "answers": deployment.serving_revision is not None and not target["is_reward_model"],
        "try_link": try_link({"model": deployment.name, "person": "nobody"}),
    }


def _can_roll_back(now: DeploymentRevision, revisions: Sequence[DeploymentRevision]) -> bool:
    """Whether something else was ready before, which `DeploymentRepository.roll_back` would serve again."""
    return any(
        one.ready_at is not None
        and one.revision < now.revision
        and (one.target, one.options) != (now.target, now.options)
        for one in revisions
    )


def _target(revision: DeploymentRevision, models: dict[str, RegisteredModel]) -> dict[str, Any]:
    """Words for what is served, and the page of it where it is a registered model."""
    target = DeploymentTarget.model_validate(revision.target)
    if target.registry is None:
        return {"what": f"{target.provider}/{target.model}", "link": None, "is_reward_model": False}
    model = models.get(target.registry)
    return {
        "what": target.registry if model is None else model.name,
        "link": None if model is None else f"/models/{model.id}",
        "is_reward_model": model is not None and model.method == "rm",
    }
