"""What an operator watches, counted from the tables: a handful of statements in one read-only transaction."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from shared.metadata.engine import LEADER_LOCK

Record = TypeVar("Record", bound=msgspec.Struct)

LONGEST_STATEMENT_SECONDS = 5
"""A database too busy to count shall not be made busier by counting."""


class PoolFigures(msgspec.Struct, frozen=True):
    """One pool as `pool_demand` shows it; `oldest_ready_seconds` is how long its longest waiting step waits."""

    pool: str
    ready: int
    running: int
    slots: int
    oldest_ready_seconds: float


class StepCount(msgspec.Struct, frozen=True):
    pool: str
    state: str
    steps: int


class AttemptCount(msgspec.Struct, frozen=True):
    """Ended attempts of a pool by how they ended and by the code of their error (empty where there is none)."""

    pool: str
    state: str
    code: str
    attempts: int


class WorkerCount(msgspec.Struct, frozen=True):
    """Worker processes that hear a pool. `state`: live (takes steps), draining (finishes what it has), silent (not heard for a
    lease)."""

    pool: str
    state: str
    workers: int


class GroupFigures(msgspec.Struct, frozen=True):
    """One group of workers as the autoscaler saw it last; `seen_seconds` ago."""

    name: str
    minimum: int
    maximum: int
    desired: int
    running: int
    failures: int
    paused: bool
    seen_seconds: float


class ModelUsage(msgspec.Struct, frozen=True):
    """All calls to one model: `calls` paid answers, `cached_calls` replays, `retries` tries that failed, `rate_limited` those of
    them that were answered 429."""

    provider: str
    model: str
    calls: int
    cached_calls: int
    retries: int
    rate_limited: int
    prompt_tokens: int
    completion_tokens: int
    cost_micro_usd: int
    unpriced_calls: int


class SystemFigures(msgspec.Struct, frozen=True):
    """Everything at one moment. Ages are in seconds; 0 where nothing waits."""

    jobs: dict[str, int]
    oldest_queued_seconds: float
    pools: list[PoolFigures]
    steps: list[StepCount]
    attempts: list[AttemptCount]
    workers: list[WorkerCount]
    groups: list[GroupFigures]
    usage: list[ModelUsage]
    deployments: dict[str, int]
    model_servers: dict[str, int]
    """By what their launchers said last; `silent` for those whose launcher says nothing any more, up to a day."""
    gpus: dict[str, int]
    """Devices by what has them: `attempt`, `server` or `free`."""
    outbox_rows: int
    outbox_oldest_seconds: float
    controller_leads: bool
    database_bytes: int
    database_connections: int
    database_connections_limit: int


class MetricsRepository:
    """Counts over all projects."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def figures(self, launcher_lease_seconds: float) -> SystemFigures:
        """Count everything. Whoever calls opens a transaction of its own: it becomes read-only, and a statement in it may take
        LONGEST_STATEMENT_SECONDS."""
        await self._session.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        await self._session.execute(sa.text(f"SET LOCAL statement_timeout = '{LONGEST_STATEMENT_SECONDS}s'"))
        database = (await self._rows(_DATABASE, leader_high=LEADER_LOCK >> 32, leader_low=LEADER_LOCK & 0xFFFFFFFF))[0]
        return SystemFigures(
            jobs=await self._counts("SELECT state, count(*) FROM job GROUP BY state"),
            oldest_queued_seconds=database.oldest_queued,
            pools=await self._records(PoolFigures, _POOLS),
            steps=await self._records(StepCount, _STEPS),
            attempts=await self._records(AttemptCount, _ATTEMPTS),
            workers=await self._records(WorkerCount, _WORKERS),
            groups=await self._records(GroupFigures, _GROUPS),
            usage=await self._records(ModelUsage, _USAGE),
            deployments=await self._counts("SELECT state, count(*) FROM deployment GROUP BY state"),
            model_servers=await self._counts(_MODEL_SERVERS, lease=launcher_lease_seconds),
            gpus=await self._counts(_GPUS),
            outbox_rows=database.outbox_rows,
            outbox_oldest_seconds=database.outbox_oldest,
            controller_leads=database.leads,
            database_bytes=database.bytes,
            database_connections=database.connections,
            database_connections_limit=database.connections_limit,
        )

    async def _rows(self, statement: str, **parameters: Any) -> Sequence[sa.Row[Any]]:
        return (await self._session.execute(sa.text(statement), parameters)).all()

    async def _records(self, kind: type[Record], statement: str) -> list[Record]:
        """One record per row, its fields in the order of the columns."""
        return [kind(*tuple(row)) for row in await self._rows(statement)]

    async def _counts(self, statement: str, **parameters: Any) -> dict[str, int]:
        rows = [tuple(row) for row in await self._rows(statement, **parameters)]
        return {str(row[0]): int(row[1]) for row in rows}


_POOLS = """
    SELECT demand.pool, demand.ready, demand.running, demand.slots, coalesce(waiting.oldest, 0)::float
    FROM pool_demand AS demand LEFT JOIN (
        SELECT queue, extract(epoch FROM now() - min(not_before)) AS oldest FROM step
        WHERE state IN ('ready', 'dispatched') AND not_before <= now() GROUP BY queue
    ) AS waiting ON waiting.queue = demand.pool ORDER BY demand.pool
"""

_STEPS = "SELECT queue, state, count(*) FROM step GROUP BY queue, state ORDER BY queue, state"

# Attempts are counted by step first: so many rows are joined as there are steps, not attempts.
_ATTEMPTS = """
    SELECT step.queue, ended.state, ended.code, sum(ended.attempts)::bigint FROM (
        SELECT step_id, state, CASE WHEN state IN ('failed', 'lost') THEN coalesce(error->>'code', '') ELSE '' END AS code,
               count(*) AS attempts
        FROM attempt WHERE state <> 'running' GROUP BY 1, 2, 3
    ) AS ended JOIN step ON step.id = ended.step_id GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""

_WORKERS = """
    SELECT role, CASE WHEN heartbeat_at <= now() - make_interval(secs => lease_seconds) THEN 'silent'
                      WHEN draining OR drain_requested THEN 'draining' ELSE 'live' END, count(*)
    FROM worker CROSS JOIN LATERAL unnest(roles) AS role GROUP BY 1, 2 ORDER BY 1, 2
"""

_GROUPS = """
    SELECT name, minimum, maximum, desired, running, failures, coalesce(paused_until > now(), false),
           extract(epoch FROM now() - seen_at)::float
    FROM worker_group ORDER BY name
"""

_USAGE = """
    SELECT provider, model, sum(calls)::bigint, sum(cached_calls)::bigint, sum(retries)::bigint, sum(rate_limited)::bigint,
           sum(prompt_tokens)::bigint, sum(completion_tokens)::bigint, sum(cost_micro_usd)::bigint,
           sum(unpriced_calls)::bigint
    FROM usage GROUP BY provider, model ORDER BY provider, model
"""

# Rows stay when a launcher is taken away: one that said so, or was silent for a day, is no place any more.
_MODEL_SERVERS = """
    SELECT CASE WHEN heartbeat_at <= now() - make_interval(secs => :lease) THEN 'silent' ELSE observed_state END, count(*)
    FROM model_server WHERE NOT leaving AND heartbeat_at > now() - interval '1 day' GROUP BY 1
"""

_GPUS = """
    SELECT CASE WHEN holder IS NULL OR lease_until <= now() THEN 'free' ELSE split_part(holder, ':', 1) END, count(*)
    FROM gpu_slot GROUP BY 1
"""

_DATABASE = """
    SELECT (SELECT coalesce(extract(epoch FROM now() - min(coalesce(queued.at, job.created_at))), 0)::float
            FROM job LEFT JOIN LATERAL (
                SELECT max(event.created_at) AS at FROM event WHERE event.job_id = job.id AND event.type = 'job.state'
            ) AS queued ON true
            WHERE job.state = 'queued') AS oldest_queued,
           (SELECT count(*) FROM outbox) AS outbox_rows,
           (SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float FROM outbox) AS outbox_oldest,
           EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                   AND classid::bigint = :leader_high AND objid::bigint = :leader_low) AS leads,
           pg_database_size(current_database()) AS bytes,
           (SELECT sum(numbackends)::int FROM pg_stat_database) AS connections,
           current_setting('max_connections')::int AS connections_limit
"""
