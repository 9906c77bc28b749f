"""What happened to a job, in an order that no reader can miss a part of."""

from collections.abc import Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.metadata.engine import EVENTS_CHANNEL
from shared.metadata.tables import Event

NewEvent = tuple[str, dict[str, Any]]
"""Type and data."""

_APPEND = sa.text(
    """
    WITH taken AS (
        UPDATE job SET event_sequence = event_sequence + :count WHERE id = :job_id RETURNING event_sequence AS last
    ), added AS (
        INSERT INTO event (job_id, sequence, type, data)
        SELECT :job_id, taken.last - :count + given.position, given.type, given.data
        FROM taken, unnest(CAST(:types AS text[]), CAST(:data AS jsonb[])) WITH ORDINALITY AS given(type, data, position)
        RETURNING sequence
    )
    SELECT last, pg_notify(:channel, :job_id || ':' || last) FROM taken, (SELECT count(*) FROM added) AS made
    """
)


class EventRepository:
    """Events of jobs. A sequence number is taken under the job's row lock, which is held until the transaction ends, so
    numbers become visible in order and without gaps."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def append(self, job_id: str, type: str, data: dict[str, Any]) -> int:
        """Add one event; returns its sequence number. Raises LookupError for an unknown job."""
        return await self.append_many(job_id, [(type, data)])

    async def append_many(self, job_id: str, events: Sequence[NewEvent]) -> int:
        """Add events in the given order in one statement; returns the last sequence number."""
        if not events:
            raise ValueError("no event given")
        parameters = {
            "job_id": job_id,
            "count": len(events),
            "types": [type for type, _ in events],
            "data": [orjson.dumps(data).decode() for _, data in events],
            "channel": EVENTS_CHANNEL,
        }
        last = (await self._session.execute(_APPEND, parameters)).scalar_one_or_none()
        if last is None:
            raise LookupError(f"no job {job_id}")
        return int(last)

    async def since(self, job_id: str, sequence: int, limit: int = 500) -> list[Event]:
        """Events with a greater sequence number, in order."""
        query = (
            sa.select(Event)
            .where(col(Event.job_id) == job_id, col(Event.sequence) > sequence)
            .order_by(col(Event.sequence))
            .limit(limit)
        )
        return list((await self._session.execute(query)).scalars())
