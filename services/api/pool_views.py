"""What the routes of pools take and answer."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class PoolView(BaseModel):
    """Steps of one service."""

    pool: str
    ready: int = Field(description="steps that could run now")
    running: int = Field(description="steps that run")
    slots: int = Field(
        description="steps that the live workers take at once; a worker of several roles counts in each pool"
    )
    workers: int = Field(description="live workers that take steps of this pool")


class GroupView(BaseModel):
    """Containers (or processes) that the autoscaler can start, and what it did at its last look."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    roles: list[str]
    minimum: int
    maximum: int
    desired: int
    running: int
    failures: int = Field(description="starts in a row that failed")
    paused_until: datetime | None = Field(description="nothing is started before, because starts failed")
    detail: str
    seen_at: datetime
    stale: bool = Field(description="the autoscaler has not been heard of for a minute")


class WorkerView(BaseModel):
    """A live worker process."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    host: str
    roles: list[str]
    slots: int
    running: int
    draining: bool = Field(description="it takes no more steps, or was told so")
    started_at: datetime
    heartbeat_at: datetime


class PoolsView(BaseModel):
    pools: list[PoolView]
    groups: list[GroupView] = Field(description="empty where no autoscaler has run")
    workers: list[WorkerView]


class DrainRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    worker: str | None = Field(default=None, max_length=300, description="id of one worker; default: all of the pool")


class DrainAnswer(BaseModel):
    workers: list[str] = Field(description="ids of those that were told and did not leave already")
