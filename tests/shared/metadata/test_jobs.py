"""Submission, idempotency, listing, cancel and retry."""

import asyncio

import pytest
import sqlalchemy as sa

from shared.domain.errors import InputRefused
from shared.domain.plan import StageKind
from shared.domain.states import JobState
from shared.metadata.repositories.events import EventRepository
from shared.metadata.repositories.jobs import JobConflict, JobNotFound, JobRepository
from shared.metadata.repositories.scheduling import SchedulingRepository
from tests.support.control_plane import PROJECT, toy_spec, toy_taxonomy
from tests.support.scheduling import Sessions, claimed, step_states, submitted


async def test_a_submission_stores_the_frozen_spec_its_stages_and_an_event_but_no_steps(sessions: Sessions) -> None:
    job = await submitted(sessions, "mine", budget_usd=1.25, deadline_seconds=60)
    async with sessions() as session:
        jobs = JobRepository(session)
        found = await jobs.get(PROJECT, job.id)
        stages = await jobs.stages(job.id)
        steps = await jobs.steps(job.id)
        events = await EventRepository(session).since(job.id, 0)
    assert found is not None
    assert (found.state, found.budget_micro_usd, found.spec["name"]) == ("queued", 1_250_000, "mine")
    assert found.deadline_at is not None
    assert found.created_at is not None
    assert (found.deadline_at - found.created_at).total_seconds() == 60
    assert [stage.name for stage in stages] == ["curate", "augment", "compose", "respond", "assemble", "report"]
    assert stages[1].parameters["sets_per_instruction"] == 3
    assert steps == []
    assert [(event.sequence, event.type, event.data["state"]) for event in events] == [(1, "job.state", "queued")]


async def test_stop_after_cuts_the_plan(sessions: Sessions) -> None:
    job = await submitted(sessions, stop_after=StageKind.COMPOSE)
    async with sessions() as session:
        stages = await JobRepository(session).stages(job.id)
    assert [stage.name for stage in stages] == ["curate", "augment", "compose"]


async def test_the_same_idempotency_key_gives_the_same_job_also_at_once(sessions: Sessions) -> None:
    async def submit(body: str) -> tuple[str, bool]:
        async with sessions() as session, session.begin():
            job, created = await JobRepository(session).submit(
                PROJECT, toy_spec(), toy_taxonomy(), teacher_is_simulator=True, idempotency=("key", body)
            )
            return job.id, created

    answers = await asyncio.gather(*(submit("body") for _ in range(5)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert sorted(created for _, created in answers) == [False] * 4 + [True]
    with pytest.raises(InputRefused, match="another request body"):
        await submit("other body")


async def test_jobs_are_listed_newest_first_by_page_state_and_project(sessions: Sessions) -> None:
    ids = [(await submitted(sessions, f"page {n}")).id for n in range(3)]
    async with sessions() as session:
        jobs = JobRepository(session)
        first = await jobs.list(PROJECT, limit=2)
        second = await jobs.list(PROJECT, before=first[-1].id, limit=1)
        assert [job.id for job in (*first, *second)] == ids[::-1]
        assert await jobs.list(PROJECT, state=JobState.FAILED) == []
        assert await jobs.list("someone else") == []
        assert await jobs.get("someone else", ids[0]) is None


async def test_cancel_is_visible_repeatable_and_refused_after_the_end(sessions: Sessions) -> None:
    job = await submitted(sessions)
    for _ in range(2):
        async with sessions() as session, session.begin():
            answer = await JobRepository(session).request_cancel(PROJECT, job.id)
            assert answer.state == "cancelling"
            assert answer.cancel_requested_at is not None
    async with sessions() as session, session.begin():
        assert await SchedulingRepository(session).settle_job(job.id, {})
        assert (await JobRepository(session).request_cancel(PROJECT, job.id)).state == "cancelled"
    failed = await submitted(sessions)
    async with sessions() as session, session.begin():
        await SchedulingRepository(session).fail_job(failed.id, {"code": "x"})
        with pytest.raises(JobConflict, match="ended as failed"):
            await JobRepository(session).request_cancel(PROJECT, failed.id)
        with pytest.raises(JobNotFound):
            await JobRepository(session).request_cancel(PROJECT, "nowhere")


async def test_a_retry_starts_unfinished_steps_over_and_keeps_the_rest(sessions: Sessions) -> None:
    job, _ = await claimed(sessions)
    async with sessions() as session, session.begin():
        with pytest.raises(JobConflict, match="running"):
            await JobRepository(session).retry(PROJECT, job.id)
        await SchedulingRepository(session).fail_job(job.id, {"code": "x", "stage": "curate"})
        await session.execute(
            sa.text("UPDATE step SET state = 'failed', failures = 3, crash_repeats = 3 WHERE job_id = :id"),
            {"id": job.id},
        )
        await session.execute(sa.text("UPDATE attempt SET state = 'failed'"))
        await SchedulingRepository(session).settle_job(job.id, {})
    async with sessions() as session, session.begin():
        again = await JobRepository(session).retry(PROJECT, job.id)
        stages = await JobRepository(session).stages(job.id)
        (step,) = await JobRepository(session).steps(job.id)
    assert (again.state, again.run_no, again.error, again.settled_at) == ("queued", 2, None, None)
    assert {stage.state for stage in stages} == {"pending"}
    assert (step.failures, step.crash_repeats) == (0, 0)
    assert await step_states(sessions, job) == {("curate", 0): "blocked"}


async def test_a_spent_budget_must_be_raised(sessions: Sessions) -> None:
    job = await submitted(sessions, budget_usd=1.0)
    async with sessions() as session, session.begin():
        await SchedulingRepository(session).fail_job(job.id, {"code": "budget_exhausted"})
        await session.execute(sa.text("UPDATE job SET cost_micro_usd = 1000000 WHERE id = :id"), {"id": job.id})
    async with sessions() as session, session.begin():
        jobs = JobRepository(session)
        for budget in (None, 0.5, 1.0):
            with pytest.raises(JobConflict, match="above the cost"):
                await jobs.retry(PROJECT, job.id, budget_usd=budget)
        assert (await jobs.retry(PROJECT, job.id, budget_usd=2.0)).budget_micro_usd == 2_000_000


@pytest.mark.parametrize("code", ["too_many_rejected", "no_instruction_left"])
async def test_a_job_that_its_rejections_failed_is_not_retried_and_hears_the_remedy_again(
    sessions: Sessions, code: str
) -> None:
    rejected = await submitted(sessions)
    async with sessions() as session, session.begin():
        await SchedulingRepository(session).fail_job(rejected.id, {"code": code, "message": "loosen this, or do that"})
        with pytest.raises(JobConflict, match=f"{code}.*loosen this, or do that"):
            await JobRepository(session).retry(PROJECT, rejected.id)
