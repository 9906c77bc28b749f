"""The controller's SQL: many steps in one statement, every transition a compare-and-set with its event.

Like all writers it locks the rows of the jobs concerned first, in the order of their ids.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from shared.domain.identifiers import new_id
from shared.domain.ledger import Ledger
from shared.domain.plan import ROW_STAGES
from shared.domain.states import (
    JOB_TRANSITIONS,
    STEP_TRANSITIONS,
    JobState,
    StageState,
    StepState,
    require_transition,
    sources_of,
)
from shared.metadata.engine import STOP_CHANNEL
from shared.metadata.repositories.events import EventRepository, NewEvent
from shared.metadata.repositories.steps import ACTIVE_JOB_STATES

STOPPED_JOB_STATES = (JobState.CANCELLING.value, JobState.CANCELLED.value, JobState.FAILED.value)
"""Jobs whose open steps shall end."""

_CANCELLABLE = sorted(set(sources_of(STEP_TRANSITIONS, StepState.CANCELLED)) - {StepState.RUNNING})
"""Steps that nobody runs; a running one is ended by its worker or its lease."""

_SHARDS_IN_EVENT = 50


class OpenStage(msgspec.Struct, frozen=True):
    """A stage of an active job that has not ended, with the counts of its steps."""

    id: str
    job_id: str
    project_id: str
    ordinal: int
    name: str
    kind: str
    state: str
    steps_total: int
    steps_succeeded: int
    rows_expected: int | None
    ledger: Ledger
    max_reject_rate: float
    succeeded: int
    """Steps that have succeeded by now; `steps_succeeded` is what was shown last."""
    running: int
    work: dict[str, Any] | None = None
    """What was shown last of the one step of a whole stage: {done, total, note}."""
    work_now: dict[str, Any] | None = None
    """What that step said last; None of a stage with rows and of a step that does not run."""


class UnpartitionedStage(msgspec.Struct, frozen=True):
    """A stage of an active job whose steps do not exist yet."""

    id: str
    job_id: str
    name: str
    kind: str
    service: str
    ordinal: int
    needs: tuple[str, ...]


class NewStep(msgspec.Struct, frozen=True):
    """One shard of a stage; `rows_expected` is None for a whole step."""

    shard: int
    rows_expected: int | None


class Candidate(msgspec.Struct, frozen=True):
    """A step that may be dispatched, in the order in which it should be."""

    step_id: str
    job_id: str
    queue: str


class StoppedJob(msgspec.Struct, frozen=True):
    """An ended (or cancelling) job that is not settled."""

    id: str
    project_id: str
    state: str
    running_steps: int
    open_steps: int


class DoorbellRow(msgspec.Struct, frozen=True):
    """An unpublished outbox row."""

    id: int
    step_id: str
    dispatch_no: int
    queue: str
    trace: str | None = None
    """W3C `traceparent` of the job."""
    waited_seconds: float = 0.0
    """Since it was written."""


ROW_STAGE_KINDS = sorted(kind.value for kind in ROW_STAGES)

PARTITIONABLE = """
    FROM job JOIN stage AS open ON open.job_id = job.id
    LEFT JOIN stage AS source ON source.job_id = job.id AND source.name = open.needs[1]
    WHERE job.state = ANY(:active) AND NOT open.partitioned
        AND (NOT open.kind = ANY(:row_stages) OR source.state = 'succeeded')
"""
"""Active jobs and their stages (`open`) whose steps can be made now: whole ones, and row stages whose source has succeeded. Those
that follow such a row stage get theirs with it. All that wait for a stage that runs are left out: many jobs may wait for long."""


class SchedulingRepository:
    """What the controller reads and writes; each method is safe to repeat."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._events = EventRepository(session)

    async def lock_jobs(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Lock jobs in the order of their ids; returns id -> state."""
        rows = await self._session.execute(
            sa.text("SELECT id, state FROM job WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE"),
            {"ids": sorted(set(job_ids))},
        )
        return {row.id: row.state for row in rows}

    # Steps: made, unblocked, dispatched.

    async def unpartitioned_stages(self) -> list[UnpartitionedStage]:
        """Stages without steps, of active jobs that have one whose steps can be made now."""
        rows = await self._session.execute(
            sa.text(
                f"""
                SELECT stage.id, stage.job_id, stage.name, stage.kind, stage.service, stage.ordinal, stage.needs
                FROM stage WHERE NOT stage.partitioned AND stage.job_id IN (SELECT job.id {PARTITIONABLE})
                ORDER BY stage.job_id, stage.ordinal
                """
            ),
            {"active": list(ACTIVE_JOB_STATES), "row_stages": ROW_STAGE_KINDS},
        )
        return [
            UnpartitionedStage(row.id, row.job_id, row.name, row.kind, row.service, row.ordinal, tuple(row.needs))
            for row in rows
        ]

    async def parts(self, job_id: str, stage: str) -> list[NewStep] | None:
        """The shards that a succeeded stage made (its artifacts part-00000.parquet, …); None while it has not succeeded."""
        state = await self._session.execute(
            sa.text("SELECT state FROM stage WHERE job_id = :job_id AND name = :stage"),
            {"job_id": job_id, "stage": stage},
        )
        if state.scalar_one() != StageState.SUCCEEDED.value:
            return None
        rows = await self._session.execute(
            sa.text(
                r"""
                SELECT CAST(substring(name from '^part-(\d+)\.parquet$') AS integer) AS shard, rows
                FROM artifact WHERE job_id = :job_id AND stage = :stage AND name ~ '^part-\d+\.parquet$' ORDER BY 1
                """
            ),
            {"job_id": job_id, "stage": stage},
        )
        return [NewStep(row.shard, row.rows) for row in rows]

    async def make_steps(self, stage: UnpartitionedStage, steps: Sequence[NewStep]) -> None:
        """Make all steps of a stage in one statement, blocked until `unblock` finds their inputs."""
        await self._session.execute(
            sa.text(
                """
                INSERT INTO step (id, job_id, stage_id, shard, queue, state, priority, dispatch_no, failures, losses,
                                  crash_repeats, rows_expected)
                SELECT given.id, :job_id, :stage_id, given.shard, :queue, 'blocked', :priority, 0, 0, 0, 0, given.rows
                FROM unnest(CAST(:ids AS text[]), CAST(:shards AS int[]), CAST(:rows AS int[])) AS given(id, shard, rows)
                ON CONFLICT (stage_id, shard) DO NOTHING
                """
            ),
            {
                "job_id": stage.job_id,
                "stage_id": stage.id,
                "queue": stage.service,
                "priority": stage.ordinal,
                "ids": [new_id("step") for _ in steps],
                "shards": [step.shard for step in steps],
                "rows": [step.rows_expected for step in steps],
            },
        )
        known = [step.rows_expected for step in steps if step.rows_expected is not None]
        rows_expected = sum(known) if known else None
        await self._session.execute(
            sa.text(
                """
                UPDATE stage SET partitioned = true, steps_total = :total, rows_expected = :rows
                WHERE id = :id AND NOT partitioned
                """
            ),
            {"id": stage.id, "total": len(steps), "rows": rows_expected},
        )
        data = {"stage": stage.name, "steps_total": len(steps), "steps_succeeded": 0, "rows_expected": rows_expected}
        await self._events.append(stage.job_id, "stage.progress", data)

    async def unblock(self) -> int:
        """Make blocked steps ready whose inputs stand: a barrier's when all stages it needs succeeded, else the same shard
        of every stage it needs. Returns how many.

        A commit makes the same shard of the next row stages ready itself: here is found what needs whole stages, and what was
        left behind."""
        found = await self._session.execute(
            sa.text(
                """
                SELECT step.id, step.job_id FROM step
                JOIN stage ON stage.id = step.stage_id JOIN job ON job.id = step.job_id
                WHERE step.state = 'blocked' AND job.state = ANY(:active) AND stage.barrier AND NOT EXISTS (
                    SELECT 1 FROM stage AS needed
                    WHERE needed.job_id = step.job_id AND needed.name = ANY(stage.needs) AND needed.state <> 'succeeded'
                )
                UNION ALL
                SELECT step.id, step.job_id FROM step
                JOIN stage ON stage.id = step.stage_id JOIN job ON job.id = step.job_id
                JOIN stage AS needed ON needed.job_id = step.job_id AND needed.name = ANY(stage.needs)
                JOIN step AS input ON input.stage_id = needed.id AND input.shard = step.shard AND input.state = 'succeeded'
                WHERE step.state = 'blocked' AND job.state = ANY(:active) AND NOT stage.barrier
                GROUP BY step.id, stage.id HAVING count(*) = cardinality(stage.needs)
                """
            ),
            {"active": list(ACTIVE_JOB_STATES)},
        )
        rows = found.all()
        if not rows:
            return 0
        await self.lock_jobs(row.job_id for row in rows)
        changed = await self._set_step_states([row.id for row in rows], StepState.BLOCKED, StepState.READY)
        await self._append_step_events(changed, StepState.READY)
        return len(changed)

    async def outstanding(self, redispatch_seconds: float) -> dict[str, int]:
        """Queue -> doorbells that were rung lately and not answered yet."""
        rows = await self._session.execute(
            sa.text(
                """
                SELECT queue, count(*) AS rung FROM step
                WHERE state = 'dispatched' AND dispatched_at >= now() - make_interval(secs => :seconds) GROUP BY queue
                """
            ),
            {"seconds": redispatch_seconds},
        )
        return {row.queue: row.rung for row in rows}

    async def candidates(self, queues: Sequence[str], redispatch_seconds: float, limit: int) -> list[Candidate]:
        """Steps to ring for: ready ones, and dispatched ones whose doorbell nobody answered in time.

        Within a job later stages come first; jobs take turns, and a job that has more steps under way waits longer. Of each job
        only the first `limit` are looked at: the index `step_waiting` has them in order, however many wait.
        """
        rows = await self._session.execute(
            sa.text(
                """
                WITH under_way AS (
                    SELECT job_id, count(*) AS steps FROM step WHERE state = 'running'
                        OR (state = 'dispatched' AND dispatched_at >= now() - make_interval(secs => :seconds))
                    GROUP BY job_id
                ), waiting AS (
                    SELECT job.id AS job_id, first.id, first.queue, first.priority,
                           row_number() OVER (PARTITION BY job.id ORDER BY first.priority DESC, first.shard) AS place
                    FROM job CROSS JOIN LATERAL (
                        SELECT step.id, step.queue, step.priority, step.shard FROM step
                        WHERE step.job_id = job.id AND step.state IN ('ready', 'dispatched') AND step.queue = ANY(:queues)
                            AND CASE step.state WHEN 'ready' THEN step.not_before <= now()
                                ELSE step.dispatched_at < now() - make_interval(secs => :seconds) END
                        ORDER BY step.priority DESC, step.shard LIMIT :limit
                    ) AS first
                    WHERE job.state = ANY(:active)
                )
                SELECT waiting.id, waiting.job_id, waiting.queue FROM waiting LEFT JOIN under_way USING (job_id)
                ORDER BY waiting.place + COALESCE(under_way.steps, 0), waiting.priority DESC, waiting.job_id LIMIT :limit
                """
            ),
            {
                "active": list(ACTIVE_JOB_STATES),
                "queues": list(queues),
                "seconds": redispatch_seconds,
                "limit": limit,
            },
        )
        return [Candidate(row.id, row.job_id, row.queue) for row in rows]

    async def dispatch(self, candidates: Sequence[Candidate]) -> int:
        """Give each step a new dispatch number and put its doorbell into the outbox, in one statement."""
        # What a database crash takes back here is simply dispatched again.
        await self._session.execute(sa.text("SET LOCAL synchronous_commit = off"))
        await self.lock_jobs(candidate.job_id for candidate in candidates)
        changed = await self._session.execute(
            sa.text(
                """
                WITH rung AS (
                    UPDATE step SET state = 'dispatched', dispatch_no = dispatch_no + 1, dispatched_at = now()
                    FROM stage, job
                    WHERE step.id = ANY(:ids) AND step.state IN ('ready', 'dispatched') AND stage.id = step.stage_id
                        AND job.id = step.job_id AND job.state = ANY(:active)
                    RETURNING step.id, step.job_id, step.shard, step.queue, step.dispatch_no, job.trace, stage.name AS stage
                ), earlier AS (
                    SELECT step_id, min(created_at) AS created_at FROM outbox WHERE step_id = ANY(:ids) GROUP BY step_id
                ), rows AS (
                    -- A doorbell that replaces one that could not be published is as old as that.
                    INSERT INTO outbox (step_id, dispatch_no, queue, trace, created_at)
                    SELECT rung.id, rung.dispatch_no, rung.queue, rung.trace, coalesce(earlier.created_at, now()) FROM rung
                    LEFT JOIN earlier ON earlier.step_id = rung.id
                    JOIN unnest(CAST(:ids AS text[])) WITH ORDINALITY AS given(id, place) USING (id) ORDER BY place
                )
                SELECT job_id, stage, shard FROM rung ORDER BY job_id, stage, shard
                """
            ),
            {"ids": [candidate.step_id for candidate in candidates], "active": list(ACTIVE_JOB_STATES)},
        )
        rows = [(row.job_id, row.stage, row.shard) for row in changed]
        await self._append_step_events(rows, StepState.DISPATCHED)
        return len(rows)

    # Doorbells.

    async def doorbells(self, limit: int) -> list[DoorbellRow]:
        """The oldest unpublished doorbells that still mean something; stale ones are removed."""
        await self._session.execute(
            sa.text(
                """
                DELETE FROM outbox USING step WHERE step.id = outbox.step_id
                AND (step.state <> 'dispatched' OR step.dispatch_no <> outbox.dispatch_no)
                """
            )
        )
        rows = await self._session.execute(
            sa.text(
                """
                SELECT id, step_id, dispatch_no, queue, trace, extract(epoch FROM now() - created_at)::float AS waited
                FROM outbox ORDER BY id LIMIT :limit
                """
            ),
            {"limit": limit},
        )
        return [DoorbellRow(row.id, row.step_id, row.dispatch_no, row.queue, row.trace, row.waited) for row in rows]

    async def remove_doorbells(self, ids: Sequence[int]) -> None:
        await self._session.execute(sa.text("SET LOCAL synchronous_commit = off"))
        await self._session.execute(sa.text("DELETE FROM outbox WHERE id = ANY(:ids)"), {"ids": list(ids)})

    # Leases, deadlines, failures.

    async def expired_attempts(self, limit: int = 200) -> list[tuple[int, str, str]]:
        """Running attempts whose lease has run out, with their jobs and steps. An expired lease cannot be renewed."""
        rows = await self._session.execute(
            sa.text(
                """
                SELECT attempt.id, step.job_id, attempt.step_id FROM attempt JOIN step ON step.id = attempt.step_id
                WHERE attempt.state = 'running' AND attempt.lease_until < now() ORDER BY attempt.id LIMIT :limit
                """
            ),
            {"limit": limit},
        )
        return [(row.id, row.job_id, row.step_id) for row in rows]

    async def overdue_jobs(self) -> list[str]:
        rows = await self._session.execute(
            sa.text("SELECT id FROM job WHERE state = ANY(:active) AND deadline_at < now() ORDER BY id"),
            {"active": list(ACTIVE_JOB_STATES)},
        )
        return list(rows.scalars())

    async def failed_steps(self) -> list[tuple[str, dict[str, Any]]]:
        """Active jobs that have a failed step, with the error of the first one."""
        rows = await self._session.execute(
            sa.text(
                """
                SELECT DISTINCT ON (job.id) job.id, step.id AS step_id, step.error, stage.name AS stage
                FROM step JOIN job ON job.id = step.job_id JOIN stage ON stage.id = step.stage_id
                WHERE step.state = 'failed' AND job.state = ANY(:active) ORDER BY job.id, step.finished_at
                """
            ),
            {"active": list(ACTIVE_JOB_STATES)},
        )
        return [(row.id, {**(row.error or {}), "stage": row.stage, "step_id": row.step_id}) for row in rows]

    async def fail_job(self, job_id: str, error: dict[str, Any]) -> bool:
        """End an active job as failed; its running steps are told to stop. False: it was not active any more."""
        states = await self.lock_jobs([job_id])
        if states[job_id] not in ACTIVE_JOB_STATES:
            return False
        require_transition(JOB_TRANSITIONS, JobState(states[job_id]), JobState.FAILED)
        await self._session.execute(
            sa.text(
                "UPDATE job SET state = 'failed', error = CAST(:error AS jsonb), finished_at = now() WHERE id = :id"
            ),
            {"id": job_id, "error": orjson.dumps(error).decode()},
        )
        await self._events.append(job_id, "job.state", {"state": JobState.FAILED.value, "error": error})
        await self._session.execute(sa.select(sa.func.pg_notify(STOP_CHANNEL, job_id)))
        return True

    # Roll-up.

    async def open_stages(self, *, complete: bool = False) -> list[OpenStage]:
        """Partitioned stages of active jobs that have not ended; with `complete` those alone whose steps have all succeeded,
        which the index `step_unfinished` tells without counting steps."""
        rows = await self._session.execute(
            sa.text(
                """
                SELECT stage.id, stage.job_id, job.project_id, stage.ordinal, stage.name, stage.kind, stage.state,
                       stage.steps_total, stage.steps_succeeded, stage.rows_expected, stage.ledger, job.max_reject_rate,
                       stage.work,
                       CASE WHEN NOT stage.kind = ANY(:row_stages) THEN
                           (SELECT step.progress FROM step WHERE step.stage_id = stage.id AND step.state = 'running')
                       END AS work_now,
                       count(step.id) FILTER (WHERE step.state = 'succeeded') AS succeeded,
                       count(step.id) FILTER (WHERE step.state = 'running') AS running
                FROM stage JOIN job ON job.id = stage.job_id LEFT JOIN step ON step.stage_id = stage.id
                WHERE job.state = ANY(:active) AND stage.partitioned AND stage.state IN ('pending', 'running')
                    AND (NOT :complete OR NOT EXISTS (
                        SELECT 1 FROM step AS open WHERE open.stage_id = stage.id AND open.state <> 'succeeded'))
                GROUP BY stage.id, job.id ORDER BY stage.job_id, stage.ordinal
                """
            ),
            {
                "active": list(ACTIVE_JOB_STATES),
                "row_stages": ROW_STAGE_KINDS,
                "complete": complete,
            },
        )
        return [msgspec.convert(dict(row._mapping), OpenStage) for row in rows]

    async def ledger_sums(self, stage_ids: Sequence[str]) -> dict[str, Ledger]:
        """Stage id -> sum over its steps: what succeeded ones counted and running ones last reported."""
        names = [name for name in Ledger.__struct_fields__ if name != "reasons"]
        sums = ", ".join(f"COALESCE(sum(CAST(ledger->>'{name}' AS bigint)), 0) AS {name}" for name in names)
        rows = await self._session.execute(
            sa.text(
                f"SELECT stage_id, {sums} FROM step WHERE stage_id = ANY(:ids) AND ledger IS NOT NULL GROUP BY stage_id"
            ),
            {"ids": list(stage_ids)},
        )
        ledgers = {stage_id: Ledger() for stage_id in stage_ids}
        for row in rows:
            ledgers[row.stage_id] = msgspec.convert({name: int(getattr(row, name)) for name in names}, Ledger)
        reasons = await self._session.execute(
            sa.text(
                """
                SELECT step.stage_id, reason.key, sum(CAST(reason.value AS bigint)) AS facets
                FROM step, jsonb_each_text(step.ledger->'reasons') AS reason
                WHERE step.stage_id = ANY(:ids) AND step.ledger IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2
                """
            ),
            {"ids": list(stage_ids)},
        )
        for row in reasons:
            ledgers[row.stage_id].reasons[row.key] = int(row.facets)
        return ledgers

    async def show_progress(self, stage: OpenStage, ledger: Ledger) -> None:
        """Keep a stage's counts and tell who watches."""
        await self._session.execute(
            sa.text(
                """
                UPDATE stage SET steps_succeeded = :succeeded, ledger = CAST(:ledger AS jsonb),
                                 work = NULLIF(CAST(:work AS jsonb), 'null') WHERE id = :id
                """
            ),
            {"id": stage.id, "succeeded": stage.succeeded, "ledger": _json(ledger), "work": _json(stage.work_now)},
        )
        data = {
            "stage": stage.name,
            "steps_total": stage.steps_total,
            "steps_succeeded": stage.succeeded,
            "rows_expected": stage.rows_expected,
            "ledger": msgspec.to_builtins(ledger),
            "work": stage.work_now,
        }
        await self._events.append(stage.job_id, "stage.progress", data)

    async def finish_stage(self, stage: OpenStage, ledger: Ledger, manifest_key: str) -> bool:
        """Set a stage whose steps all succeeded to succeeded. False: its job has stopped."""
        states = await self.lock_jobs([stage.job_id])
        if states[stage.job_id] not in ACTIVE_JOB_STATES:
            return False
        changed = await self._session.execute(
            sa.text(
                """
                UPDATE stage SET state = 'succeeded', started_at = COALESCE(started_at, now()), finished_at = now(),
                    steps_succeeded = :total, ledger = CAST(:ledger AS jsonb), manifest_key = :key, work = NULL,
                    summary = (SELECT step.summary FROM step WHERE step.stage_id = stage.id ORDER BY step.shard LIMIT 1)
                WHERE id = :id AND state IN ('pending', 'running')
                    AND (SELECT count(*) FROM step WHERE stage_id = :id AND step.state = 'succeeded') = :total
                RETURNING id
                """
            ),
            {"id": stage.id, "total": stage.steps_total, "ledger": _json(ledger), "key": manifest_key},
        )
        if changed.scalar_one_or_none() is None:
            return False
        if ledger != stage.ledger or stage.steps_succeeded != stage.steps_total:
            await self.show_progress(msgspec.structs.replace(stage, succeeded=stage.steps_total), ledger)
        await self._events.append(
            stage.job_id, "stage.state", {"stage": stage.name, "state": StageState.SUCCEEDED.value}
        )
        return True

    async def complete_jobs(self) -> list[tuple[str, str]]:
        """(job id, project id) of active jobs whose stages have all succeeded."""
        rows = await self._session.execute(
            sa.text(
                """
                SELECT job.id, job.project_id FROM job WHERE job.state = ANY(:active)
                AND NOT EXISTS (SELECT 1 FROM stage WHERE stage.job_id = job.id AND stage.state <> 'succeeded')
                ORDER BY job.id
                """
            ),
            {"active": list(ACTIVE_JOB_STATES)},
        )
        return [(row.id, row.project_id) for row in rows]

    async def finish_job(self, job_id: str) -> bool:
        """Set an active job to succeeded."""
        state = (await self.lock_jobs([job_id]))[job_id]
        events: list[NewEvent] = []
        if state == JobState.QUEUED.value:
            # A retried job whose steps had all succeeded before.
            require_transition(JOB_TRANSITIONS, JobState.QUEUED, JobState.RUNNING)
            events.append(("job.state", {"state": JobState.RUNNING.value}))
            state = JobState.RUNNING.value
        if state != JobState.RUNNING.value:
            return False
        require_transition(JOB_TRANSITIONS, JobState.RUNNING, JobState.SUCCEEDED)
        events += [await self._final_cost(job_id), ("job.state", {"state": JobState.SUCCEEDED.value})]
        await self._session.execute(
            sa.text("UPDATE job SET state = 'succeeded', finished_at = now(), settled_at = now() WHERE id = :id"),
            {"id": job_id},
        )
        await self._events.append_many(job_id, events)
        return True

    async def job_costs(self) -> list[tuple[str, int, int]]:
        """(job id, micro-dollars, calls without a price) of running jobs."""
        rows = await self._session.execute(
            sa.text("SELECT id, cost_micro_usd, unpriced_calls FROM job WHERE state IN ('running', 'cancelling')")
        )
        return [(row.id, row.cost_micro_usd, row.unpriced_calls) for row in rows]

    # Ends.

    async def stopped_jobs(self) -> list[StoppedJob]:
        """Cancelling, cancelled and failed jobs that are not settled."""
        rows = await self._session.execute(
            sa.text(
                """
                SELECT job.id, job.project_id, job.state,
                       count(step.id) FILTER (WHERE step.state = 'running') AS running_steps,
                       count(step.id) FILTER (WHERE step.state = ANY(:open)) AS open_steps
                FROM job LEFT JOIN step ON step.job_id = job.id
                WHERE job.state = ANY(:stopped) AND job.settled_at IS NULL GROUP BY job.id ORDER BY job.id
                """
            ),
            {"stopped": list(STOPPED_JOB_STATES), "open": [state.value for state in _CANCELLABLE]},
        )
        return [StoppedJob(row.id, row.project_id, row.state, row.running_steps, row.open_steps) for row in rows]

    async def cancel_open_steps(self, job_id: str) -> int:
        """Cancel the steps of a stopped job that nobody runs; returns how many."""
        states = await self.lock_jobs([job_id])
        if states[job_id] not in STOPPED_JOB_STATES:
            return 0
        changed = await self._session.execute(
            sa.text(
                """
                UPDATE step SET state = 'cancelled', finished_at = now() FROM stage
                WHERE step.job_id = :job_id AND step.state = ANY(:open) AND stage.id = step.stage_id
                RETURNING step.job_id, stage.name AS stage, step.shard
                """
            ),
            {"job_id": job_id, "open": [state.value for state in _CANCELLABLE]},
        )
        rows = [(row.job_id, row.stage, row.shard) for row in changed]
        await self._append_step_events(rows, StepState.CANCELLED)
        return len(rows)

    async def settle_job(self, job_id: str, ledgers: dict[str, Ledger]) -> bool:
        """Close a stopped job of which nothing runs any more: end its open stages and, for a cancel, the job.

        `ledgers` are the final sums by stage id. False: it was taken up again, or something still runs.
        """
        states = await self.lock_jobs([job_id])
        state = states[job_id]
        running = await self._session.execute(
            sa.text("SELECT count(*) FROM step WHERE job_id = :job_id AND state = ANY(:open)"),
            {"job_id": job_id, "open": [StepState.RUNNING.value, *(state.value for state in _CANCELLABLE)]},
        )
        if state not in STOPPED_JOB_STATES or running.scalar_one():
            return False
        events: list[NewEvent] = []
        # The cost comes before the last state, so that whoever stops listening at an end state has seen it.
        rows = await self._session.execute(
            sa.text(
                """
                UPDATE stage SET finished_at = now(),
                    steps_succeeded = (SELECT count(*) FROM step WHERE stage_id = stage.id AND step.state = 'succeeded'),
                    state = CASE
                        WHEN EXISTS (SELECT 1 FROM step WHERE stage_id = stage.id AND step.state = 'failed')
                             OR stage.name = (SELECT job.error->>'stage' FROM job WHERE job.id = :job_id) THEN 'failed'
                        WHEN :cancelled OR stage.started_at IS NOT NULL THEN 'cancelled' ELSE 'skipped' END
                WHERE job_id = :job_id AND state IN ('pending', 'running') RETURNING id, name, state
                """
            ),
            {"job_id": job_id, "cancelled": state != JobState.FAILED.value},
        )
        for row in rows:
            if row.id in ledgers:
                await self._session.execute(
                    sa.text("UPDATE stage SET ledger = CAST(:ledger AS jsonb) WHERE id = :id"),
                    {"id": row.id, "ledger": _json(ledgers[row.id])},
                )
            events.append(("stage.state", {"stage": row.name, "state": row.state}))
        if state == JobState.CANCELLING.value:
            require_transition(JOB_TRANSITIONS, JobState.CANCELLING, JobState.CANCELLED)
            await self._session.execute(
                sa.text("UPDATE job SET state = 'cancelled', finished_at = now() WHERE id = :id"), {"id": job_id}
            )
            events.append(("job.state", {"state": JobState.CANCELLED.value}))
        await self._session.execute(sa.text("UPDATE job SET settled_at = now() WHERE id = :id"), {"id": job_id})
        await self._events.append_many(job_id, [await self._final_cost(job_id), *events])
        return True

    async def _final_cost(self, job_id: str) -> NewEvent:
        cost = await self._session.execute(
            sa.text("SELECT cost_micro_usd, unpriced_calls FROM job WHERE id = :id"), {"id": job_id}
        )
        return "job.cost", dict(cost.one()._mapping)

    async def remove_old_doorbells(self, seconds: float) -> None:
        """Doorbells of that age that mean nothing any more: one that is still to be rung stays, and tells how long it waits."""
        await self._session.execute(
            sa.text(
                """
                DELETE FROM outbox WHERE created_at < now() - make_interval(secs => :seconds) AND NOT EXISTS (
                    SELECT FROM step WHERE step.id = outbox.step_id AND step.state = 'dispatched'
                        AND step.dispatch_no = outbox.dispatch_no)
                """
            ),
            {"seconds": seconds},
        )

    async def _set_step_states(
        self, step_ids: Sequence[str], old: StepState, new: StepState
    ) -> list[tuple[str, str, int]]:
        require_transition(STEP_TRANSITIONS, old, new)
        rows = await self._session.execute(
            sa.text(
                """
                UPDATE step SET state = :new, not_before = now() FROM stage
                WHERE step.id = ANY(:ids) AND step.state = :old AND stage.id = step.stage_id
                RETURNING step.job_id, stage.name AS stage, step.shard
                """
            ),
            {"ids": list(step_ids), "old": old.value, "new": new.value},
        )
        return [(row.job_id, row.stage, row.shard) for row in rows]

    async def _append_step_events(self, rows: Sequence[tuple[str, str, int]], state: StepState) -> None:
        """One event per job and stage, however many steps changed."""
        shards: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for job_id, stage, shard in rows:
            shards[job_id][stage].append(shard)
        for job_id in sorted(shards):
            events: list[NewEvent] = [
                (
                    "step.state",
                    {
                        "stage": stage,
                        "state": state.value,
                        "count": len(numbers),
                        "shards": sorted(numbers)[:_SHARDS_IN_EVENT],
                    },
                )
                for stage, numbers in shards[job_id].items()
            ]
            await self._events.append_many(job_id, events)


def _json(value: Any) -> str:
    return orjson.dumps(msgspec.to_builtins(value)).decode()
