"""The controller's SQL: what is ready, in which order it is rung for, and which doorbells still mean something."""

import sqlalchemy as sa

from shared.domain.ledger import Ledger
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.scheduling import Candidate, NewStep, SchedulingRepository
from shared.metadata.tables import Job
from tests.support.control_plane import PROJECT
from tests.support.scheduling import Sessions, claim, commit, dispatch, make_steps, step_states, submitted, unblock

ALL_QUEUES = ["curation", "augmentation", "composition", "generation"]


async def finish(sessions: Sessions, job: Job, stage: str) -> None:
    async with sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        (found,) = [s for s in await scheduling.open_stages() if s.job_id == job.id and s.name == stage]
        assert await scheduling.finish_stage(found, Ledger(), "key")


async def run(sessions: Sessions, job: Job, ledger: Ledger | None = None) -> None:
    """Everything that is ready succeeds."""
    for doorbell in await dispatch(sessions, job):
        taken = await claim(sessions, doorbell)
        assert taken is not None
        assert await commit(sessions, taken, ledger)


async def test_shards_are_pipelined_and_barriers_wait_for_all(sessions: Sessions) -> None:
    job = await submitted(sessions)
    await make_steps(sessions, job, "curate", 1)
    await make_steps(sessions, job, "assemble", 1)
    for stage in ("augment", "compose", "respond"):
        await make_steps(sessions, job, stage, 2)
    await unblock(sessions)
    states = await step_states(sessions, job)
    assert [key for key, state in states.items() if state == "ready"] == [("curate", 0)]

    await run(sessions, job)
    assert await unblock(sessions) == 0, "a barrier waits for the stage's end, not only its steps'"
    await finish(sessions, job, "curate")
    await unblock(sessions)
    first, _ = await dispatch(sessions, job)
    taken = await claim(sessions, first)
    assert taken is not None
    assert taken.shard == 0
    assert await commit(sessions, taken)
    await unblock(sessions)
    states = await step_states(sessions, job)
    assert {key for key, state in states.items() if state == "ready"} == {("compose", 0)}
    assert states["assemble", 0] == "blocked"


async def test_a_commit_makes_the_same_shard_of_the_next_stage_ready(sessions: Sessions) -> None:
    job = await submitted(sessions)
    await make_steps(sessions, job, "curate", 1)
    await make_steps(sessions, job, "assemble", 1)
    for stage in ("augment", "compose", "respond"):
        await make_steps(sessions, job, stage, 2)
    await unblock(sessions)
    await run(sessions, job)
    await finish(sessions, job, "curate")
    assert await unblock(sessions) == 2
    _, second = await dispatch(sessions, job)
    taken = await claim(sessions, second)
    assert taken is not None

    assert await commit(sessions, taken)

    states = await step_states(sessions, job)
    assert {key for key, state in states.items() if state == "ready"} == {("compose", 1)}
    async with sessions() as session:
        told = await session.execute(
            sa.text(
                "SELECT data->>'stage', data->>'state' FROM event WHERE job_id = :id AND type = 'step.state' "
                "ORDER BY sequence DESC LIMIT 2"
            ),
            {"id": job.id},
        )
        assert [tuple(row) for row in told] == [("compose", "ready"), ("augment", "succeeded")]
    assert await unblock(sessions) == 0, "the controller finds nothing left behind"


async def test_a_commit_of_a_cancelled_job_makes_nothing_ready(sessions: Sessions) -> None:
    job = await submitted(sessions)
    await make_steps(sessions, job, "curate", 1)
    for stage in ("augment", "compose"):
        await make_steps(sessions, job, stage, 1)
    await unblock(sessions)
    await run(sessions, job)
    await finish(sessions, job, "curate")
    await unblock(sessions)
    (doorbell,) = await dispatch(sessions, job)
    taken = await claim(sessions, doorbell)
    assert taken is not None
    async with sessions() as session, session.begin():
        await JobRepository(session).request_cancel(PROJECT, job.id)

    assert await commit(sessions, taken), "what was finished is kept"

    assert (await step_states(sessions, job))["compose", 0] == "blocked"


async def test_of_many_waiting_steps_the_first_of_each_job_are_chosen(sessions: Sessions) -> None:
    jobs = [await submitted(sessions, f"waits {number}") for number in range(2)]
    for job in jobs:
        await make_steps(sessions, job, "augment", 20)
        async with sessions() as session, session.begin():
            ready = "UPDATE step SET state = 'ready' WHERE job_id = :id"
            await session.execute(sa.text(ready), {"id": job.id})

    # Jobs of other tests wait too: what is asked is that of each job the first come, in turns.
    for limit in (6, 1000):
        async with sessions() as session:
            chosen = await SchedulingRepository(session).candidates(ALL_QUEUES, 30, limit)
            rows = await session.execute(
                sa.text("SELECT id, shard FROM step WHERE id = ANY(:ids)"), {"ids": [one.step_id for one in chosen]}
            )
        shard_of = {row.id: row.shard for row in rows}
        assert len(chosen) <= limit
        found = [[shard_of[one.step_id] for one in chosen if one.job_id == job.id] for job in jobs]
        assert all(shards == list(range(len(shards))) for shards in found)
        assert abs(len(found[0]) - len(found[1])) <= 1
    assert [len(shards) for shards in found] == [20, 20]


async def test_complete_stages_are_those_without_an_unfinished_step(sessions: Sessions) -> None:
    job = await submitted(sessions)
    await make_steps(sessions, job, "curate", 1)
    await unblock(sessions)
    await run(sessions, job)
    for stage in ("augment", "compose"):
        await make_steps(sessions, job, stage, 2)
    async with sessions() as session:
        complete = await SchedulingRepository(session).open_stages(complete=True)
        assert [stage.name for stage in complete if stage.job_id == job.id] == ["curate"]


async def test_making_steps_again_changes_nothing(sessions: Sessions) -> None:
    job = await submitted(sessions)
    async with sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        stage = next(s for s in await scheduling.unpartitioned_stages() if s.job_id == job.id and s.name == "augment")
        for _ in range(2):
            await scheduling.make_steps(stage, [NewStep(0, 16), NewStep(1, 9)])
    async with sessions() as session:
        steps = await JobRepository(session).steps(job.id, stage="augment")
        stages = await JobRepository(session).stages(job.id)
    assert [(step.shard, step.rows_expected, step.queue, step.priority) for step in steps] == [
        (0, 16, "augmentation", 1),
        (1, 9, "augmentation", 1),
    ]
    assert (stages[1].steps_total, stages[1].rows_expected) == (2, 25)


async def ready_job(sessions: Sessions, name: str, **shards: int) -> Job:
    job = await submitted(sessions, name)
    for stage, count in shards.items():
        await make_steps(sessions, job, stage, count)
    async with sessions() as session, session.begin():
        await session.execute(sa.text("UPDATE step SET state = 'ready' WHERE job_id = :id"), {"id": job.id})
    return job


async def candidates(sessions: Sessions, *jobs: Job) -> list[Candidate]:
    ids = {job.id for job in jobs}
    async with sessions() as session:
        found = await SchedulingRepository(session).candidates(ALL_QUEUES, 30, 1000)
    return [candidate for candidate in found if candidate.job_id in ids]


async def test_later_stages_come_first_and_jobs_take_turns(sessions: Sessions) -> None:
    big = await ready_job(sessions, "big", augment=3, respond=2)
    small = await ready_job(sessions, "small", augment=2)
    order = await candidates(sessions, big, small)
    assert [candidate.queue for candidate in order if candidate.job_id == big.id] == ["generation"] * 2 + [
        "augmentation"
    ] * 3
    assert [candidate.job_id for candidate in order[:4]] == [big.id, small.id, big.id, small.id]

    async with sessions() as session, session.begin():
        await SchedulingRepository(session).dispatch([c for c in order if c.job_id == big.id][:2])
    order = await candidates(sessions, big, small)
    assert [candidate.job_id for candidate in order[:2]] == [small.id, small.id], "who has steps under way waits longer"


async def test_an_unanswered_doorbell_is_rung_again_and_the_old_one_is_stale(sessions: Sessions) -> None:
    job = await ready_job(sessions, "deaf", curate=1)
    ((step_id, number),) = await dispatch(sessions, job)
    assert await candidates(sessions, job) == []
    async with sessions() as session, session.begin():
        await session.execute(
            sa.text("UPDATE step SET dispatched_at = now() - interval '31 seconds' WHERE id = :id"), {"id": step_id}
        )
        await session.execute(
            sa.text("UPDATE outbox SET created_at = now() - interval '700 seconds' WHERE step_id = :id"),
            {"id": step_id},
        )
    (again,) = await candidates(sessions, job)
    async with sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        assert (await scheduling.outstanding(30)).get("curation", 0) == 0
        await scheduling.dispatch([again])
        await scheduling.remove_old_doorbells(600)
    async with sessions() as session, session.begin():
        bells = [bell for bell in await SchedulingRepository(session).doorbells(1000) if bell.step_id == step_id]
    assert [bell.dispatch_no for bell in bells] == [number + 1]
    assert bells[0].waited_seconds >= 700, "nobody could publish the one before: it waits since then"
    assert await claim(sessions, (step_id, number)) is None
    assert await claim(sessions, (step_id, number + 1)) is not None
    async with sessions() as session, session.begin():
        left = [bell for bell in await SchedulingRepository(session).doorbells(1000) if bell.step_id == step_id]
    assert left == [], "a claimed step needs no doorbell"


async def test_steps_of_a_stopped_job_are_not_rung_for_and_end_while_finished_ones_stay(sessions: Sessions) -> None:
    job = await ready_job(sessions, "stopped", curate=1)
    await run(sessions, job)
    await make_steps(sessions, job, "augment", 2)
    async with sessions() as session, session.begin():
        await JobRepository(session).request_cancel(PROJECT, job.id)
    async with sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        assert await scheduling.cancel_open_steps(job.id) == 2
        assert await scheduling.settle_job(job.id, {})
        assert await scheduling.settle_job(job.id, {})
        found = await JobRepository(session).require(PROJECT, job.id)
        stages = await JobRepository(session).stages(job.id)
    assert (found.state, found.finished_at is None, found.settled_at is None) == ("cancelled", False, False)
    assert {stage.state for stage in stages} == {"cancelled"}
    assert (await step_states(sessions, job))["curate", 0] == "succeeded"


async def test_ledgers_are_summed_over_shards_with_their_reasons(sessions: Sessions) -> None:
    job = await ready_job(sessions, "sums", augment=3)
    part = Ledger(rows_in=2, rows_out=2, facets_in=6, facets_out=3, facets_rejected=3, reasons={"a": 2, "b": 1})
    await run(sessions, job, part)
    async with sessions() as session:
        (stage,) = [s for s in await SchedulingRepository(session).open_stages() if s.job_id == job.id]
        sums = await SchedulingRepository(session).ledger_sums([stage.id, "stage_without_steps"])
    assert sums[stage.id] == Ledger(6, 6, 0, 18, 9, 9, {"a": 6, "b": 3})
    assert sums["stage_without_steps"] == Ledger()
    sums[stage.id].check()
