"""Pools of workers: what waits for them, who they are, and what the autoscaler does about it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from shared.domain.pools import PoolDemand

GROUP_SILENT_SECONDS = 60.0
"""What the autoscaler wrote longer ago says nothing of now: it is not running."""


class GroupRow(msgspec.Struct, frozen=True):
    """What one round of the autoscaler saw and did of one group."""

    name: str
    roles: tuple[str, ...]
    minimum: int
    maximum: int
    desired: int
    running: int
    failures: int
    paused_seconds: float | None
    """Nothing is started for so long; None: it is not paused."""
    detail: str


class ShownGroup(msgspec.Struct, frozen=True):
    """The same as it is read. `stale`: the autoscaler has not been heard of for a minute."""

    name: str
    roles: tuple[str, ...]
    minimum: int
    maximum: int
    desired: int
    running: int
    failures: int
    paused_until: datetime | None
    detail: str
    seen_at: datetime
    stale: bool


class PoolWorker(msgspec.Struct, frozen=True):
    """A live worker process."""

    id: str
    host: str
    roles: tuple[str, ...]
    slots: int
    running: int
    """Steps that it runs."""
    draining: bool
    """It takes no more, or was told to take no more."""
    started_at: datetime
    heartbeat_at: datetime


class PoolRepository:
    """Reads for the autoscaler and for people; writes of the autoscaler."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def demand(self) -> list[PoolDemand]:
        """Every pool, by name."""
        rows = await self._session.execute(sa.text("SELECT pool, ready, running, slots FROM pool_demand ORDER BY pool"))
        return [PoolDemand(row.pool, row.ready, row.running, row.slots) for row in rows]

    async def workers(self) -> list[PoolWorker]:
        """Workers that were heard within their lease, by id."""
        rows = await self._session.execute(
            sa.text(
                """
                SELECT id, host, roles, slots, draining OR drain_requested AS draining, started_at, heartbeat_at,
                       (SELECT count(*) FROM attempt WHERE worker_id = worker.id AND state = 'running')::int AS running
                FROM worker WHERE heartbeat_at > now() - make_interval(secs => lease_seconds) ORDER BY id
                """
            )
        )
        return [
            PoolWorker(
                row.id,
                row.host,
                tuple(row.roles),
                row.slots,
                row.running,
                row.draining,
                row.started_at,
                row.heartbeat_at,
            )
            for row in rows
        ]

    async def free_gpus(self, host: str) -> int | None:
        """GPUs of a machine that nobody holds; None where none of them is known."""
        rows = await self._session.execute(
            sa.text(
                """
                SELECT count(*) AS known, count(*) FILTER (WHERE holder IS NULL OR lease_until <= now()) AS free
                FROM gpu_slot WHERE host = :host
                """
            ),
            {"host": host},
        )
        found = rows.one()
        return int(found.free) if found.known else None

    async def groups(self) -> list[ShownGroup]:
        """What the autoscaler last wrote, by name."""
        rows = await self._session.execute(
            sa.text(
                """
                SELECT name, roles, minimum, maximum, desired, running, failures, paused_until, detail, seen_at,
                       seen_at < now() - make_interval(secs => :silent) AS stale
                FROM worker_group ORDER BY name
                """
            ),
            {"silent": GROUP_SILENT_SECONDS},
        )
        return [ShownGroup(**(dict(row) | {"roles": tuple(row["roles"])})) for row in rows.mappings()]

    async def save_groups(self, groups: Sequence[GroupRow]) -> None:
        """Write what a round did; groups whose containers are gone are forgotten."""
        await self._session.execute(sa.text("SET LOCAL synchronous_commit = off"))
        await self._session.execute(
            sa.text("DELETE FROM worker_group WHERE NOT name = ANY(:names)"),
            {"names": [group.name for group in groups]},
        )
        for group in groups:
            await self._session.execute(
                sa.text(
                    """
                    INSERT INTO worker_group (name, roles, minimum, maximum, desired, running, failures, paused_until, detail)
                    VALUES (:name, :roles, :minimum, :maximum, :desired, :running, :failures,
                            now() + make_interval(secs => CAST(:paused_seconds AS float)), :detail)
                    ON CONFLICT (name) DO UPDATE SET roles = excluded.roles, minimum = excluded.minimum,
                        maximum = excluded.maximum, desired = excluded.desired, running = excluded.running,
                        failures = excluded.failures, paused_until = excluded.paused_until, detail = excluded.detail,
                        seen_at = now()
                    """
                ),
                msgspec.structs.asdict(group) | {"roles": list(group.roles)},
            )
