"""The tables: Postgres is the truth. Times are `timestamptz` set by the database's own clock, money is micro-dollars."""

from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB
from sqlmodel import Field, SQLModel

_NOW = sa.text("now()")


def _json(nullable: bool = False) -> Any:
    return sa.Column(JSONB, nullable=nullable)


def _time(default_now: bool = False) -> Any:
    if default_now:
        return sa.Column(sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW)
    return sa.Column(sa.TIMESTAMP(timezone=True), nullable=True)


class Project(SQLModel, table=True):
    __tablename__ = "project"
    id: str = Field(primary_key=True)
    created_at: datetime | None = Field(default=None, sa_column=_time(True))


class ApiKey(SQLModel, table=True):
    """A key is shown once; only its sha256 is kept. Scopes: chat, read, write, admin. Limits are of live requests, None: none."""

    __tablename__ = "api_key"
    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    key_sha256: str = Field(unique=True)
    scopes: list[str] = Field(sa_column=sa.Column(ARRAY(sa.Text), nullable=False))
    created_at: datetime | None = Field(default=None, sa_column=_time(True))
    expires_at: datetime | None = Field(default=None, sa_column=_time())
    revoked_at: datetime | None = Field(default=None, sa_column=_time())
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = Field(default=None, sa_column=sa.Column(sa.BigInteger, nullable=True))
    tokens_per_day: int | None = Field(default=None, sa_column=sa.Column(sa.BigInteger, nullable=True))


class IdempotencyKey(SQLModel, table=True):
    """A POST with an Idempotency-Key: the same key with the same body gives the same job, with another body a 422."""

    __tablename__ = "idempotency_key"
    project_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    request_sha256: str
    job_id: str
    created_at: datetime | None = Field(default=None, sa_column=_time(True))


class UploadedFile(SQLModel, table=True):
    __tablename__ = "uploaded_file"
    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    key: str
    sha256: str
    size: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    created_at: datetime | None = Field(default=None, sa_column=_time(True))


class StoredTaxonomy(SQLModel, table=True):
    __tablename__ = "taxonomy"
    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    version: str
    body: dict[str, Any] = Field(sa_column=_json())
    created_at: datetime | None = Field(default=None, sa_column=_time(True))


class Job(SQLModel, table=True):
    __tablename__ = "job"
    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    spec: dict[str, Any] = Field(sa_column=_json())
    taxonomy: dict[str, Any] = Field(sa_column=_json())
    """The taxonomy as it was at submission: frozen with the job."""
    teacher_is_simulator: bool = False
    state: str = Field(index=True)
    cancel_requested_at: datetime | None = Field(default=None, sa_column=_time())
    event_sequence: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
    budget_micro_usd: int | None = Field(default=None, sa_column=sa.Column(sa.BigInteger, nullable=True))
    cost_micro_usd: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
    unpriced_calls: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
    max_reject_rate: float = 0.5
    error: dict[str, Any] | None = Field(default=None, sa_column=_json(True))
    """{code, message, stage, step_id} of what failed the job."""
    estimate: dict[str, Any] | None = Field(default=None, sa_column=_json(True))
    run_no: int = 1
    """1, plus one per retry of the whole job."""
    created_at: datetime | None = Field(default=None, sa_column=_time(True))
    started_at: datetime | None = Field(default=None, sa_column=_time())
    finished_at: datetime | None = Field(default=None, sa_column=_time())
    settled_at: datetime | None = Field(default=None, sa_column=_time())
    """When nothing of an ended job ran any longer and its index.json was written."""
    deadline_at: datetime | None = Field(default=None, sa_column=_time())
    trace: str | None = None
    """W3C `traceparent` of the request that submitted it."""
    artifacts_removed_at: datetime | None = Field(default=None, sa_column=_time())
    """When its artifacts were removed because of their age."""


class Stage(SQLModel, table=True):
    __tablename__ = "stage"
    __table_args__ = (sa.UniqueConstraint("job_id", "name"),)
    id: str = Field(primary_key=True)
    job_id: str = Field(foreign_key="job.id", index=True)
    ordinal: int
    """0, 1, …; folders are named `<ordinal * 10:02d>-<name>`."""
    name: str
    kind: str
    service: str
    needs: list[str] = Field(sa_column=sa.Column(ARRAY(sa.Text), nullable=False))
    barrier: bool
    parameters: dict[str, Any] = Field(sa_column=_json())
    state: str
    partitioned: bool = False
    """True when its steps exist."""
    steps_total: int = 0
    steps_succeeded: int = 0
    ledger: dict[str, Any] = Field(sa_column=_json())
    """shared.domain.ledger.Ledger, the sum over succeeded steps plus the progress of running ones."""
    rows_expected: int | None = None
    summary: dict[str, Any] | None = Field(default=None, sa_column=_json(True))
    work: dict[str, Any] | None = Field(default=None, sa_column=_json(True))
    """{done, total, note}: how far the one step of a whole stage said it is."""
    manifest_key: str | None = None
    started_at: datetime | None = Field(default=None, sa_column=_time())
    finished_at: datetime | None = Field(default=None, sa_column=_time())


class Step(SQLModel, table=True):
    __tablename__ = "step"
    __table_args__ = (
        sa.UniqueConstraint("stage_id", "shard"),
        sa.Index("step_by_state", "state", "queue", "not_before"),
        sa.Index("step_by_job", "job_id", "state"),
        sa.Index(
            "step_waiting",
            "job_id",
            sa.text("priority DESC"),
            "shard",
            postgresql_where=sa.text("state IN ('ready', 'dispatched')"),
        ),
        sa.Index("step_unfinished", "stage_id", postgresql_where=sa.text("state <> 'succeeded'")),
    )
    id: str = Field(primary_key=True)
    job_id: str = Field(foreign_key="job.id")
    stage_id: str = Field(foreign_key="stage.id")
    shard: int = 0
    """Shard number of a row stage; 0 for a whole step."""
    queue: str
    """Name of the service that runs it: the Celery queue."""
    state: str
    priority: int = 0
    """The stage's ordinal: later stages first, so that shards finish."""
    not_before: datetime | None = Field(default=None, sa_column=_time(True))
    dispatch_no: int = 0
    dispatched_at: datetime | None = Field(default=None, sa_column=_time())
    failures: int = 0
    """Tries that failed by the step's own fault: the user budget."""
    losses: int = 0
    """Tries lost with their worker: the infrastructure budget."""
    last_crash: str | None = None
    crash_repeats: int = 0
    """The same crash three times in a row: poisoned."""
    rows_expected: int | None = None
    ledger: dict[str, Any] | None = Field(default=None, sa_column=_json(True))
    progress: dict[str, Any] | None = Field(default=None, sa_column=_json(True))
    summary: dict[str, Any] | None = Field(default=None, sa_column=_json(True))
    error: dict[str, Any] | None = Field(default=None, sa_column=_json(True))
    started_at: datetime | None = Field(default=None, sa_column=_time())
    finished_at: datetime | None = Field(default=None, sa_column=_time())


class Attempt(SQLModel, table=True):
    """One try at a step. `id` is the fencing token; at most one attempt of a step runs."""

    __tablename__ = "attempt"
    __table_args__ = (
        sa.Index("one_running_attempt", "step_id", unique=True, postgresql_where=sa.text("state = 'running'")),
        sa.Index("attempt_by_lease", "lease_until", postgresql_where=sa.text("state = 'running'")),
    )
    id: int | None = Field(default=None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True))
    step_id: str = Field(foreign_key="step.id", index=True)
    worker_id: str
    state: str
    lease_until: datetime | None = Field(default=None, sa_column=_time())
    started_at: datetime | None = Field(default=None, sa_column=_time(True))
    ended_at: datetime | None = Field(default=None, sa_column=_time())
    error: dict[str, Any] | None = Field(default=None, sa_column=_json(True))


class Outbox(SQLModel, table=True):
    """Doorbells to ring: written in the transaction that dispatches a step, published by the controller."""

    __tablename__ = "outbox"
    id: int | None = Field(default=None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True))
    step_id: str
    dispatch_no: int
    queue: str
    trace: str | None = None
    """W3C `traceparent` of the dispatch, which the worker's spans go on from."""
    created_at: datetime | None = Field(default=None, sa_column=_time(True))


class Event(SQLModel, table=True):
    """What happened to a job. `sequence` is taken under the job's row lock, so readers never miss one."""

    __tablename__ = "event"
    job_id: str = Field(primary_key=True, foreign_key="job.id")
    sequence: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    type: str
    """job.state | stage.state | stage.progress | step.state | job.cost | train.metrics | note"""
    data: dict[str, Any] = Field(sa_column=_json())
    created_at: datetime | None = Field(default=None, sa_column=_time(True))


class Artifact(SQLModel, table=True):
    __tablename__ = "artifact"
    __table_args__ = (sa.Index("artifact_by_job", "job_id", "stage"),)
    id: str = Field(primary_key=True)
    project_id: str
    job_id: str
    stage: str
    step_id: str | None = None
    attempt_id: int | None = Field(default=None, sa_column=sa.Column(sa.BigInteger, nullable=True))
    name: str
    """Path below the stage's folder (below the job's, for job-level files)."""
    key: str = Field(unique=True)
    kind: str
    media_type: str
    sha256: str
    size: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    rows: int | None = None
    schema_version: str | None = None
    details: dict[str, Any] = Field(sa_column=_json())
    """What the maker tells of it (OutputObject.metadata)."""
    lineage: dict[str, Any] = Field(sa_column=_json())
    """{inputs: [artifact ids], parameters, prompts, code_version}"""
    created_at: datetime | None = Field(default=None, sa_column=_time(True))
    removed_at: datetime | None = Field(default=None, sa_column=_time())
    """When its bytes were removed because of their age; the record stays."""


class RegisteredModel(SQLModel, table=True):
    """A model that a training made. Its files are the artifacts of the same stage, kinds `model` and `adapter`."""

    __tablename__ = "registered_model"
    __table_args__ = (sa.UniqueConstraint("job_id", "stage"),)
    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    job_id: str = Field(foreign_key="job.id")
    stage: str
    attempt_id: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    name: str
    method: str
    tuning: str
    base: dict[str, Any] = Field(sa_column=_json())
    parameter_count: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    dtype: str
    adapter_only: bool
    """The artifacts hold adapters alone: the base is elsewhere."""
    metrics: dict[str, Any] = Field(sa_column=_json())
    lineage: dict[str, Any] = Field(sa_column=_json())
    """{inputs: [artifact ids], parameters, code_version} and what the training itself told."""
    created_at: datetime | None = Field(default=None, sa_column=_time(True))


class Bench(SQLModel, table=True):
    """Items that candidates are asked and graded on: what a stage `bench` kept, or an uploaded file. `rows` are instructions,
    `items` instructions under one preference set each."""

    __tablename__ = "bench"
    __table_args__ = (sa.UniqueConstraint("job_id"), sa.UniqueConstraint("project_id", "file_id"))
    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    job_id: str | None = Field(default=None, foreign_key="job.id")
    file_id: str | None = Field(default=None, foreign_key="uploaded_file.id")
    rows: int
    items: int
    teacher: str | None = None
    """`provider/model` that wrote the rubrics, where it is known."""
    created_at: datetime | None = Field(default=None, sa_column=_time(True))


class BenchReview(SQLModel, table=True):
    """What a person decided about one item of a bench; the last word of each reviewer counts."""

    __tablename__ = "bench_review"
    bench_id: str = Field(foreign_key="bench.id", primary_key=True)
    item_id: str = Field(primary_key=True)
    """`<row id>:<facet index>`."""
    reviewer: str = Field(primary_key=True)
    decision: str
    """keep | drop"""
    reason: str = ""
    decided_at: datetime | None = Field(default=None, sa_column=_time(True))


class AnnotationTask(SQLModel, table=True):
    """Pairs of answers of one job that people compare without knowing whose they are. Its items are made with it."""

    __tablename__ = "annotation_task"
    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    job_id: str = Field(foreign_key="job.id")
    first: str
    """Name of the answer stage whose answers are the first of each pair."""
    second: str
    seed: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    shows_preferences: bool
    """Whether annotators see what the person wants, or the instruction alone."""
    items: int
    created_at: datetime | None = Field(default=None, sa_column=_time(True))


class AnnotationItem(SQLModel, table=True):
    """One pair, at its place in the shuffled order. Texts stay with it, so that a page needs no artifact."""

    __tablename__ = "annotation_item"
    task_id: str = Field(foreign_key="annotation_task.id", primary_key=True)
    number: int = Field(primary_key=True)
    """Place in the order in which items are shown, from 0."""
    row_id: str
    facet_index: int
    swapped: bool
    """The second answer is shown on the left."""
    body: dict[str, Any] = Field(sa_column=_json())
    """{instruction, preferences: [description], first: text, second: text, first_words, second_words}"""


class Annotation(SQLModel, table=True):
    """What one annotator said of one pair, told by whose answer is better, not by where it was shown."""

    __tablename__ = "annotation"
    __table_args__ = (
        sa.ForeignKeyConstraint(["task_id", "number"], ["annotation_item.task_id", "annotation_item.number"]),
    )
    task_id: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    annotator: str = Field(primary_key=True)
    outcome: str
    """first | both_good | both_bad | second"""
    seconds: float | None = None
    annotated_at: datetime | None = Field(default=None, sa_column=_time(True))


class Worker(SQLModel, table=True):
    """A live worker process; rows without a heartbeat for a lease are removed by the controller."""

    __tablename__ = "worker"
    id: str = Field(primary_key=True)
    host: str
    process_id: int
    roles: list[str] = Field(sa_column=sa.Column(ARRAY(sa.Text), nullable=False))
    slots: int
    busy: int = 0
    draining: bool = False
    """It takes no more steps."""
    drain_requested: bool = Field(
        default=False, sa_column=sa.Column(sa.Boolean, nullable=False, server_default=sa.false())
    )
    """It was told to finish what it runs and to leave."""
    lease_seconds: float = Field(default=60.0, sa_column=sa.Column(sa.Float, nullable=False, server_default="60"))
    """A worker that was silent for so long counts as gone."""
    started_at: datetime | None = Field(default=None, sa_column=_time(True))
    heartbeat_at: datetime | None = Field(default=None, sa_column=_time(True))


class WorkerGroup(SQLModel, table=True):
    """Containers or processes of the same roles that the autoscaler can start, and what it last did about them."""

    __tablename__ = "worker_group"
    name: str = Field(primary_key=True)
    roles: list[str] = Field(sa_column=sa.Column(ARRAY(sa.Text), nullable=False))
    minimum: int
    maximum: int
    desired: int
    running: int
    failures: int = Field(default=0, sa_column=sa.Column(sa.Integer, nullable=False, server_default="0"))
    """Starts in a row that ended in an early exit."""
    paused_until: datetime | None = Field(default=None, sa_column=_time())
    """Nothing is started before: too many starts failed."""
    detail: str = Field(default="", sa_column=sa.Column(sa.String, nullable=False, server_default=""))
    """For people: why nothing is started, or why less than wanted."""
    seen_at: datetime | None = Field(default=None, sa_column=_time(True))


class CachedCompletion(SQLModel, table=True):
    """A complete 200 answer, stored raw (zlib) before it was parsed. The key holds no row and no job."""

    __tablename__ = "cached_completion"
    key: bytes = Field(sa_column=sa.Column(BYTEA, primary_key=True))
    project_id: str
    provider: str
    model: str
    body: bytes = Field(sa_column=sa.Column(BYTEA, nullable=False))
    created_at: datetime | None = Field(default=None, sa_column=_time(True))


class Usage(SQLModel, table=True):
    """Calls, tokens and money of one stage with one model: what estimates learn from."""

    __tablename__ = "usage"
    job_id: str = Field(primary_key=True)
    stage: str = Field(primary_key=True)
    provider: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    request_class: str = Field(primary_key=True)
    project_id: str = Field(index=True)
    calls: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
    cached_calls: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
    retries: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
    rate_limited: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
    prompt_tokens: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
    completion_tokens: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
    prompt_characters: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
    completion_characters: int = Field(
        default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0")
    )
    cost_micro_usd: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
    unpriced_calls: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))


class Deployment(SQLModel, table=True):
    """A name under which a model answers. What it serves is in its revisions; `serving_revision` answers now."""

    __tablename__ = "deployment"
    __table_args__ = (
        sa.Index(
            "one_living_deployment_of_a_name",
            "project_id",
            "name",
            unique=True,
            postgresql_where=sa.text("state <> 'stopped'"),
        ),
    )
    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    """What clients give as `model`."""
    state: str
    """shared.domain.deployments.DeploymentState"""
    detail: str = ""
    """Why it is in that state, for people."""
    wanted_revision: int = 1
    serving_revision: int | None = None
    job_id: str | None = Field(default=None, foreign_key="job.id", index=True)
    """Of a job's own deployment: it is stopped when the job has ended."""
    created_at: datetime | None = Field(default=None, sa_column=_time(True))
    changed_at: datetime | None = Field(default=None, sa_column=_time(True))
    stopped_at: datetime | None = Field(default=None, sa_column=_time())


class DeploymentRevision(SQLModel, table=True):
    """One model that a deployment was asked to serve."""

    __tablename__ = "deployment_revision"
    deployment_id: str = Field(primary_key=True, foreign_key="deployment.id")
    revision: int = Field(primary_key=True)
    """1, 2, …"""
    target: dict[str, Any] = Field(sa_column=_json())
    """shared.domain.deployments.DeploymentTarget, as resolved at submission."""
    options: dict[str, Any] = Field(sa_column=_json())
    """shared.domain.deployments.ServerOptions"""
    state: str
    """shared.domain.deployments.RevisionState"""
    error: str | None = None
    server_id: str | None = Field(default=None, index=True)
    """The model server that has it or had it; None for a provider's model."""
    info: dict[str, Any] | None = Field(default=None, sa_column=_json(True))
    """What the server said of itself when it was ready."""
    created_at: datetime | None = Field(default=None, sa_column=_time(True))
    ready_at: datetime | None = Field(default=None, sa_column=_time())
    ended_at: datetime | None = Field(default=None, sa_column=_time())


class DeploymentEvent(SQLModel, table=True):
    """What happened to a deployment: its history."""

    __tablename__ = "deployment_event"
    deployment_id: str = Field(primary_key=True, foreign_key="deployment.id")
    sequence: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    revision: int
    type: str
    detail: str = ""
    created_at: datetime | None = Field(default=None, sa_column=_time(True))


class ModelServer(SQLModel, table=True):
    """A place where a launcher runs one model server: it reports here what it runs, and reads here what it shall run."""

    __tablename__ = "model_server"
    id: str = Field(primary_key=True)
    """`<launcher>/<place>`"""
    launcher: str = Field(index=True)
    place: int
    kind: str
    """shared.llm.servers.protocol.ServerKind: tgi or cpu."""
    host: str
    """Whose GPUs it can lease; GPU servers of one machine name the same host."""
    gpus: int = 0
    """GPUs that a model takes here."""
    devices: list[int] = Field(sa_column=sa.Column(ARRAY(sa.Integer), nullable=False, server_default="{}"))
    """GPUs of the host that the launcher can use."""
    address: str | None = None
    """Where what serves now answers, `http://host:port`."""
    deployment_id: str | None = Field(default=None, foreign_key="deployment.id", index=True)
    """What it shall serve; None: nothing."""
    revision: int | None = None
    observed_state: str = "empty"
    """shared.domain.deployments.ServerState"""
    observed_detail: str = ""
    serving: str | None = None
    """`<deployment id>:<revision>` of what answers at `address`."""
    leaving: bool = Field(default=False, sa_column=sa.Column(sa.Boolean, nullable=False, server_default=sa.false()))
    """Its launcher is ending, or has given the place up."""
    live_since: datetime | None = Field(default=None, sa_column=_time(True))
    """Since when it reports without a longer pause."""
    heartbeat_at: datetime | None = Field(default=None, sa_column=_time(True))


class GpuSlot(SQLModel, table=True):
    """One GPU of a machine, and who has it: trainings and model servers share them by lease."""

    __tablename__ = "gpu_slot"
    host: str = Field(primary_key=True)
    device: int = Field(primary_key=True)
    """Number as the driver counts, for CUDA_VISIBLE_DEVICES."""
    holder: str | None = Field(default=None, index=True)
    """`attempt:<id>` or `server:<id>`; None: free."""
    lease_until: datetime | None = Field(default=None, sa_column=_time())
    seen_at: datetime | None = Field(default=None, sa_column=_time(True))


class Profile(SQLModel, table=True):
    """A person: what they prefer is in the versions, the newest counts."""

    __tablename__ = "profile"
    __table_args__ = (
        sa.Index(
            "one_living_profile_of_a_name",
            "project_id",
            "name",
            unique=True,
            postgresql_where=sa.text("deleted_at IS NULL"),
        ),
    )
    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    """What requests give as `profile`; unique within the project."""
    version: int = 1
    created_at: datetime | None = Field(default=None, sa_column=_time(True))
    changed_at: datetime | None = Field(default=None, sa_column=_time(True))
    deleted_at: datetime | None = Field(default=None, sa_column=_time())


class ProfileVersion(SQLModel, table=True):
    """A preference set of a person and the system message that it became. Never changed."""

    __tablename__ = "profile_version"
    profile_id: str = Field(primary_key=True, foreign_key="profile.id")
    version: int = Field(primary_key=True)
    preferences: list[dict[str, Any]] = Field(sa_column=_json())
    """shared.domain.profiles.StatedPreference, each."""
    system: str
    composed_by: dict[str, Any] = Field(sa_column=_json())
    """{"composer": "deterministic", "version": …} or {"composer": "teacher", "provider", "model", "prompt_version"}"""
    taxonomy: str
    note: str = ""
    created_at: datetime | None = Field(default=None, sa_column=_time(True))


class KeyUsage(SQLModel, table=True):
    """What a key's live requests took on one day (UTC): what its daily quota is counted by."""

    __tablename__ = "key_usage"
    key_id: str = Field(primary_key=True)
    day: date = Field(sa_column=sa.Column(sa.Date, primary_key=True))
    project_id: str = Field(index=True)
    requests: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
    prompt_tokens: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
    completion_tokens: int = Field(default=0, sa_column=sa.Column(sa.BigInteger, nullable=False, server_default="0"))
