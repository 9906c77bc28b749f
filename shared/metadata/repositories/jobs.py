"""Jobs as a user sees them: submit, look, cancel, retry."""

import builtins
from collections.abc import Collection
from typing import Any

import msgspec
import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer
from sqlmodel import col

from shared.domain.errors import InputRefused, MultifacetError
from shared.domain.identifiers import named_identifiers, new_id
from shared.domain.jobs import JobSpec
from shared.domain.ledger import Ledger
from shared.domain.plan import StageKind, plan_of
from shared.domain.states import (
    JOB_END_STATES,
    JOB_TRANSITIONS,
    JobState,
    StageState,
    StepState,
    require_transition,
)
from shared.domain.taxonomy import Taxonomy
from shared.metadata.engine import STOP_CHANNEL, WAKE_CHANNEL
from shared.metadata.repositories.events import EventRepository
from shared.metadata.repositories.retention import RetentionRepository
from shared.metadata.tables import IdempotencyKey, Job, Project, Stage, Step

_NO_TAXONOMY = defer(Job.taxonomy, raiseload=True)  # type: ignore[arg-type]
"""A taxonomy is some 50 KB of JSON, ten times all the rest of a job, and nobody who looks at a job reads it."""

MICRO = 1_000_000
"""Micro-dollars in a dollar."""

EMPTY_LEDGER: dict[str, Any] = {
    "rows_in": 0,
    "rows_out": 0,
    "rows_rejected": 0,
    "facets_in": 0,
    "facets_out": 0,
    "facets_rejected": 0,
    "reasons": {},
}


_KEPT_FAULTS = frozenset({"too_many_rejected", "no_instruction_left"})
"""Codes of jobs that failed for what was rejected: that is kept, and would fail them again."""


class JobConflict(MultifacetError):
    """The job's state does not allow what was asked (409)."""

    code = "job_conflict"


class JobNotFound(MultifacetError):
    """No such job in this project (404)."""

    code = "job_not_found"


class JobRepository:
    """Jobs of projects, their stages and steps."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._events = EventRepository(session)

    async def submit(
        self,
        project_id: str,
        spec: JobSpec,
        taxonomy: Taxonomy,
        *,
        teacher_is_simulator: bool,
        estimate: dict[str, Any] | None = None,
        idempotency: tuple[str, str] | None = None,
        trace: str | None = None,
    ) -> tuple[Job, bool]:
        """Store a job with its stages; the controller makes the steps.

        `idempotency` is the client's key and the sha256 of its request body; `trace` the `traceparent` that the job's spans go on
        from. Returns the job and whether it is new.
        Raises InputRefused when the key was used with another body, and for a job whose artifacts were removed.
        """
        await self._session.execute(insert(Project).values(id=project_id).on_conflict_do_nothing())
        job_id = new_id("job")
        if idempotency is not None:
            earlier = await self._take_key(project_id, job_id, idempotency)
            if earlier is not None:
                return earlier, False
        if refusal := await self._removed(project_id, spec.model_dump_json()):
            raise InputRefused(refusal)
        deadline = None if spec.deadline_seconds is None else sa.func.now() + _seconds(spec.deadline_seconds)
        values = {
            "id": job_id,
            "project_id": project_id,
            "name": spec.name,
            "spec": spec.model_dump(mode="json"),
            "taxonomy": taxonomy.model_dump(mode="json"),
            "teacher_is_simulator": teacher_is_simulator,
            "state": JobState.QUEUED.value,
            "budget_micro_usd": None if spec.budget_usd is None else round(spec.budget_usd * MICRO),
            "max_reject_rate": spec.max_reject_rate,
            "estimate": estimate,
            "run_no": 1,
            "deadline_at": deadline,
            "trace": trace,
        }
        job = (await self._session.execute(sa.insert(Job).values(**values).returning(Job))).scalar_one()
        stages = [
            {
                "id": new_id("stage"),
                "job_id": job_id,
                "ordinal": ordinal,
                "name": plan.name,
                "kind": plan.kind.value,
                "service": plan.service,
                "needs": builtins.list(plan.needs),
                "barrier": plan.barrier,
                "parameters": spec.parameters_of(plan.name),
                "state": StageState.PENDING.value,
                "partitioned": False,
                "steps_total": 0,
                "steps_succeeded": 0,
                "ledger": EMPTY_LEDGER,
            }
            for ordinal, plan in enumerate(plan_of(spec))
        ]
        await self._session.execute(sa.insert(Stage), stages)
        await self._events.append(job_id, "job.state", {"state": JobState.QUEUED.value, "run_no": 1})
        await self._wake()
        return job, True

    async def _take_key(self, project_id: str, job_id: str, idempotency: tuple[str, str]) -> Job | None:
        key, request_sha256 = idempotency
        values = {"project_id": project_id, "key": key, "request_sha256": request_sha256, "job_id": job_id}
        # A concurrent request with the same key waits here until the first one's transaction ends.
        taken = await self._session.execute(
            insert(IdempotencyKey).values(**values).on_conflict_do_nothing().returning(col(IdempotencyKey.key))
        )
        if taken.scalar_one_or_none() is not None:
            return None
        used = await self._session.get_one(IdempotencyKey, (project_id, key))
        if used.request_sha256 != request_sha256:
            raise InputRefused(
                f"the idempotency key {key!r} was used for another request body (job {used.job_id}); "
                "repeat that body or send a new key"
            )
        return await self.require(project_id, used.job_id)

    async def get(self, project_id: str, job_id: str) -> Job | None:
        query = sa.select(Job).options(_NO_TAXONOMY).where(col(Job.project_id) == project_id, col(Job.id) == job_id)
        return (await self._session.execute(query)).scalar_one_or_none()

    async def require(self, project_id: str, job_id: str) -> Job:
        """The job; raises JobNotFound."""
        job = await self.get(project_id, job_id)
        if job is None:
            raise JobNotFound(f"no job {job_id} in this project")
        return job

    async def list(
        self,
        project_id: str,
        *,
        state: JobState | None = None,
        candidates: int = 0,
        before: str | None = None,
        limit: int = 50,
    ) -> builtins.list[Job]:
        """Newest first; `candidates`: with so many answer stages at least; `before` is the last job id of the page before."""
        query = sa.select(Job).options(_NO_TAXONOMY).where(col(Job.project_id) == project_id)
        if state is not None:
            query = query.where(col(Job.state) == state.value)
        if candidates:
            query = query.where(sa.func.jsonb_array_length(col(Job.spec)["answer"]) >= candidates)
        if before is not None:
            query = query.where(col(Job.id) < before)
        query = query.order_by(col(Job.id).desc()).limit(limit)
        return builtins.list((await self._session.execute(query)).scalars())

    async def list_with(
        self, project_id: str, kind: StageKind, *, before: str | None = None, limit: int = 50
    ) -> builtins.list[tuple[Job, Stage]]:
        """The jobs that have a stage of this kind, of which each job has one at most, with that stage; newest first. `before` is
        the last job id of the page before."""
        query = (
            sa.select(Job, Stage)
            .options(_NO_TAXONOMY)
            .join(Stage, col(Stage.job_id) == col(Job.id))
            .where(col(Job.project_id) == project_id, col(Stage.kind) == kind.value)
        )
        if before is not None:
            query = query.where(col(Job.id) < before)
        query = query.order_by(col(Job.id).desc()).limit(limit)
        return [(row.Job, row.Stage) for row in await self._session.execute(query)]

    async def names(self, project_id: str, job_ids: Collection[str]) -> dict[str, str]:
        """Names of those of the jobs that this project has, by id."""
        query = sa.select(col(Job.id), col(Job.name)).where(col(Job.project_id) == project_id, col(Job.id).in_(job_ids))
        return {row.id: row.name for row in await self._session.execute(query)}

    async def stages(self, job_id: str) -> builtins.list[Stage]:
        """In the plan's order."""
        query = sa.select(Stage).where(col(Stage.job_id) == job_id).order_by(col(Stage.ordinal))
        return builtins.list((await self._session.execute(query)).scalars())

    async def steps(
        self,
        job_id: str,
        *,
        stage: str | None = None,
        state: StepState | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> builtins.list[Step]:
        """Steps by id; `after` is the last step id of the page before."""
        query = sa.select(Step).where(col(Step.job_id) == job_id)
        if stage is not None:
            named = sa.select(Stage.id).where(col(Stage.job_id) == job_id, col(Stage.name) == stage)  # type: ignore[call-overload]
            query = query.where(col(Step.stage_id).in_(named))
        if state is not None:
            query = query.where(col(Step.state) == state.value)
        if after is not None:
            query = query.where(col(Step.id) > after)
        query = query.order_by(col(Step.id)).limit(limit)
        return builtins.list((await self._session.execute(query)).scalars())

    async def request_cancel(self, project_id: str, job_id: str) -> Job:
        """Ask a job to stop. Asking again changes nothing.

        Raises JobNotFound, and JobConflict for a job that has ended.
        """
        job = await self._locked(project_id, job_id)
        state = JobState(job.state)
        if state in {JobState.CANCELLING, JobState.CANCELLED}:
            return job
        if state in JOB_END_STATES:
            raise JobConflict(f"job {job_id} has ended as {state}: nothing is left to cancel")
        require_transition(JOB_TRANSITIONS, state, JobState.CANCELLING)
        await self._session.execute(
            sa.update(Job)
            .where(col(Job.id) == job_id, col(Job.state) == state.value)
            .values(state=JobState.CANCELLING.value, cancel_requested_at=sa.func.now())
            .execution_options(synchronize_session=False)
        )
        await self._events.append(job_id, "job.state", {"state": JobState.CANCELLING.value})
        await self._session.execute(sa.select(sa.func.pg_notify(STOP_CHANNEL, job_id)))
        await self._wake()
        return await self._refreshed(job)

    async def retry(self, project_id: str, job_id: str, *, budget_usd: float | None = None) -> Job:
        """Take a failed or cancelled job up again: succeeded steps stay, all others start over with fresh budgets.

        Raises JobNotFound, and JobConflict for a job in another state, for one that used up its budget unless
        `budget_usd` is above what it cost, for one that failed for what was rejected (its kept rows would fail it again), and
        where its artifacts, or those of a job that it names, were removed because of their age.
        """
        # Before the row: whoever removes artifacts takes both in this order, too.
        await RetentionRepository(self._session).hold_references()
        job = await self._locked(project_id, job_id)
        state = JobState(job.state)
        if state not in {JobState.FAILED, JobState.CANCELLED}:
            raise JobConflict(f"job {job_id} is {state}: only a failed or cancelled job can be retried")
        code = (job.error or {}).get("code")
        if code in _KEPT_FAULTS:
            raise JobConflict(
                f"job {job_id} failed as {code}, and a retry keeps what was rejected: {(job.error or {}).get('message', '')}"
            )
        if job.artifacts_removed_at is not None:
            raise JobConflict(
                f"the artifacts of job {job_id} were removed on {job.artifacts_removed_at:%Y-%m-%d} because of their age, so "
                "there is nothing to go on from; submit its spec as a new job"
            )
        if refusal := await self._removed(project_id, orjson.dumps(job.spec).decode()):
            raise JobConflict(refusal)
        budget = job.budget_micro_usd if budget_usd is None else round(budget_usd * MICRO)
        if (
            budget is not None
            and budget <= job.cost_micro_usd
            and (budget_usd is not None or code == "budget_exhausted")
        ):
            raise JobConflict(
                f"job {job_id} has cost {job.cost_micro_usd / MICRO:.6f} USD and the budget is {budget / MICRO:.6f} USD; "
                "set budget_usd above the cost"
            )
        require_transition(JOB_TRANSITIONS, state, JobState.QUEUED)
        seconds = job.spec.get("deadline_seconds")
        await self._session.execute(
            sa.update(Job)
            .where(col(Job.id) == job_id, col(Job.state) == state.value)
            .values(
                state=JobState.QUEUED.value,
                error=None,
                cancel_requested_at=None,
                finished_at=None,
                settled_at=None,
                budget_micro_usd=budget,
                run_no=job.run_no + 1,
                deadline_at=None if seconds is None else sa.func.now() + _seconds(seconds),
            )
            .execution_options(synchronize_session=False)
        )
        # Blocked, not ready: the controller finds out what each one's inputs allow.
        await self._session.execute(
            sa.text(
                """
                UPDATE step SET state = 'blocked', failures = 0, losses = 0, last_crash = NULL, crash_repeats = 0,
                                error = NULL, progress = NULL, not_before = now(), finished_at = NULL
                WHERE job_id = :job_id AND state IN ('failed', 'cancelled', 'skipped')
                """
            ),
            {"job_id": job_id},
        )
        await self._session.execute(
            sa.text(
                """
                UPDATE stage SET state = 'pending', finished_at = NULL, work = NULL
                WHERE job_id = :job_id AND state IN ('failed', 'cancelled', 'skipped')
                """
            ),
            {"job_id": job_id},
        )
        await self._events.append(job_id, "job.state", {"state": JobState.QUEUED.value, "run_no": job.run_no + 1})
        await self._wake()
        return await self._refreshed(job)

    async def ledgers(self, job_id: str) -> dict[str, Ledger]:
        """Stage name -> its counts so far."""
        return {stage.name: msgspec.convert(stage.ledger, Ledger) for stage in await self.stages(job_id)}

    async def _removed(self, project_id: str, spec: str) -> str | None:
        """What a spec, as JSON, names in vain: a job whose artifacts were removed, an upload that is not there. From now on
        nothing that it names is removed."""
        retention = RetentionRepository(self._session)
        await retention.hold_references()
        named = named_identifiers(spec)
        if lost := await retention.unknown_uploads(project_id, named):
            return (
                f"the uploaded {', '.join(lost)} is not there, or not any more (MULTIFACET_RETENTION_UPLOADS_SECONDS); upload "
                "the file again and name the new id"
            )
        gone = await retention.removed_references(project_id, named)
        if not gone:
            return None
        return (
            f"the artifacts of {', '.join(gone)} were removed because of their age (MULTIFACET_RETENTION_ARTIFACTS_SECONDS); "
            "submit that spec as a new job and name the new one"
        )

    async def _locked(self, project_id: str, job_id: str) -> Job:
        query = sa.select(Job).options(_NO_TAXONOMY).where(col(Job.project_id) == project_id, col(Job.id) == job_id)
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
        job = (await self._session.execute(query)).scalar_one_or_none()
        if job is None:
            raise JobNotFound(f"no job {job_id} in this project")
        return job

    async def _refreshed(self, job: Job) -> Job:
        await self._session.refresh(job)
        return job

    async def _wake(self) -> None:
        await self._session.execute(sa.select(sa.func.pg_notify(WAKE_CHANNEL, "")))


def _seconds(seconds: float) -> Any:
    return sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
