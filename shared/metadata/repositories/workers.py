"""Live worker processes: what the controller knows of free slots."""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from shared.metadata.engine import STOP_CHANNEL, WAKE_CHANNEL


class LiveWorker(msgspec.Struct, frozen=True):
    """A worker that takes doorbells; `free` slots are counted from running attempts, not from what it last said."""

    id: str
    roles: tuple[str, ...]
    slots: int
    free: int


class WorkerRepository:
    """Rows of worker processes. A row without a heartbeat for a lease counts as gone."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def beat(
        self,
        worker_id: str,
        *,
        host: str,
        process_id: int,
        roles: Sequence[str],
        slots: int,
        busy: int,
        draining: bool,
        lease_seconds: float = 60.0,
    ) -> bool:
        """Register a worker or say that it still lives; returns whether it was told to leave. The controller is woken when it
        has more slots than before."""
        await self._session.execute(sa.text("SET LOCAL synchronous_commit = off"))
        told = await self._session.execute(
            sa.text(
                """
                WITH before AS (SELECT slots FROM worker WHERE id = :id), after AS (
                    INSERT INTO worker (id, host, process_id, roles, slots, busy, draining, lease_seconds)
                    VALUES (:id, :host, :process_id, :roles, :slots, :busy, :draining, :lease)
                    ON CONFLICT (id) DO UPDATE
                    SET heartbeat_at = now(), slots = excluded.slots, busy = excluded.busy, draining = excluded.draining
                    RETURNING slots, drain_requested
                )
                SELECT drain_requested, CASE WHEN slots > coalesce((SELECT slots FROM before), 0)
                                        THEN pg_notify(:channel, '') END AS told FROM after
                """
            ),
            {
                "id": worker_id,
                "host": host,
                "process_id": process_id,
                "roles": list(roles),
                "slots": slots,
                "busy": busy,
                "draining": draining,
                "lease": lease_seconds,
                "channel": WAKE_CHANNEL,
            },
        )
        return bool(told.scalar_one())

    async def leave_idle(self, worker_id: str, roles: Sequence[str], minimum: int) -> bool:
        """Take a worker that does nothing off the list of those who get steps, unless steps wait for its roles or only `minimum`
        workers of exactly these roles live. Returns whether it leaves."""
        # One after the other: else the last two would both see the other stay.
        await self._session.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended('leave idle', 0))"))
        left = await self._session.execute(
            sa.text(
                """
                UPDATE worker SET draining = true
                WHERE id = :id AND NOT draining
                    AND NOT EXISTS (SELECT 1 FROM pool_demand WHERE pool = ANY(:roles) AND ready > 0)
                    AND (SELECT count(*) FROM worker AS alive WHERE NOT alive.draining
                         AND alive.heartbeat_at > now() - make_interval(secs => alive.lease_seconds)
                         AND alive.roles @> CAST(:roles AS text[]) AND alive.roles <@ CAST(:roles AS text[])) > :minimum
                RETURNING id
                """
            ),
            {"id": worker_id, "roles": list(roles), "minimum": minimum},
        )
        return left.scalar_one_or_none() is not None

    async def request_drain(self, roles: Sequence[str] | None = None, worker_id: str | None = None) -> list[str]:
        """Ask workers to finish what they run and to leave: the one named, or all that serve any of `roles`. Returns their ids;
        those that leave already are not among them."""
        told = await self._session.execute(
            sa.text(
                """
                UPDATE worker SET drain_requested = true
                WHERE (CAST(:id AS text) IS NULL OR id = :id)
                    AND (CAST(:roles AS text[]) IS NULL OR roles && CAST(:roles AS text[]))
                    AND NOT draining AND heartbeat_at > now() - make_interval(secs => lease_seconds)
                RETURNING id, pg_notify(:channel, id) AS told
                """
            ),
            {"id": worker_id, "roles": None if roles is None else list(roles), "channel": STOP_CHANNEL},
        )
        return sorted(row.id for row in told)

    async def remove(self, worker_id: str) -> None:
        await self._session.execute(sa.text("DELETE FROM worker WHERE id = :id"), {"id": worker_id})

    async def live(self, lease_seconds: float) -> list[LiveWorker]:
        """Workers that were heard within a lease and take work."""
        rows = await self._session.execute(
            sa.text(
                """
                SELECT worker.id, worker.roles, worker.slots,
                       (SELECT count(*) FROM attempt WHERE attempt.worker_id = worker.id AND attempt.state = 'running') AS busy
                FROM worker
                WHERE NOT draining AND heartbeat_at > now() - make_interval(secs => :lease)
                ORDER BY worker.id
                """
            ),
            {"lease": lease_seconds},
        )
        return [LiveWorker(row.id, tuple(row.roles), row.slots, max(0, row.slots - row.busy)) for row in rows]

    async def remove_silent(self, seconds: float) -> int:
        """Forget workers that were silent for so long; returns how many."""
        removed = await self._session.execute(
            sa.text("DELETE FROM worker WHERE heartbeat_at < now() - make_interval(secs => :seconds) RETURNING id"),
            {"seconds": seconds},
        )
        return len(removed.all())
