"""What live requests of keys took, by UTC day: added up in batches, read for quotas and reports."""

import builtins
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.metadata.tables import ApiKey, KeyUsage

_ROWS_PER_STATEMENT = 1000
_COUNTED = ("requests", "prompt_tokens", "completion_tokens")


class KeyDay(msgspec.Struct, frozen=True, order=True):
    """A key and a UTC day."""

    key_id: str
    day: date


class UsageAdded(msgspec.Struct, frozen=True):
    """What came to a key's day since the last time."""

    project_id: str
    requests: int
    prompt_tokens: int
    completion_tokens: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class KeyUsageRepository:
    """Sums of `key_usage`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, added: Mapping[KeyDay, UsageAdded]) -> dict[KeyDay, int]:
        """Add to the sums; returns the tokens of each day after that, what other processes added included."""
        totals: dict[KeyDay, int] = {}
        # Sorted: two processes that add to the same keys lock their rows in the same order.
        rows = [
            {"key_id": at.key_id, "day": at.day, **msgspec.structs.asdict(usage)} for at, usage in sorted(added.items())
        ]
        for start in range(0, len(rows), _ROWS_PER_STATEMENT):
            statement = insert(KeyUsage).values(rows[start : start + _ROWS_PER_STATEMENT])
            returning = statement.on_conflict_do_update(
                index_elements=["key_id", "day"],
                set_={name: col(getattr(KeyUsage, name)) + statement.excluded[name] for name in _COUNTED},
            ).returning(col(KeyUsage.key_id), col(KeyUsage.day), _tokens())
            for key_id, day, tokens in await self._session.execute(returning):
                totals[KeyDay(key_id, day)] = int(tokens)
        return totals

    async def tokens_of_day(self, day: date, key_ids: Sequence[str]) -> dict[str, int]:
        """Tokens that each key took on that day; 0 for a key without any."""
        query = sa.select(col(KeyUsage.key_id), _tokens()).where(
            col(KeyUsage.day) == day, col(KeyUsage.key_id).in_(key_ids)
        )
        found = {key_id: int(tokens) for key_id, tokens in (await self._session.execute(query))}
        return {key_id: found.get(key_id, 0) for key_id in key_ids}

    async def list(
        self, project_id: str, *, key_id: str | None = None, limit: int = 100
    ) -> builtins.list[Mapping[str, Any]]:
        """Rows with the key's `name`, newest day first, then by key."""
        query = (
            sa.select(
                col(KeyUsage.day),
                col(KeyUsage.key_id),
                col(ApiKey.name),
                *(col(getattr(KeyUsage, name)) for name in _COUNTED),
            )
            .join(ApiKey, col(ApiKey.id) == col(KeyUsage.key_id))
            .where(col(KeyUsage.project_id) == project_id)
            .order_by(col(KeyUsage.day).desc(), col(KeyUsage.key_id))
            .limit(limit)
        )
        if key_id is not None:
            query = query.where(col(KeyUsage.key_id) == key_id)
        return [dict(row) for row in (await self._session.execute(query)).mappings()]


def _tokens() -> sa.ColumnElement[int]:
    return col(KeyUsage.prompt_tokens) + col(KeyUsage.completion_tokens)
