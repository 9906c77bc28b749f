"""What happened to a job, in an order that no reader can miss a part of."""

from collections.abc import Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.metadata.engine import EVENTS_CHANNEL, WAKE_CHANNEL
from shared.metadata.tables import Event

METRICS_EVENT = "train.metrics"
"""A step that a training logged: `stage`, `step`, `steps`, `loss` and whatever else it measured."""

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
    SELECT last, pg_notify(:channel, :job_id || ':' || last), CASE WHEN :wake THEN pg_notify(:wake_channel, '') END
    FROM taken, (SELECT count(*) FROM added) AS made
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

    async def append_many(self, job_id: str, events: Sequence[NewEvent], *, wake: bool = False) -> int:
        """Add events in the given order in one statement; returns the last sequence number. `wake` wakes the controller too."""
        if not events:
            raise ValueError("no event given")
        parameters = {
            "job_id": job_id,
            "count": len(events),
            "types": [type for type, _ in events],
            "data": [orjson.dumps(data).decode() for _, data in events],
            "channel": EVENTS_CHANNEL,
            "wake": wake,
            "wake_channel": WAKE_CHANNEL,
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

    async def newest(self, job_id: str, limit: int, without: Sequence[str] = ()) -> list[Event]:
        """The last events, newest first; those of the types in `without` are passed over."""
        query = (
            sa.select(Event)
            .where(col(Event.job_id) == job_id, col(Event.type).not_in(without))
            .order_by(col(Event.sequence).desc())
            .limit(limit)
        )
        return list((await self._session.execute(query)).scalars())

    async def training_losses(self, job_id: str) -> dict[str, list[dict[str, Any]]]:
        """Of each training of a job what it logged of its loss so far: `step`, `loss`, `eval_loss`, in the order of logging."""
        data = col(Event.data)
        query = (
            sa.select(data["stage"].astext, data["step"], data["loss"], data["eval_loss"])
            .where(col(Event.job_id) == job_id, col(Event.type) == METRICS_EVENT)
            .order_by(col(Event.sequence))
        )
        found: dict[str, list[dict[str, Any]]] = {}
        for stage, step, loss, held_out in await self._session.execute(query):
            row = {"step": step, **({} if loss is None else {"loss": loss})}
            found.setdefault(stage, []).append(row if held_out is None else {**row, "eval_loss": held_out})
        return found

    async def last_metrics(self, job_id: str) -> dict[str, dict[str, Any]]:
        """Of each training of a job the last row that it logged of a training step."""
        data = col(Event.data)
        stage = data["stage"].astext
        query = (
            sa.select(stage.label("stage"), data.label("data"))
            .where(col(Event.job_id) == job_id, col(Event.type) == METRICS_EVENT, data["loss"].is_not(None))
            .ext(distinct_on(stage))
            .order_by(stage, col(Event.sequence).desc())
        )
        return {row.stage: row.data for row in await self._session.execute(query)}
