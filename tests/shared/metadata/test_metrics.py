"""Figures of the whole system on real PostgreSQL: each says what the tables hold, and nothing that was not there."""

import psycopg
import pytest
import sqlalchemy as sa

from shared.domain.plan import SERVICES
from shared.metadata.engine import LEADER_LOCK, connect
from shared.metadata.repositories.gpu_slots import GpuSlotRepository, attempt_holder
from shared.metadata.repositories.metrics import (
    AttemptCount,
    GroupFigures,
    MetricsRepository,
    ModelUsage,
    PoolFigures,
    StepCount,
    SystemFigures,
    WorkerCount,
)
from shared.metadata.repositories.steps import StepRepository
from shared.metadata.repositories.workers import WorkerRepository
from shared.queue.retry_policy import AttemptEnd, EndKind
from tests.support.scheduling import Sessions, claim, claimed, commit, dispatch, make_steps, submitted, unblock


@pytest.fixture(autouse=True)
async def empty(sessions: Sessions) -> None:
    """Tests of this module share a database, and the figures are of all of it."""
    async with sessions() as session, session.begin():
        await session.execute(
            sa.text("TRUNCATE job, worker, worker_group, outbox, usage, gpu_slot, deployment, model_server CASCADE")
        )


async def figures(sessions: Sessions) -> SystemFigures:
    async with sessions() as session, session.begin():
        return await MetricsRepository(session).figures(20)


async def change(sessions: Sessions, statement: str, **parameters: object) -> None:
    async with sessions() as session, session.begin():
        await session.execute(sa.text(statement), parameters)


async def test_an_empty_system_has_every_pool_and_no_age(sessions: Sessions) -> None:
    found = await figures(sessions)
    assert found.pools == [PoolFigures(pool, 0, 0, 0, 0.0) for pool in SERVICES]
    assert (found.jobs, found.steps, found.attempts, found.usage, found.groups) == ({}, [], [], [], [])
    assert (found.outbox_rows, found.outbox_oldest_seconds, found.oldest_queued_seconds) == (0, 0, 0)
    assert found.database_bytes > 1_000_000
    assert 0 < found.database_connections <= found.database_connections_limit


async def test_a_job_that_is_tried_again_is_queued_since_then(sessions: Sessions) -> None:
    await submitted(sessions)
    await change(sessions, "UPDATE job SET created_at = now() - interval '7 days'")
    await change(sessions, "UPDATE event SET created_at = now() - interval '7 days'")
    assert (await figures(sessions)).oldest_queued_seconds == pytest.approx(7 * 86_400, abs=60)
    await change(sessions, "UPDATE event SET created_at = now() - interval '90 s' WHERE type = 'job.state'")
    assert (await figures(sessions)).oldest_queued_seconds == pytest.approx(90, abs=60)


async def test_steps_are_counted_by_pool_and_state_and_the_longest_wait_is_told(sessions: Sessions) -> None:
    job = await submitted(sessions)
    await make_steps(sessions, job, "curate", 1)
    await make_steps(sessions, job, "augment", 3)
    await unblock(sessions)
    await change(sessions, "UPDATE step SET not_before = now() - interval '90 s' WHERE state = 'ready'")
    found = await figures(sessions)
    assert found.steps == [StepCount("augmentation", "blocked", 3), StepCount("curation", "ready", 1)]
    curation = next(pool for pool in found.pools if pool.pool == "curation")
    assert (curation.ready, curation.running) == (1, 0)
    assert 90 <= curation.oldest_ready_seconds < 600
    (doorbell,) = await dispatch(sessions, job)
    await change(sessions, "UPDATE outbox SET created_at = now() - interval '7 s'")
    found = await figures(sessions)
    assert found.outbox_rows == 1
    assert 7 <= found.outbox_oldest_seconds < 600
    assert next(pool for pool in found.pools if pool.pool == "curation").oldest_ready_seconds >= 90, "rung, not taken"
    assert await claim(sessions, doorbell)
    found = await figures(sessions)
    assert StepCount("curation", "running", 1) in found.steps
    assert next(pool for pool in found.pools if pool.pool == "curation").oldest_ready_seconds == 0
    assert found.jobs == {"running": 1}


async def test_a_step_that_waits_for_a_time_is_no_waiting_step(sessions: Sessions) -> None:
    job = await submitted(sessions)
    await make_steps(sessions, job, "curate", 1)
    await unblock(sessions)
    await change(sessions, "UPDATE step SET not_before = now() + interval '1 minute'")
    assert all(pool.oldest_ready_seconds == 0 for pool in (await figures(sessions)).pools)


async def test_attempts_are_counted_by_their_end_and_code(sessions: Sessions) -> None:
    _, done = await claimed(sessions, "done")
    assert await commit(sessions, done)
    for kind, code in (
        (EndKind.LOST, "lease_expired"),
        (EndKind.FAILED, "step_error"),
        (EndKind.PREEMPTED, "preempted"),
        (EndKind.LOST, "lease_expired"),
    ):
        _, taken = await claimed(sessions, code)
        async with sessions() as session, session.begin():
            await StepRepository(session).end(taken.attempt_id, AttemptEnd(kind, code, "words"), backoff_seconds=0.1)
    await claimed(sessions, "still running")
    assert (await figures(sessions)).attempts == [
        AttemptCount("curation", "failed", "step_error", 1),
        AttemptCount("curation", "lost", "lease_expired", 2),
        AttemptCount("curation", "preempted", "", 1),
        AttemptCount("curation", "succeeded", "", 1),
    ]


async def test_workers_are_told_apart_by_whether_they_take_steps_and_are_heard(sessions: Sessions) -> None:
    async def beat(worker: str, roles: list[str], draining: bool = False) -> None:
        async with sessions() as session, session.begin():
            await WorkerRepository(session).beat(
                worker, host="h", process_id=1, roles=roles, slots=2, busy=0, draining=draining, lease_seconds=5
            )

    await beat("a", ["training"])
    await beat("b", ["training", "curation"])
    await beat("c", ["training"], draining=True)
    await beat("told to leave", ["curation"])
    await beat("gone", ["training"])
    await change(sessions, "UPDATE worker SET drain_requested = true WHERE id = 'told to leave'")
    await change(sessions, "UPDATE worker SET heartbeat_at = now() - interval '6 s' WHERE id = 'gone'")
    assert (await figures(sessions)).workers == [
        WorkerCount("curation", "draining", 1),
        WorkerCount("curation", "live", 1),
        WorkerCount("training", "draining", 1),
        WorkerCount("training", "live", 2),
        WorkerCount("training", "silent", 1),
    ]


async def test_groups_are_told_as_the_autoscaler_left_them(sessions: Sessions) -> None:
    await change(
        sessions,
        """
        INSERT INTO worker_group (name, roles, minimum, maximum, desired, running, failures, paused_until, seen_at) VALUES
        ('cpu', '{curation}', 1, 4, 3, 2, 0, now() - interval '1 s', now() - interval '2 minutes'),
        ('gpu', '{training}', 0, 1, 1, 0, 5, now() + interval '1 minute', now())
        """,
    )
    cpu, gpu = (await figures(sessions)).groups
    assert (cpu.name, cpu.minimum, cpu.maximum, cpu.desired, cpu.running, cpu.paused) == ("cpu", 1, 4, 3, 2, False)
    assert 120 <= cpu.seen_seconds < 600
    assert isinstance(gpu, GroupFigures)
    assert (gpu.name, gpu.failures, gpu.paused) == ("gpu", 5, True)


async def test_usage_is_summed_by_model(sessions: Sessions) -> None:
    insert = """
        INSERT INTO usage (job_id, stage, provider, model, request_class, project_id, calls, cached_calls, retries, rate_limited,
                           prompt_tokens, completion_tokens, cost_micro_usd, unpriced_calls)
        VALUES (:job, 'respond', :provider, 'm', 'respond', 'p', 5, 4, 3, 2, 100, 50, 1500000, 1)
    """
    await change(sessions, insert, job="job_1", provider="one")
    await change(sessions, insert, job="job_2", provider="one")
    await change(sessions, insert, job="job_1", provider="two")
    assert (await figures(sessions)).usage == [
        ModelUsage("one", "m", 10, 8, 6, 4, 200, 100, 3_000_000, 2),
        ModelUsage("two", "m", 5, 4, 3, 2, 100, 50, 1_500_000, 1),
    ]


async def test_gpus_are_told_by_who_has_them_and_a_lease_that_ran_out_frees_them(sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        gpus = GpuSlotRepository(session)
        await gpus.register("h", [0, 1, 2])
        assert await gpus.claim("h", [0, 1, 2], 2, attempt_holder(1), 60)
    assert (await figures(sessions)).gpus == {"attempt": 2, "free": 1}
    await change(sessions, "UPDATE gpu_slot SET lease_until = now() - interval '1 s' WHERE device = 0")
    assert (await figures(sessions)).gpus == {"attempt": 1, "free": 2}


async def test_a_launcher_that_says_nothing_any_more_is_silent_until_it_is_given_up(sessions: Sessions) -> None:
    await change(
        sessions,
        """
        INSERT INTO model_server (id, launcher, place, kind, host, gpus, devices, observed_state, observed_detail, heartbeat_at,
                                  leaving)
        VALUES ('a/0', 'a', 0, 'cpu', 'h', 0, '{}', 'ready', '', now(), false),
               ('b/0', 'b', 0, 'cpu', 'h', 0, '{}', 'ready', '', now() - interval '21 s', false),
               ('c/0', 'c', 0, 'cpu', 'h', 0, '{}', 'empty', '', now() - interval '21 s', true),
               ('d/0', 'd', 0, 'cpu', 'h', 0, '{}', 'ready', '', now() - interval '25 hours', false)
        """,
    )
    assert (await figures(sessions)).model_servers == {"ready": 1, "silent": 1}


async def test_the_leadership_is_seen_by_the_lock_that_is_held(sessions: Sessions, postgres_url: str) -> None:
    assert not (await figures(sessions)).controller_leads
    async with await connect(postgres_url) as connection:
        await connection.execute("SELECT pg_advisory_lock(%s)", (LEADER_LOCK,))
        assert (await figures(sessions)).controller_leads
        await connection.execute("SELECT pg_advisory_unlock(%s)", (LEADER_LOCK,))
        await connection.execute("SELECT pg_advisory_lock(%s)", (LEADER_LOCK + 1,))
        assert not (await figures(sessions)).controller_leads


async def test_counting_writes_nothing(sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        await MetricsRepository(session).figures(20)
        with pytest.raises(sa.exc.InternalError) as refused:
            await session.execute(sa.text("DELETE FROM outbox"))
    assert isinstance(refused.value.orig, psycopg.errors.ReadOnlySqlTransaction)
