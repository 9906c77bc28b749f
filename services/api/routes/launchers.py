"""Launchers of model servers: they tell what their places do, are told what to run, and fetch its files."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from services.api.authentication import is_loopback, require_launcher
from services.api.problems import not_found
from services.api.ranges import byte_range, stream_range
from services.api.routes.common import problems
from services.api.schemas import ApiModel
from services.api.state import ApiState, State
from shared.artifacts.protocol import ArtifactStore
from shared.domain.deployments import LAUNCHER_PATTERN, DeploymentTarget, LauncherReport, ServerOptions, ServerState
from shared.domain.errors import InputRefused
from shared.metadata.repositories.model_servers import (
    LauncherTerms,
    ModelServerRepository,
    WantedServer,
    served_id,
)
from shared.metadata.repositories.served_models import (
    BaseSource,
    HubModel,
    OperatorFolder,
    ServedModel,
    StoredFiles,
    served_model,
)
from shared.metadata.tables import Artifact

router = APIRouter(prefix="/v1/launchers", tags=["launchers"], dependencies=[Depends(require_launcher)])

REPORT_SECONDS = 2.0
"""Between two reports of a launcher."""

QUIET_REPORT_SECONDS = 4.0
"""The same, of a launcher that runs nothing and shall run nothing, where its lease lets it."""

_QUIET_SHARE = 0.2
"""Of the lease of launchers: a few reports may be lost before one counts as gone."""

URL_SECONDS = 3600
"""How long a URL of the store may be used. It is asked for anew with every report."""

_GIVE_UP_SHARE = 0.8
"""Of the lease of GPUs: after so long without an answer a launcher ends what uses them, before others may take them."""

Launcher = Annotated[str, Path(pattern=LAUNCHER_PATTERN, description="the launcher's name")]


class WantedFile(ApiModel):
    name: str = Field(description="path below the model's folder")
    size: int
    sha256: str
    url: str = Field(
        description="where it is fetched; one that begins with / is at this api, with the launcher's token"
    )


class WantedSource(ApiModel):
    """Where a model is: files to fetch, a folder of the machine, or the Hub. Exactly one is set."""

    key: str = Field(description="the same key stands for the same bytes")
    files: list[WantedFile] | None = None
    folder: str | None = Field(default=None, description="below the launcher's folder of models")
    repository: str | None = None
    revision: str | None = Field(default=None, description="of a repository on the Hub")


class WantedModel(ApiModel):
    """What a place shall serve."""

    id: str = Field(description="`<deployment>:<revision>`")
    name: str = Field(description="what the server calls its model, or its adapters")
    model: WantedSource | None
    adapters: WantedSource | None = None
    arguments: list[str] = Field(description="options for the server")
    devices: list[int] = Field(description="the GPUs that it may use")
    problem: str | None = Field(default=None, description="why it cannot be served; then there is no model")


class WantedPlace(ApiModel):
    place: int
    wanted: WantedModel | None


class LauncherAnswer(ApiModel):
    """What each place of the launcher shall run."""

    report_seconds: float
    give_up_seconds: float = Field(description="without an answer for so long, GPUs must be given up")
    places: list[WantedPlace]


def report_seconds(quiet: bool, lease_seconds: float) -> float:
    """When the launcher shall report next."""
    if not quiet:
        return REPORT_SECONDS
    return max(REPORT_SECONDS, min(QUIET_REPORT_SECONDS, lease_seconds * _QUIET_SHARE))


def launcher_terms(state: ApiState) -> LauncherTerms:
    return LauncherTerms(state.settings.launcher_lease_seconds, state.settings.gpu_lease_seconds)


@router.post("/{launcher}/report", operation_id="report_launcher", responses=problems(413, 415))
async def report(launcher: Launcher, told: LauncherReport, state: State) -> LauncherAnswer:
    """What a launcher's places do; the answer says what they shall run. For launchers alone."""
    if state.settings.authentication == "loopback":
        _refuse_foreign(told)
    async with state.transaction() as session:
        wanted = await ModelServerRepository(session, launcher_terms(state)).report(launcher, told)
    async with state.transaction() as session:
        shown = {item.place: await _model(session, state.store, launcher, item) for item in wanted}
    quiet = not wanted and all(item.state is ServerState.EMPTY for item in told.places)
    return LauncherAnswer(
        report_seconds=report_seconds(quiet, state.settings.launcher_lease_seconds),
        give_up_seconds=state.settings.gpu_lease_seconds * _GIVE_UP_SHARE,
        places=[WantedPlace(place=item.place, wanted=shown.get(item.place)) for item in told.places],
    )


@router.get(
    "/{launcher}/files/{artifact_id}",
    operation_id="fetch_model_file",
    response_class=Response,
    responses={
        **problems(404, 410, 416),
        200: {"description": "The bytes.", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
        206: {
            "description": "The range asked for.",
            "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
        },
    },
)
async def fetch_file(
    launcher: Launcher,
    artifact_id: str,
    state: State,
    range_header: Annotated[str | None, Header(alias="Range", max_length=100, description="one range of bytes")] = None,
) -> Response:
    """A file of a model that one of the launcher's places shall serve, where the store has no URLs of its own."""
    artifact = await _file_of(state, launcher, artifact_id)
    await state.store.stat(artifact.key)
    start, end = 0, artifact.size
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "Cache-Control": "no-store"}
    found = None if range_header is None else byte_range(range_header, artifact.size)
    if found is not None:
        start, end = found
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.size}"
    headers["Content-Length"] = str(end - start)
    body: AsyncIterator[bytes] = stream_range(state.store, artifact.key, start, end)
    return StreamingResponse(body, status_code=200 if found is None else 206, headers=headers)


async def _file_of(state: ApiState, launcher: str, artifact_id: str) -> Artifact:
    """The artifact, if it belongs to a model that the launcher shall serve: its token opens nothing else."""
    async with state.transaction() as session:
        for project_id, model_id in await ModelServerRepository(session, launcher_terms(state)).serves(launcher):
            try:
                served = await served_model(session, project_id, model_id)
            except InputRefused:
                continue
            for artifact in _files(served):
                if artifact.id == artifact_id:
                    return artifact
    raise not_found("file of a model of this launcher", artifact_id)


def _files(served: ServedModel) -> list[Artifact]:
    sources = [source for source in (served.base, served.adapters) if isinstance(source, StoredFiles)]
    return [artifact for source in sources for artifact in source.files]


async def _model(session: AsyncSession, store: ArtifactStore, launcher: str, wanted: WantedServer) -> WantedModel:
    revision = wanted.revision
    target = DeploymentTarget.model_validate(revision.target)
    options = ServerOptions.model_validate(revision.options)
    common: dict[str, Any] = {
        "id": served_id(revision.deployment_id, revision.revision),
        "name": wanted.deployment.name,
        "arguments": options.arguments(),
        "devices": list(wanted.devices),
    }
    try:
        served = await served_model(session, wanted.deployment.project_id, target.registry or "")
    except InputRefused as error:
        return WantedModel(model=None, problem=str(error), **common)
    adapters = None if served.adapters is None else await _source(store, launcher, served.adapters)
    return WantedModel(model=await _source(store, launcher, served.base), adapters=adapters, **common)


async def _source(store: ArtifactStore, launcher: str, source: BaseSource) -> WantedSource:
    match source:
        case StoredFiles():
            files = [
                WantedFile(
                    name=artifact.name.removeprefix(f"{source.kind}/"),
                    size=artifact.size,
                    sha256=artifact.sha256,
                    url=await store.presigned_url(artifact.key, URL_SECONDS)
                    or f"/v1/launchers/{launcher}/files/{artifact.id}",
                )
                for artifact in source.files
            ]
            return WantedSource(key=f"{source.model_id}-{source.kind}", files=files)
        case OperatorFolder():
            return WantedSource(key=f"folder-{source.name}", folder=source.name)
        case HubModel():
            return WantedSource(
                key=f"hub-{source.repository}@{source.revision or 'main'}",
                repository=source.repository,
                revision=source.revision,
            )


def _refuse_foreign(told: LauncherReport) -> None:
    """Without a token whoever reports is on this machine, and so is what it runs."""
    for number, place in enumerate(told.places):
        if place.address is not None and not is_loopback(place.address.removeprefix("http://").rpartition(":")[0]):
            raise InputRefused(
                f"without a token servers must be on this machine; seen: {place.address}. Set "
                "MULTIFACET_AUTHENTICATION=keys and MULTIFACET_LAUNCHER_TOKEN for servers elsewhere",
                f"/places/{number}/address",
            )
