"""The life of an attempt: claim, renew, report, commit, end. Every write is guarded by the fencing token (attempt id).

Locks are always taken in the order job, attempt, step, so that no two transactions wait for each other.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from shared.domain.benches import BenchRegistration
from shared.domain.ledger import Ledger
from shared.domain.models import ModelRegistration
from shared.domain.states import (
    ATTEMPT_TRANSITIONS,
    JOB_TRANSITIONS,
    STEP_TRANSITIONS,
    AttemptState,
    JobState,
    StageState,
    StepState,
    require_transition,
)
from shared.metadata.engine import WAKE_CHANNEL
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.benches import BenchRepository
from shared.metadata.repositories.events import EventRepository, NewEvent
from shared.metadata.repositories.models import ModelRepository
from shared.queue.retry_policy import AttemptEnd, Counters, EndKind, Verdict, judge

ACTIVE_JOB_STATES = (JobState.QUEUED.value, JobState.RUNNING.value)
"""While a job is in one of these its unfinished steps shall run."""


class Claim(msgspec.Struct, frozen=True):
    """A step that this worker may run, under the fencing token `attempt_id`."""

    attempt_id: int
    step_id: str
    shard: int
    rows_expected: int | None
    project_id: str
    job_id: str
    stage: str
    kind: str
    ordinal: int
    needs: tuple[str, ...]
    parameters: dict[str, Any]
    budget_micro_usd: int | None


class NewArtifact(msgspec.Struct, frozen=True):
    """An uploaded object that a commit records."""

    stage: str
    name: str
    key: str
    kind: str
    media_type: str
    sha256: str
    size: int
    rows: int | None
    schema_version: str | None
    details: dict[str, Any]
    lineage: dict[str, Any]


class Progress(msgspec.Struct, frozen=True):
    """What a running attempt has done so far."""

    attempt_id: int
    ledger: Ledger | None
    progress: dict[str, Any]


_LOCK_JOB = sa.text(
    "SELECT id, state FROM job WHERE id = (SELECT job_id FROM step WHERE id = :step_id) FOR NO KEY UPDATE"
)

# The first statement of a claim: one lost in a database crash leaves a dispatched step that is rung again, so it need not wait
# for the disk.
_LOCK_JOB_FOR_CLAIM = sa.text(
    """
    SELECT id, state, set_config('synchronous_commit', 'off', true) AS setting FROM job
    WHERE id = (SELECT job_id FROM step WHERE id = :step_id) FOR NO KEY UPDATE
    """
)

_CLAIM = sa.text(
    """
    WITH claimed AS (
        UPDATE step SET state = 'running', started_at = COALESCE(started_at, now()), progress = NULL
        WHERE id = :step_id AND dispatch_no = :dispatch_no AND state = 'dispatched'
        RETURNING *
    ), made AS (
        INSERT INTO attempt (step_id, worker_id, state, lease_until)
        SELECT id, :worker_id, 'running', now() + make_interval(secs => :lease) FROM claimed
        RETURNING id
    )
    SELECT made.id AS attempt_id, claimed.id AS step_id, claimed.shard, claimed.rows_expected, job.project_id,
           job.id AS job_id, stage.id AS stage_id, stage.name AS stage, stage.kind, stage.ordinal, stage.needs,
           stage.parameters, stage.state AS stage_state, job.budget_micro_usd
    FROM claimed, made, stage, job WHERE stage.id = claimed.stage_id AND job.id = claimed.job_id
    """
)

_SUCCEED = sa.text(
    """
    WITH ended AS (
        UPDATE attempt SET state = 'succeeded', ended_at = now()
        WHERE id = :attempt_id AND state = 'running' AND lease_until > now() RETURNING step_id
    )
    UPDATE step SET state = 'succeeded', ledger = CAST(:ledger AS jsonb), summary = CAST(:summary AS jsonb),
                    progress = NULL, error = NULL, finished_at = now()
    FROM ended WHERE step.id = ended.step_id AND step.state = 'running' RETURNING step.id
    """
)

# A statement of its own after _SUCCEED, under the job's lock: of two inputs that end at once the second sees the first.
_FOLLOWERS = sa.text(
    """
    UPDATE step SET state = 'ready', not_before = now() FROM stage
    WHERE stage.job_id = :job_id AND :stage = ANY(stage.needs) AND NOT stage.barrier
        AND step.stage_id = stage.id AND step.shard = :shard AND step.state = 'blocked'
        AND cardinality(stage.needs) = (
            SELECT count(*) FROM stage AS needed JOIN step AS input ON input.stage_id = needed.id AND input.shard = step.shard
            WHERE needed.job_id = stage.job_id AND needed.name = ANY(stage.needs) AND input.state = 'succeeded')
    RETURNING stage.name AS stage, step.shard
    """
)

_RENEW = sa.text(
    """
    WITH renewed AS (
        UPDATE attempt SET lease_until = now() + make_interval(secs => :lease)
        WHERE id = ANY(:ids) AND state = 'running' AND lease_until > now()
        RETURNING id, step_id
    )
    SELECT renewed.id, job.state FROM renewed JOIN step ON step.id = renewed.step_id JOIN job ON job.id = step.job_id
    """
)

_REPORT = sa.text(
    """
    UPDATE step SET ledger = given.ledger, progress = given.progress
    FROM unnest(CAST(:ids AS bigint[]), CAST(:ledgers AS jsonb[]), CAST(:progress AS jsonb[]))
             AS given(attempt_id, ledger, progress)
    JOIN attempt ON attempt.id = given.attempt_id
    WHERE step.id = attempt.step_id AND attempt.state = 'running' AND step.state = 'running'
    """
)


class StepRepository:
    """What workers do with steps."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._events = EventRepository(session)

    async def claim(self, step_id: str, dispatch_no: int, worker_id: str, lease_seconds: float) -> Claim | None:
        """Take a dispatched step. None: the doorbell is stale (another worker was faster, the step was dispatched anew, or
        its job stopped)."""
        job = (await self._session.execute(_LOCK_JOB_FOR_CLAIM, {"step_id": step_id})).one_or_none()
        if job is None or job.state not in ACTIVE_JOB_STATES:
            return None
        parameters = {
            "step_id": step_id,
            "dispatch_no": dispatch_no,
            "worker_id": worker_id,
            "lease": lease_seconds,
        }
        row = (await self._session.execute(_CLAIM, parameters)).one_or_none()
        if row is None:
            return None
        events: list[NewEvent] = []
        if job.state == JobState.QUEUED.value:
            require_transition(JOB_TRANSITIONS, JobState.QUEUED, JobState.RUNNING)
            await self._session.execute(
                sa.text("UPDATE job SET state = 'running', started_at = COALESCE(started_at, now()) WHERE id = :id"),
                {"id": row.job_id},
            )
            events.append(("job.state", {"state": JobState.RUNNING.value}))
        if row.stage_state == StageState.PENDING.value:
            await self._session.execute(
                sa.text("UPDATE stage SET state = 'running', started_at = COALESCE(started_at, now()) WHERE id = :id"),
                {"id": row.stage_id},
            )
            events.append(("stage.state", {"stage": row.stage, "state": StageState.RUNNING.value}))
        events.append(_step_event(row.stage, row.shard, step_id, StepState.RUNNING, row.attempt_id))
        await self._events.append_many(row.job_id, events)
        fields = {name: getattr(row, name) for name in Claim.__struct_fields__}
        return Claim(**(fields | {"needs": tuple(row.needs)}))

    async def decline(self, step_id: str, dispatch_no: int) -> None:
        """Hand a doorbell back that was heard by a worker that leaves: it is rung again at once, not after a while."""
        declined = await self._session.execute(
            sa.text(
                """
                UPDATE step SET dispatched_at = '-infinity'
                WHERE id = :id AND dispatch_no = :dispatch_no AND state = 'dispatched' RETURNING id
                """
            ),
            {"id": step_id, "dispatch_no": dispatch_no},
        )
        if declined.scalar_one_or_none() is not None:
            await self.wake()

    async def renew(self, attempt_ids: Sequence[int], lease_seconds: float) -> dict[int, bool]:
        """Prolong the leases of those attempts that still run and have not expired.

        Returns attempt id -> whether it shall stop because its job does; an attempt that is missing was lost.
        """
        await self._session.execute(sa.text("SET LOCAL synchronous_commit = off"))
        rows = await self._session.execute(_RENEW, {"ids": list(attempt_ids), "lease": lease_seconds})
        return {row.id: row.state not in ACTIVE_JOB_STATES for row in rows}

    async def report(self, reports: Sequence[Progress]) -> None:
        """Show how far running attempts are; many in one statement."""
        await self._session.execute(sa.text("SET LOCAL synchronous_commit = off"))
        reports = sorted(reports, key=lambda report: report.attempt_id)
        await self._session.execute(
            _REPORT,
            {
                "ids": [report.attempt_id for report in reports],
                "ledgers": [None if report.ledger is None else _json(report.ledger) for report in reports],
                "progress": [_json(report.progress) for report in reports],
            },
        )

    async def emit(self, claim: Claim, events: Sequence[NewEvent]) -> bool:
        """Add events of a running attempt to its job. False: it does not run any more, nothing was written."""
        # Events that a database crash takes back were for watching: what counts is in the commit.
        await self._session.execute(sa.text("SET LOCAL synchronous_commit = off"))
        await self._session.execute(_LOCK_JOB, {"step_id": claim.step_id})
        running = await self._session.execute(
            sa.text("SELECT id FROM attempt WHERE id = :id AND state = 'running' AND lease_until > now()"),
            {"id": claim.attempt_id},
        )
        if running.scalar_one_or_none() is None:
            return False
        await self._events.append_many(claim.job_id, events)
        return True

    async def commit(
        self,
        claim: Claim,
        ledger: Ledger,
        artifacts: Sequence[NewArtifact],
        summary: dict[str, Any] | None = None,
        model: ModelRegistration | None = None,
        bench: BenchRegistration | None = None,
    ) -> bool:
        """Make an attempt's uploaded outputs the step's outputs, and register the model or bench that it made. False: the lease
        was lost, nothing was written."""
        require_transition(ATTEMPT_TRANSITIONS, AttemptState.RUNNING, AttemptState.SUCCEEDED)
        require_transition(STEP_TRANSITIONS, StepState.RUNNING, StepState.SUCCEEDED)
        job = (await self._session.execute(_LOCK_JOB, {"step_id": claim.step_id})).one()
        parameters = {
            "attempt_id": claim.attempt_id,
            "ledger": _json(ledger),
            "summary": None if summary is None else _json(summary),
        }
        if (await self._session.execute(_SUCCEED, parameters)).scalar_one_or_none() is None:
            return False
        if artifacts:
            origin = {
                "project_id": claim.project_id,
                "job_id": claim.job_id,
                "step_id": claim.step_id,
                "attempt_id": claim.attempt_id,
            }
            await ArtifactRepository(self._session).add_many(
                [{**origin, **msgspec.structs.asdict(artifact)} for artifact in artifacts]
            )
        if model is not None:
            await ModelRepository(self._session).add(
                project_id=claim.project_id,
                job_id=claim.job_id,
                stage=claim.stage,
                attempt_id=claim.attempt_id,
                registration=model,
            )
        if bench is not None:
            await BenchRepository(self._session).add(claim.project_id, bench, job_id=claim.job_id)
        events = [_step_event(claim.stage, claim.shard, claim.step_id, StepState.SUCCEEDED, claim.attempt_id)]
        if job.state in ACTIVE_JOB_STATES:
            events += await self._unblock_followers(claim)
        await self._events.append_many(claim.job_id, events, wake=True)
        return True

    async def _unblock_followers(self, claim: Claim) -> list[NewEvent]:
        """Make the same shard of stages ready that waited for this one alone; returns what is to be told of it."""
        require_transition(STEP_TRANSITIONS, StepState.BLOCKED, StepState.READY)
        parameters = {"job_id": claim.job_id, "stage": claim.stage, "shard": claim.shard}
        rows = await self._session.execute(_FOLLOWERS, parameters)
        state = StepState.READY.value
        return [("step.state", {"stage": row.stage, "state": state, "count": 1, "shards": [row.shard]}) for row in rows]

    async def end(self, attempt_id: int, end: AttemptEnd, *, backoff_seconds: float) -> Verdict | None:
        """End an attempt without success and decide about its step (see `retry_policy.judge`).

        An expired lease counts as the end given: nobody else has taken the step while the attempt is still running.
        None: the attempt has ended already.
        """
        step_id = (
            await self._session.execute(sa.text("SELECT step_id FROM attempt WHERE id = :id"), {"id": attempt_id})
        ).scalar_one_or_none()
        if step_id is None:
            return None
        job = (await self._session.execute(_LOCK_JOB, {"step_id": step_id})).one()
        locked = await self._session.execute(
            sa.text("SELECT id FROM attempt WHERE id = :id AND state = 'running' FOR UPDATE"), {"id": attempt_id}
        )
        if locked.scalar_one_or_none() is None:
            return None
        step = (
            await self._session.execute(
                sa.text(
                    """
                    SELECT step.failures, step.losses, step.last_crash, step.crash_repeats, step.shard, stage.name AS stage
                    FROM step JOIN stage ON stage.id = step.stage_id WHERE step.id = :id
                    """
                ),
                {"id": step_id},
            )
        ).one()
        counters = Counters(step.failures, step.losses, step.last_crash, step.crash_repeats)
        active = job.state in ACTIVE_JOB_STATES
        verdict = judge(end, counters, job_active=active, backoff_seconds=backoff_seconds)
        error = {"code": verdict.code or end.code, "message": end.message, "pointer": end.pointer}
        require_transition(ATTEMPT_TRANSITIONS, AttemptState.RUNNING, verdict.attempt_state)
        require_transition(STEP_TRANSITIONS, StepState.RUNNING, verdict.step_state)
        await self._session.execute(
            sa.text(
                "UPDATE attempt SET state = :state, ended_at = now(), error = CAST(:error AS jsonb) WHERE id = :id"
            ),
            {"id": attempt_id, "state": verdict.attempt_state.value, "error": _json(error)},
        )
        await self._session.execute(
            sa.text(
                """
                UPDATE step SET state = :state, not_before = now() + make_interval(secs => :delay), failures = :failures,
                    losses = :losses, last_crash = :last_crash, crash_repeats = :crash_repeats, progress = NULL,
                    ledger = NULL, error = CAST(:error AS jsonb), finished_at = CASE WHEN :ended THEN now() END
                WHERE id = :id AND state = 'running'
                """
            ),
            {
                "id": step_id,
                "state": verdict.step_state.value,
                "delay": verdict.delay_seconds,
                "failures": verdict.counters.failures,
                "losses": verdict.counters.losses,
                "last_crash": verdict.counters.last_crash,
                "crash_repeats": verdict.counters.crash_repeats,
                "error": None if end.kind in {EndKind.CANCELLED, EndKind.PREEMPTED} else _json(error),
                "ended": verdict.step_state is not StepState.READY,
            },
        )
        type_, data = _step_event(step.stage, step.shard, step_id, verdict.step_state, attempt_id)
        data |= {"attempt_state": verdict.attempt_state.value, "error": error}
        await self._events.append_many(job.id, [(type_, data)], wake=True)
        return verdict

    async def wake(self) -> None:
        """Wake the controller when this transaction commits."""
        await self._session.execute(sa.select(sa.func.pg_notify(WAKE_CHANNEL, "")))


def _step_event(stage: str, shard: int, step_id: str, state: StepState, attempt_id: int) -> NewEvent:
    return (
        "step.state",
        {"stage": stage, "shard": shard, "step_id": step_id, "state": state.value, "attempt_id": attempt_id},
    )


def _json(value: Any) -> str:
    return orjson.dumps(msgspec.to_builtins(value)).decode()
