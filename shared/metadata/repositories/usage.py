"""What the calls of a project cost, summed by day, model or job."""

import builtins
from collections.abc import Mapping
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.domain.live_calls import DAY_CHARACTERS, LIVE_PREFIX
from shared.metadata.tables import Job, Usage

UsageGroup = Literal["day", "model", "job"]
LIVE_NAME = "calls without a job"

_FIGURES = (
    "calls",
    "cached_calls",
    "retries",
    "rate_limited",
    "prompt_tokens",
    "completion_tokens",
    "cost_micro_usd",
    "unpriced_calls",
)


class UsageRepository:
    """Sums over `usage`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def total(self, project_id: str, *, job_id: str | None = None) -> dict[str, int]:
        """All figures of a project (or of one of its jobs)."""
        query = sa.select(*_sums()).where(*_conditions(project_id, job_id))
        row = (await self._session.execute(query)).mappings().one()
        return {name: int(row[name]) for name in _FIGURES}

    async def grouped(
        self, project_id: str, by: UsageGroup, *, job_id: str | None = None, limit: int = 100
    ) -> builtins.list[Mapping[str, Any]]:
        """Figures by UTC day of the job's submission (newest first), by model or job (dearest first); `key` names the
        group: `2026-11-24`, `provider/model`, or a job id with its `name`. Calls without a job stand under the day they were made
        on, as `live:2026-11-24:project` where jobs are asked for."""
        keys: dict[str, Any]
        order: Any
        if by == "day":
            submitted = sa.func.to_char(sa.func.timezone("UTC", col(Job.created_at)), "YYYY-MM-DD")
            live = sa.func.substr(col(Usage.job_id), len(LIVE_PREFIX) + 1, DAY_CHARACTERS)
            keys, order = {"key": sa.func.coalesce(submitted, live)}, sa.desc("key")
        elif by == "model":
            keys, order = {"key": col(Usage.provider) + "/" + col(Usage.model)}, sa.desc("cost_micro_usd")
        else:
            keys, order = (
                {"key": col(Usage.job_id), "name": sa.func.coalesce(col(Job.name), LIVE_NAME)},
                sa.desc("cost_micro_usd"),
            )
        query = (
            sa.select(*(expression.label(name) for name, expression in keys.items()), *_sums())
            .outerjoin(Job, col(Job.id) == col(Usage.job_id))
            .where(*_conditions(project_id, job_id))
            .group_by(*(sa.text(name) for name in keys))
            .order_by(order, sa.text("key"))
            .limit(limit)
        )
        return [dict(row) for row in (await self._session.execute(query)).mappings()]


def _sums() -> builtins.list[sa.Label[Any]]:
    columns = sa.inspect(Usage).columns
    return [sa.cast(sa.func.coalesce(sa.func.sum(columns[name]), 0), sa.BigInteger).label(name) for name in _FIGURES]


def _conditions(project_id: str, job_id: str | None) -> builtins.list[sa.ColumnElement[bool]]:
    conditions: builtins.list[sa.ColumnElement[bool]] = [col(Usage.project_id) == project_id]
    if job_id is not None:
        conditions.append(col(Usage.job_id) == job_id)
    return conditions
