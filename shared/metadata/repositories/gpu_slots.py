"""GPUs of machines as leases: a training or a model server has a device, never two of them at once.

Claims of one machine take turns (an advisory lock), so that nobody holds a part of what it needs while others wait for that part.
"""

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from shared.domain.errors import StepDeferred
from shared.metadata.engine import WAKE_CHANNEL


class GpusTaken(StepDeferred):
    """A training waits for GPUs that others have. It is tried again when some are given back, and from time to time."""

    code = "gpus_taken"


def attempt_holder(attempt_id: int) -> str:
    """How a training's attempt is named as a holder."""
    return f"attempt:{attempt_id}"


def server_holder(server_id: str) -> str:
    """How a place of a launcher is named as a holder."""
    return f"server:{server_id}"


class GpuSlotRepository:
    """Devices by host and number, as the driver counts them. A lease that has run out counts as free."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def register(self, host: str, devices: Collection[int]) -> None:
        """Say that a machine has these devices; whoever has one keeps it."""
        await self._session.execute(
            sa.text(
                """
                INSERT INTO gpu_slot (host, device) SELECT :host, device FROM unnest(CAST(:devices AS int[])) AS given(device)
                ORDER BY device ON CONFLICT (host, device) DO UPDATE SET seen_at = now()
                """
            ),
            {"host": host, "devices": sorted(set(devices))},
        )

    async def claim(
        self, host: str, devices: Collection[int], count: int, holder: str, lease_seconds: float
    ) -> tuple[int, ...] | None:
        """Lease `count` of the given devices, all or none; what `holder` has already is prolonged. None: too few are free."""
        await self._session.execute(
            sa.text("SELECT pg_advisory_xact_lock(hashtextextended('gpu_slot ' || :host, 0))"), {"host": host}
        )
        # A statement of its own: it sees what the claim before this one committed.
        found = await self._session.execute(
            sa.text(
                """
                SELECT device FROM gpu_slot WHERE host = :host AND device = ANY(:devices)
                    AND (holder IS NULL OR holder = :holder OR lease_until <= now())
                ORDER BY holder = :holder DESC NULLS LAST, device LIMIT :count FOR UPDATE
                """
            ),
            {"host": host, "devices": sorted(set(devices)), "holder": holder, "count": count},
        )
        chosen = sorted(found.scalars())
        if len(chosen) < count:
            return None
        await self._session.execute(
            sa.text(
                """
                UPDATE gpu_slot SET holder = CASE WHEN device = ANY(:chosen) THEN :holder END,
                    lease_until = CASE WHEN device = ANY(:chosen) THEN now() + make_interval(secs => :lease) END
                WHERE host = :host AND (device = ANY(:chosen) OR holder = :holder)
                """
            ),
            {"host": host, "chosen": chosen, "holder": holder, "lease": lease_seconds},
        )
        return tuple(chosen)

    async def renew(self, holders: Sequence[str], lease_seconds: float) -> dict[str, int]:
        """Prolong the leases of these holders that have not run out; holder -> how many devices it still has."""
        rows = await self._session.execute(
            sa.text(
                """
                UPDATE gpu_slot SET lease_until = now() + make_interval(secs => :lease)
                WHERE holder = ANY(:holders) AND lease_until > now() RETURNING holder
                """
            ),
            {"holders": list(holders), "lease": lease_seconds},
        )
        counts: dict[str, int] = {}
        for holder in rows.scalars():
            counts[holder] = counts.get(holder, 0) + 1
        return counts

    async def release(self, holder: str) -> None:
        """Give back all that a holder has; no error where it has nothing. Trainings that wait are tried again at once."""
        freed = await self._session.execute(
            sa.text("UPDATE gpu_slot SET holder = NULL, lease_until = NULL WHERE holder = :holder RETURNING device"),
            {"holder": holder},
        )
        if freed.all():
            await self._call_waiting()

    async def expire(self) -> int:
        """Free devices whose lease has run out; returns how many."""
        rows = await self._session.execute(
            sa.text("UPDATE gpu_slot SET holder = NULL, lease_until = NULL WHERE lease_until <= now() RETURNING device")
        )
        freed = len(rows.all())
        if freed:
            await self._call_waiting()
        return freed

    async def forget(self, seconds: float) -> int:
        """Forget free devices that nobody has told of for so long: their machine, or their pod, is gone. Returns how many."""
        rows = await self._session.execute(
            sa.text(
                "DELETE FROM gpu_slot WHERE holder IS NULL AND seen_at < now() - make_interval(secs => :seconds) "
                "RETURNING device"
            ),
            {"seconds": seconds},
        )
        return len(rows.all())

    async def _call_waiting(self) -> None:
        await self._session.execute(
            sa.text(
                """
                UPDATE step SET not_before = now()
                WHERE state = 'ready' AND not_before > now() AND error->>'code' = :code
                """
            ),
            {"code": GpusTaken.code},
        )
        await self._session.execute(sa.select(sa.func.pg_notify(WAKE_CHANNEL, "")))

    async def held_by(self, holder: str) -> tuple[int, ...]:
        """The devices whose lease a holder has."""
        rows = await self._session.execute(
            sa.text("SELECT device FROM gpu_slot WHERE holder = :holder AND lease_until > now() ORDER BY device"),
            {"holder": holder},
        )
        return tuple(rows.scalars())
