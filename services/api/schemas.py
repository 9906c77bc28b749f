"""What the api answers: one model per thing, made from the tables' rows."""

from datetime import date, datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from shared.domain.jobs import JobSpec
from shared.domain.states import JobState, StageState, StepState
from shared.metadata.repositories.api_keys import KeyLimits
from shared.metadata.tables import ApiKey, Artifact, Job, Stage, Step, StoredTaxonomy, UploadedFile

Item = TypeVar("Item")


class ApiModel(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class RequestModel(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Listing(ApiModel, Generic[Item]):
    """A page of a list, newest first. `next` is the cursor of the page after it (`before=…`), null on the last one."""

    items: list[Item]
    next: str | None = None


Limit = Annotated[int, Query(ge=1, le=200, description="items per page")]
Before = Annotated[str | None, Query(max_length=100, description="`next` of the page before")]


class LedgerView(ApiModel):
    """rows_in = rows_out + rows_rejected of what is done so far, the same for facets; `reasons` counts rejections."""

    rows_in: int = 0
    rows_out: int = 0
    rows_rejected: int = 0
    facets_in: int = 0
    facets_out: int = 0
    facets_rejected: int = 0
    reasons: dict[str, int] = {}


class WorkView(ApiModel):
    """How far the one step of a whole stage says it is."""

    done: int
    total: int | None = Field(description="null: not known")
    note: str


class StageView(ApiModel):
    """One stage of a job."""

    ordinal: int
    name: str = Field(examples=["augment"])
    kind: str
    service: str
    needs: list[str]
    barrier: bool
    parameters: dict[str, Any]
    state: StageState
    steps_total: int
    steps_succeeded: int
    ledger: LedgerView
    rows_expected: int | None
    progress: float = Field(
        ge=0, le=1, description="share of the stage's rows (of the work of its step, of its steps) that is done"
    )
    work: WorkView | None = Field(description="of a whole stage that has not succeeded: what its step said last")
    summary: dict[str, Any] | None
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, stage: Stage) -> "StageView":
        return cls.model_validate({**stage.model_dump(), "progress": stage_progress(stage)})


class JobSummary(ApiModel):
    """A job as a list shows it."""

    id: str = Field(examples=["job_01jdexample0000000000000000"])
    name: str
    state: JobState
    teacher_is_simulator: bool = Field(
        description="true: rows that were written or trained on come from the simulator and are no real data"
    )
    cost_micro_usd: int = Field(description="what the calls cost so far, in millionths of a US dollar")
    budget_micro_usd: int | None
    unpriced_calls: int = Field(description="calls to a model without a known price: their cost is not in the sum")
    error: dict[str, Any] | None = Field(description="{code, message, stage, step_id} of what failed the job")
    run_no: int = Field(description="1, plus one per retry")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None

    @classmethod
    def summary_of(cls, job: Job) -> "JobSummary":
        return cls.model_validate(job)


class JobView(JobSummary):
    """A job with its frozen spec and its stages."""

    spec: JobSpec
    estimate: dict[str, Any] | None
    cancel_requested_at: datetime | None
    artifacts_removed_at: datetime | None = Field(
        description="when what it made was removed because of its age, but for what something still needs; null: it is there"
    )
    progress: float = Field(ge=0, le=1, description="mean of the stages' progress")
    eta_seconds: float | None = Field(
        description="seconds to the end at the present rate of the stage that will end last; null where none is known"
    )
    last_event: int = Field(description="sequence number of the newest event")
    stages: list[StageView]

    @classmethod
    def of(cls, job: Job, stages: list[Stage], now: datetime) -> "JobView":
        views = [StageView.of(stage) for stage in stages]
        return cls.model_validate(
            {
                **job.model_dump(exclude={"spec", "taxonomy"}),
                "spec": JobSpec.model_validate(job.spec),
                "stages": views,
                "progress": sum(view.progress for view in views) / len(views) if views else 0.0,
                "eta_seconds": remaining_seconds(views, now) if job.state == JobState.RUNNING else None,
                "last_event": job.event_sequence,
            }
        )


class RetryRequest(RequestModel):
    budget_usd: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = Field(
        default=None, description="a new budget for the whole job, above what it has cost; null keeps the old one"
    )


class StepView(ApiModel):
    """One shard of a row stage, or one whole step."""

    id: str
    stage_id: str
    shard: int
    queue: str
    state: StepState
    dispatch_no: int
    failures: int = Field(description="tries that failed by the step's own fault")
    losses: int = Field(description="tries lost with their worker")
    rows_expected: int | None
    ledger: LedgerView | None
    progress: dict[str, Any] | None
    error: dict[str, Any] | None
    not_before: datetime | None
    started_at: datetime | None
    finished_at: datetime | None


class EventView(ApiModel):
    """What happened to a job. Sequence numbers of a job have no gaps, but for old events that were removed."""

    sequence: int
    type: str = Field(
        examples=["job.state"],
        description="job.state, stage.state, stage.progress, step.state, job.cost, train.metrics, note",
    )
    created_at: datetime | None
    data: dict[str, Any]


class EventPage(ApiModel):
    items: list[EventView]
    last: int = Field(description="`after` for the next page")
    state: JobState
    ended: bool = Field(description="the job has ended and nothing comes after these")


class FileView(ApiModel):
    """An uploaded file. Its `id` is what a job's source names."""

    id: str = Field(examples=["file_01jdexample0000000000000000"])
    name: str
    sha256: str
    size: int
    created_at: datetime

    @classmethod
    def of(cls, file: UploadedFile) -> "FileView":
        return cls.model_validate(file)


class ArtifactView(ApiModel):
    """An immutable object that a job made."""

    id: str
    job_id: str
    stage: str
    name: str = Field(description="path below the stage's folder, or below the job's folder where `job_level`")
    job_level: bool
    kind: str
    media_type: str
    sha256: str
    size: int
    rows: int | None
    schema_version: str | None
    details: dict[str, Any]
    lineage: dict[str, Any]
    created_at: datetime
    removed_at: datetime | None = Field(
        description="when its bytes were removed because of their age; null: they are there"
    )
    key: str = Field(description="where it lies in the artifact store")

    @classmethod
    def of(cls, artifact: Artifact) -> "ArtifactView":
        job_level = not artifact.key.removeprefix(f"artifacts/{artifact.project_id}/{artifact.job_id}/")[:1].isdigit()
        return cls.model_validate({**artifact.model_dump(), "job_level": job_level})


class RegisteredModelView(ApiModel):
    """A model that a training made."""

    id: str = Field(examples=["model_01jdexample0000000000000000"])
    job_id: str
    stage: str = Field(description="name of the training")
    name: str
    method: str = Field(description="sft, dpo, orpo or rm")
    tuning: str = Field(description="full, lora or qlora")
    base: dict[str, Any] = Field(description="what the training started from")
    parameter_count: int
    dtype: str
    adapter_only: bool = Field(description="the files are adapters alone: their base is not among them")
    metrics: dict[str, Any] = Field(description="the last figures of the training")
    lineage: dict[str, Any] = Field(description="inputs, parameters and code version that it was made with")
    created_at: datetime


class RegisteredModelDetail(RegisteredModelView):
    files: list[ArtifactView] = Field(description="what the training left; the model's files are of kind `model`")


class MetricsView(ApiModel):
    model_id: str
    rows_total: int = Field(description="rows that the training logged")
    rows: list[dict[str, Any]]


class TrainingPresetView(ApiModel):
    name: str = Field(examples=["janus-sft"])
    yaml: str = Field(description="the preset with its comments, to copy from")
    values: dict[str, Any]


class DatasetView(ApiModel):
    """Rows that can be paged through."""

    dataset: str = Field(
        description="collection, sft, dpo, orpo, rm, the name of a stage, or `curate-rejected`", examples=["collection"]
    )
    split: str = Field(description="train, test, …; `all` where there are no splits")
    stage: str
    rows: int
    bytes: int
    artifacts: list[str] = Field(description="ids of its files")


class DatasetRow(ApiModel):
    position: int = Field(description="place in the data set, from 0: `offset` of this row without a filter")
    row: dict[str, Any]


class RowPage(ApiModel):
    dataset: str
    split: str
    offset: int
    limit: int
    rows_total: int = Field(description="rows of the data set")
    rows_matched: int = Field(description="rows that pass the filter")
    matched_is_exact: bool = Field(
        description="false while a text search still runs: there are at least `rows_matched`"
    )
    rows: list[DatasetRow]


class NamedCount(ApiModel):
    name: str
    count: int


class SubdimensionCount(NamedCount):
    poles: dict[str, int]
    preferences: list[NamedCount] = Field(description="the most frequent ones")
    other: int = Field(description="sum over all preferences that are not listed")


class DimensionCount(NamedCount):
    subdimensions: list[SubdimensionCount]


class Hierarchy(ApiModel):
    """Counts of the living preferences of a data set, for the sunburst, and of rejections by reason."""

    dataset: str
    split: str
    rows: int
    preferences: int
    dimensions: list[DimensionCount]
    reasons: dict[str, int]


class TaxonomyView(ApiModel):
    id: str = Field(examples=["multifacet"])
    name: str
    version: str = Field(description="first 12 hex digits of the sha256 of the content")
    dimensions: int
    subdimensions: int
    seeds: int
    created_at: datetime | None = None

    @classmethod
    def of(cls, stored: StoredTaxonomy) -> "TaxonomyView":
        return cls.counted(stored.id, stored.name, stored.version, stored.body, stored.created_at)

    @classmethod
    def counted(
        cls, identifier: str, name: str, version: str, body: dict[str, Any], created_at: datetime | None
    ) -> "TaxonomyView":
        parts = [part for dimension in body["dimensions"] for part in dimension["subdimensions"]]
        return cls(
            id=identifier,
            name=name,
            version=version,
            dimensions=len(body["dimensions"]),
            subdimensions=len(parts),
            seeds=sum(len(part["seeds"]) for part in parts),
            created_at=created_at,
        )


class TaxonomyDetail(TaxonomyView):
    body: dict[str, Any] = Field(description="the whole taxonomy, as it can be uploaded again")


class UsageFigures(ApiModel):
    calls: int
    cached_calls: int = Field(description="answers replayed from the cache: they cost nothing")
    retries: int
    rate_limited: int
    prompt_tokens: int
    completion_tokens: int
    cost_micro_usd: int
    unpriced_calls: int


class UsageGroupView(UsageFigures):
    key: str = Field(
        description="the day, `provider/model`, or the job's id; `live:<day>:<project>` for calls without a job"
    )
    name: str | None = None


class UsageReport(ApiModel):
    by: str
    total: UsageFigures
    groups: list[UsageGroupView]


class KeyUsageView(ApiModel):
    """What a key's live requests took on one UTC day."""

    day: date
    key_id: str
    name: str
    requests: int = Field(description="requests that the key's limits let through")
    prompt_tokens: int
    completion_tokens: int


class KeyUsageReport(ApiModel):
    items: list[KeyUsageView]


class PurgeReport(ApiModel):
    removed: int = Field(description="stored answers that are gone")


class ModelView(ApiModel):
    name: str = Field(description="`*` stands for any model name")
    priced: bool = Field(description="false: the cost is unknown, and a job with a budget is refused")


class ProviderView(ApiModel):
    name: str
    simulator: bool
    models: list[ModelView]


class KeyRequest(RequestModel):
    name: str = Field(min_length=1, max_length=120, pattern=r"^[^\x00]*$", examples=["notebook of Ada"])
    scopes: list[str] = Field(
        min_length=1, max_length=4, examples=[["read", "write"]], description="chat, read, write, admin"
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, le=1_000_000, description="live requests; null: no limit"
    )
    tokens_per_minute: int | None = Field(
        default=None, ge=1, le=10**12, description="prompts and answers of live requests; null: no limit"
    )
    tokens_per_day: int | None = Field(
        default=None, ge=1, le=10**15, description="the same of one UTC day; null: no limit"
    )

    def limits(self) -> KeyLimits:
        return KeyLimits(self.requests_per_minute, self.tokens_per_minute, self.tokens_per_day)


class KeyView(ApiModel):
    id: str
    project_id: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    requests_per_minute: int | None = Field(description="of live requests; null: no limit")
    tokens_per_minute: int | None
    tokens_per_day: int | None

    @classmethod
    def of(cls, key: ApiKey) -> "KeyView":
        return cls.model_validate(key)


class NewKey(KeyView):
    key: str = Field(description="shown here once and kept nowhere")


class SessionRequest(RequestModel):
    key: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$", description="an API key")


class Health(ApiModel):
    status: str = Field(examples=["ok"])
    checks: dict[str, str] = {}


def stage_progress(stage: Stage) -> float:
    """0 to 1: by rows where they are known, else by what the step of a whole stage said, else by steps."""
    if stage.state == StageState.SUCCEEDED:
        return 1.0
    done = int(stage.ledger.get("rows_out", 0)) + int(stage.ledger.get("rows_rejected", 0))
    if stage.rows_expected:
        return min(1.0, done / stage.rows_expected)
    if stage.work is not None and stage.work["total"]:
        return max(0.0, min(1.0, float(stage.work["done"]) / float(stage.work["total"])))
    return min(1.0, stage.steps_succeeded / stage.steps_total) if stage.steps_total else 0.0


def remaining_seconds(stages: list[StageView], now: datetime) -> float | None:
    """Seconds until the slowest running stage is done at its present rate; None before 2% of it is done.

    Stages run side by side on shards, so the last of them decides, not the sum.
    """
    found = [
        (now - stage.started_at).total_seconds() * (1 - stage.progress) / stage.progress
        for stage in stages
        if stage.state == StageState.RUNNING and stage.started_at is not None and stage.progress >= 0.02
    ]
    return round(max(found), 1) if found else None


def step_view(step: Step) -> StepView:
    return StepView.model_validate(step)
