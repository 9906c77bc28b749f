"""What the api takes and answers of deployments."""

from datetime import datetime
from typing import Any

from pydantic import Field

from services.api.schemas import ApiModel, RequestModel
from shared.domain.deployments import (
    NAME_PATTERN,
    DeploymentState,
    DeploymentTarget,
    RevisionState,
    ServerOptions,
    ServerState,
)
from shared.metadata.tables import Deployment, DeploymentRevision, ModelServer


class DeploymentRequest(RequestModel):
    """What shall be served, and under which name."""

    name: str = Field(pattern=NAME_PATTERN, examples=["janus"], description="what clients give as `model`")
    target: DeploymentTarget
    options: ServerOptions = ServerOptions()


class DeploymentView(ApiModel):
    """A name under which a model answers."""

    id: str = Field(examples=["dep_01jdexample0000000000000000"])
    name: str
    state: DeploymentState
    detail: str = Field(description="why it is in that state, in words")
    wanted_revision: int = Field(description="the revision that it shall serve")
    serving_revision: int | None = Field(description="the one that answers, or does once its server is up again")
    target: DeploymentTarget = Field(description="of the wanted revision")
    options: ServerOptions = Field(description="of the wanted revision")
    job_id: str | None = Field(description="of a job's own deployment, which is stopped when the job has ended")
    created_at: datetime
    changed_at: datetime
    stopped_at: datetime | None

    @classmethod
    def of(cls, deployment: Deployment, wanted: DeploymentRevision) -> "DeploymentView":
        return cls.model_validate({**deployment.model_dump(), "target": wanted.target, "options": wanted.options})


class RevisionView(ApiModel):
    """One model that the deployment was asked to serve."""

    revision: int
    target: DeploymentTarget
    options: ServerOptions
    state: RevisionState
    error: str | None = Field(description="why it could not be served")
    info: dict[str, Any] | None = Field(description="what its server said of itself when it was ready")
    created_at: datetime
    ready_at: datetime | None
    ended_at: datetime | None


class DeploymentEventView(ApiModel):
    """What happened to a deployment. Sequence numbers have no gaps."""

    sequence: int
    revision: int
    type: str = Field(description="revision, rollback, placed, ready, restarting, failed, kept, lost, stopped")
    detail: str
    created_at: datetime


class PlaceView(ApiModel):
    """A place of a launcher that serves the deployment, or shall."""

    id: str = Field(description="`<launcher>/<place>`")
    kind: str
    revision: int | None
    state: ServerState
    detail: str
    heard_at: datetime

    @classmethod
    def of(cls, server: ModelServer) -> "PlaceView":
        return cls.model_validate(
            {
                "id": server.id,
                "kind": server.kind,
                "revision": server.revision,
                "state": server.observed_state,
                "detail": server.observed_detail,
                "heard_at": server.heartbeat_at,
            }
        )


class DeploymentDetail(DeploymentView):
    revisions: list[RevisionView]
    events: list[DeploymentEventView]
    places: list[PlaceView]
