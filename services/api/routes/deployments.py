"""Deployments: put a registered model (or a provider's) under a name that clients give, look, roll back, undeploy."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from services.api.authentication import Reader, Writer
from services.api.deployment_views import (
    DeploymentDetail,
    DeploymentEventView,
    DeploymentRequest,
    DeploymentView,
    PlaceView,
    RevisionView,
)
from services.api.routes.common import listing, problems
from services.api.schemas import Before, Limit, Listing
from services.api.state import State
from services.api.submission import refuse_unstorable
from shared.domain.deployments import DeploymentState, ServerOptions
from shared.domain.errors import InputRefused
from shared.domain.jobs import ModelChoice
from shared.metadata.repositories.deployments import DeploymentRepository
from shared.metadata.repositories.model_servers import HOW_TO_START
from shared.metadata.tables import Deployment

router = APIRouter(prefix="/v1/deployments", tags=["deployments"])


@router.post("", status_code=202, operation_id="deploy", responses=problems(409, 413, 415))
async def deploy(wanted: DeploymentRequest, response: Response, caller: Writer, state: State) -> DeploymentView:
    """Serve a model under a name. The same name again makes the deployment's next revision: the one before answers until that is
    ready, and for good where it cannot be served."""
    refuse_unstorable(wanted)
    target, options = wanted.target, wanted.options
    if target.provider is not None and target.model is not None:
        state.providers.require(ModelChoice(provider=target.provider, model=target.model), "/target")
        if options != ServerOptions():
            raise InputRefused(
                "options are of a server that we run, and a provider runs its own; leave options out", "/options"
            )
    async with state.transaction() as session:
        repository = DeploymentRepository(session)
        deployment = await repository.deploy(caller.project_id, wanted.name, target, options)
        view = await _view(session, deployment)
        if target.registry is not None and not await repository.live_servers(
            options.server, state.settings.launcher_lease_seconds
        ):
            text = f"no server of kind {options.server} is there; {HOW_TO_START}"
            view = view.model_copy(update={"detail": text})
    response.headers["Location"] = f"/v1/deployments/{view.id}"
    return view


@router.get("", operation_id="list_deployments", responses=problems())
async def list_deployments(
    caller: Reader,
    state: State,
    stopped: Annotated[bool, Query(description="also those that were undeployed")] = False,
    limit: Limit = 50,
    before: Before = None,
) -> Listing[DeploymentView]:
    """The project's deployments, newest first."""
    async with state.transaction() as session:
        repository = DeploymentRepository(session)
        found = await repository.list(caller.project_id, stopped=stopped, before=before, limit=limit + 1)
        wanted = await repository.wanted(found)
    return listing(found, limit, lambda row: DeploymentView.of(row, wanted[row.id]), lambda row: row.id)


@router.get("/{deployment}", operation_id="get_deployment", responses=problems(404))
async def get_deployment(deployment: str, caller: Reader, state: State) -> DeploymentDetail:
    """A deployment by id or name, with its revisions and history, newest first. A stopped one is found by its id alone."""
    async with state.transaction() as session:
        repository = DeploymentRepository(session)
        found = await repository.require(caller.project_id, deployment)
        revisions = await repository.revisions(found.id)
        events = await repository.events(found.id)
        servers = await repository.servers(found.id)
    wanted = next(row for row in revisions if row.revision == found.wanted_revision)
    return DeploymentDetail(
        **DeploymentView.of(found, wanted).model_dump(),
        revisions=[RevisionView.model_validate(row) for row in revisions],
        events=[DeploymentEventView.model_validate(row) for row in events],
        places=[PlaceView.of(row) for row in servers],
    )


@router.post("/{deployment}/rollback", status_code=202, operation_id="roll_back", responses=problems(404, 409))
async def roll_back(deployment: str, caller: Writer, state: State) -> DeploymentView:
    """Serve again what was ready before: a new revision with the target of the last earlier one that served something else."""
    async with state.transaction() as session:
        found = await DeploymentRepository(session).roll_back(caller.project_id, deployment)
        return await _view(session, found)


@router.delete("/{deployment}", operation_id="undeploy", responses=problems(404))
async def undeploy(deployment: str, caller: Writer, state: State) -> DeploymentView:
    """Stop serving for good. The record stays, the name is free again."""
    async with state.transaction() as session:
        found = await DeploymentRepository(session).stop(caller.project_id, deployment)
        view = await _view(session, found)
    assert view.state is DeploymentState.STOPPED
    return view


async def _view(session: AsyncSession, deployment: Deployment) -> DeploymentView:
    wanted = await DeploymentRepository(session).wanted([deployment])
    return DeploymentView.of(deployment, wanted[deployment.id])
