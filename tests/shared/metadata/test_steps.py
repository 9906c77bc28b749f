"""Claims, leases and commits: one winner, no write without a lease, nothing done twice."""

import asyncio

import pytest
import sqlalchemy as sa

from shared.domain.ledger import Ledger
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.events import EventRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.scheduling import SchedulingRepository
from shared.metadata.repositories.steps import NewArtifact, Progress, StepRepository
from shared.queue.retry_policy import AttemptEnd, EndKind
from tests.support.control_plane import PROJECT
from tests.support.scheduling import (
    Sessions,
    claim,
    claimed,
    commit,
    dispatch,
    make_steps,
    step_states,
    submitted,
    unblock,
)

LOST = AttemptEnd(EndKind.LOST, "lease_expired", "gone")


async def expire(sessions: Sessions, attempt_id: int) -> None:
    async with sessions() as session, session.begin():
        await session.execute(
            sa.text("UPDATE attempt SET lease_until = now() - interval '1 second' WHERE id = :id"), {"id": attempt_id}
        )


async def end(sessions: Sessions, attempt_id: int, how: AttemptEnd) -> object:
    async with sessions() as session, session.begin():
        return await StepRepository(session).end(attempt_id, how, backoff_seconds=0)


async def test_of_many_workers_that_hear_a_doorbell_one_gets_the_step(sessions: Sessions) -> None:
    job = await submitted(sessions)
    await make_steps(sessions, job, "curate", 1)
    await unblock(sessions)
    (doorbell,) = await dispatch(sessions, job)
    claims = await asyncio.gather(*(claim(sessions, doorbell, f"worker {n}") for n in range(8)))
    (winner,) = [taken for taken in claims if taken is not None]
    assert (winner.stage, winner.kind, winner.shard, winner.job_id) == ("curate", "curate", 0, job.id)
    async with sessions() as session:
        found = await JobRepository(session).require(PROJECT, job.id)
        stages = await JobRepository(session).stages(job.id)
    assert (found.state, stages[0].state, stages[1].state) == ("running", "running", "pending")


async def test_a_stale_doorbell_and_one_of_a_stopped_job_are_dropped(sessions: Sessions) -> None:
    job = await submitted(sessions)
    await make_steps(sessions, job, "curate", 1)
    await unblock(sessions)
    ((step_id, number),) = await dispatch(sessions, job)
    assert await claim(sessions, (step_id, number - 1)) is None
    assert await claim(sessions, ("step_unknown", 1)) is None
    async with sessions() as session, session.begin():
        await JobRepository(session).request_cancel(PROJECT, job.id)
    assert await claim(sessions, (step_id, number)) is None


async def test_a_lease_is_renewed_only_while_it_lives_and_tells_of_a_stop(sessions: Sessions) -> None:
    job, taken = await claimed(sessions)
    async with sessions() as session, session.begin():
        assert await StepRepository(session).renew([taken.attempt_id, 10**9], 60) == {taken.attempt_id: False}
        await JobRepository(session).request_cancel(PROJECT, job.id)
    async with sessions() as session, session.begin():
        assert await StepRepository(session).renew([taken.attempt_id], 60) == {taken.attempt_id: True}
    await expire(sessions, taken.attempt_id)
    async with sessions() as session, session.begin():
        assert await StepRepository(session).renew([taken.attempt_id], 60) == {}


async def test_without_a_lease_nothing_is_committed_and_the_next_attempt_wins(sessions: Sessions) -> None:
    job, first = await claimed(sessions)
    await expire(sessions, first.attempt_id)
    assert not await commit(sessions, first)
    async with sessions() as session:
        assert (first.attempt_id, job.id, first.step_id) in await SchedulingRepository(session).expired_attempts()
    await end(sessions, first.attempt_id, LOST)
    (doorbell,) = await dispatch(sessions, job)
    second = await claim(sessions, doorbell)
    assert second is not None
    assert second.attempt_id > first.attempt_id
    assert not await commit(sessions, first)
    assert await commit(sessions, second, Ledger(rows_in=5, rows_out=5))
    assert not await commit(sessions, second), "a commit that is sent twice counts once"
    async with sessions() as session:
        (step,) = await JobRepository(session).steps(job.id)
    assert (step.state, step.losses, step.failures) == ("succeeded", 1, 0)
    assert step.ledger is not None
    assert step.ledger["rows_in"] == 5


async def test_a_commit_records_its_artifacts_with_attempt_and_lineage(sessions: Sessions) -> None:
    job, taken = await claimed(sessions)
    part = NewArtifact(
        "curate", "part-00000.parquet", f"{job.id}/k", "table", "m", "0" * 64, 7, 3, "s/1", {"a": 1}, {"inputs": ["x"]}
    )
    assert await commit(sessions, taken, artifacts=[part])
    async with sessions() as session:
        (found,) = await ArtifactRepository(session).list(PROJECT, job.id, stage="curate")
        assert await ArtifactRepository(session).get(PROJECT, found.id) is not None
        assert await ArtifactRepository(session).get("other", found.id) is None
    assert (found.attempt_id, found.step_id, found.rows, found.size) == (taken.attempt_id, taken.step_id, 3, 7)
    assert (found.details, found.lineage) == ({"a": 1}, {"inputs": ["x"]})


@pytest.mark.parametrize(
    ("how", "state", "failures", "losses"),
    [
        (AttemptEnd(EndKind.FAILED, "x", "x", signature="a"), "ready", 1, 0),
        (AttemptEnd(EndKind.CRASHED, "x", "x", signature="signal 9"), "ready", 0, 1),
        (AttemptEnd(EndKind.DEFERRED, "x", "x", seconds=30), "ready", 0, 0),
        (AttemptEnd(EndKind.PREEMPTED, "x", "x"), "ready", 0, 0),
        (AttemptEnd(EndKind.REFUSED, "bad_input", "x", pointer="/sources/0"), "failed", 0, 0),
    ],
)
async def test_ends_of_attempts(sessions: Sessions, how: AttemptEnd, state: str, failures: int, losses: int) -> None:
    job, taken = await claimed(sessions)
    assert await end(sessions, taken.attempt_id, how) is not None
    assert await end(sessions, taken.attempt_id, how) is None, "an attempt ends once"
    async with sessions() as session:
        (step,) = await JobRepository(session).steps(job.id)
        waits = (await session.execute(sa.text("SELECT not_before > now() + interval '20 s' FROM step WHERE id = :id"),
                                       {"id": step.id})).scalar_one()  # fmt: skip
    assert (step.state, step.failures, step.losses) == (state, failures, losses)
    assert waits == (how.kind is EndKind.DEFERRED)
    if state == "failed":
        assert step.error == {"code": "bad_input", "message": "x", "pointer": "/sources/0"}


async def test_a_stopped_jobs_step_is_cancelled_but_a_retried_ones_goes_on(sessions: Sessions) -> None:
    job, taken = await claimed(sessions)
    async with sessions() as session, session.begin():
        await JobRepository(session).request_cancel(PROJECT, job.id)
    await end(sessions, taken.attempt_id, AttemptEnd(EndKind.CANCELLED, "cancelled", ""))
    assert await step_states(sessions, job) == {("curate", 0): "cancelled"}

    job, taken = await claimed(sessions)
    async with sessions() as session, session.begin():
        await SchedulingRepository(session).fail_job(job.id, {"code": "x"})
        await JobRepository(session).retry(PROJECT, job.id)
    await end(sessions, taken.attempt_id, AttemptEnd(EndKind.CANCELLED, "cancelled", ""))
    assert await step_states(sessions, job) == {("curate", 0): "ready"}


async def test_progress_is_shown_for_running_attempts_only(sessions: Sessions) -> None:
    job, taken = await claimed(sessions)
    async with sessions() as session, session.begin():
        await StepRepository(session).report(
            [
                Progress(taken.attempt_id, Ledger(rows_in=2, rows_out=2), {"done": 2, "total": 9}),
                Progress(10**9, None, {}),
            ]
        )
    async with sessions() as session:
        (step,) = await JobRepository(session).steps(job.id)
        assert step.progress == {"done": 2, "total": 9}
    await end(sessions, taken.attempt_id, AttemptEnd(EndKind.PREEMPTED, "x", "x"))
    async with sessions() as session, session.begin():
        await StepRepository(session).report([Progress(taken.attempt_id, Ledger(rows_in=3, rows_out=3), {"done": 3})])
    async with sessions() as session:
        (step,) = await JobRepository(session).steps(job.id)
        assert (step.progress, step.ledger) == (None, None)


async def test_events_of_a_running_attempt_reach_its_job_in_order(sessions: Sessions) -> None:
    job, taken = await claimed(sessions)
    given = [("train.metrics", {"stage": "sft", "step": step}) for step in range(3)]
    async with sessions() as session, session.begin():
        assert await StepRepository(session).emit(taken, given)
    async with sessions() as session:
        found = await EventRepository(session).since(job.id, 0)
    assert [(event.type, event.data) for event in found][-3:] == given
    assert [event.sequence for event in found] == list(range(1, len(found) + 1))


async def test_an_attempt_that_ended_or_lost_its_lease_adds_no_event(sessions: Sessions) -> None:
    job, taken = await claimed(sessions, "ended")
    assert await commit(sessions, taken)
    late, gone = await claimed(sessions, "late", lease=0.0)
    for claim_, of in ((taken, job), (gone, late)):
        async with sessions() as session, session.begin():
            assert not await StepRepository(session).emit(claim_, [("note", {"message": "late"})])
        async with sessions() as session:
            assert "note" not in {event.type for event in await EventRepository(session).since(of.id, 0)}
