"""Benches of projects: what a stage `bench` kept, or an uploaded file, and what people decided about their items."""

import builtins
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.domain.benches import BenchRegistration
from shared.domain.errors import InputRefused, MultifacetError
from shared.domain.identifiers import new_id
from shared.metadata.repositories.retention import RetentionRepository
from shared.metadata.tables import Bench, BenchReview, UploadedFile


class BenchNotFound(MultifacetError):
    """No such bench in this project (404)."""

    code = "bench_not_found"


class BenchRepository:
    """Benches with their reviews."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(
        self,
        project_id: str,
        registration: BenchRegistration,
        *,
        job_id: str | None = None,
        file_id: str | None = None,
    ) -> str:
        """Record the bench of a job or of an upload; returns its id. Each has one: a second one violates the table's
        constraint. Raises InputRefused where the upload has been removed."""
        if file_id is not None:
            await RetentionRepository(self._session).hold_references()
            if await self._session.get(UploadedFile, file_id) is None:
                raise InputRefused(
                    f"the uploaded file {file_id} was removed because of its age; upload it again", "/file"
                )
        identifier = new_id("bench")
        values = {
            **msgspec.structs.asdict(registration),
            "id": identifier,
            "project_id": project_id,
            "job_id": job_id,
            "file_id": file_id,
        }
        await self._session.execute(sa.insert(Bench).values(**values))
        return identifier

    async def get(self, project_id: str, bench_id: str) -> Bench | None:
        query = sa.select(Bench).where(col(Bench.project_id) == project_id, col(Bench.id) == bench_id)
        return (await self._session.execute(query)).scalar_one_or_none()

    async def require(self, project_id: str, bench_id: str) -> Bench:
        """The bench; raises BenchNotFound."""
        found = await self.get(project_id, bench_id)
        if found is None:
            raise BenchNotFound(f"no bench {bench_id} in this project")
        return found

    async def of_file(self, project_id: str, file_id: str) -> Bench | None:
        """The bench that an uploaded file was registered as."""
        query = sa.select(Bench).where(col(Bench.project_id) == project_id, col(Bench.file_id) == file_id)
        return (await self._session.execute(query)).scalar_one_or_none()

    async def list(self, project_id: str, *, before: str | None = None, limit: int = 50) -> builtins.list[Bench]:
        """Newest first; `before` is the last id of the page before."""
        query = sa.select(Bench).where(col(Bench.project_id) == project_id)
        if before is not None:
            query = query.where(col(Bench.id) < before)
        query = query.order_by(col(Bench.id).desc()).limit(limit)
        return builtins.list((await self._session.execute(query)).scalars())

    async def review(self, bench_id: str, item_id: str, reviewer: str, decision: str, reason: str) -> None:
        """Keep a reviewer's decision about an item; a later one takes the place of an earlier one."""
        statement = insert(BenchReview).values(
            bench_id=bench_id, item_id=item_id, reviewer=reviewer, decision=decision, reason=reason
        )
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["bench_id", "item_id", "reviewer"],
                set_={"decision": decision, "reason": reason, "decided_at": sa.func.now()},
            )
        )

    async def decided(self, bench_ids: Sequence[str]) -> dict[str, int]:
        """How many items of each bench somebody has decided about; benches without any are left out."""
        query = (
            sa.select(col(BenchReview.bench_id), sa.func.count(sa.distinct(col(BenchReview.item_id))).label("decided"))
            .where(col(BenchReview.bench_id).in_(bench_ids))
            .group_by(col(BenchReview.bench_id))
        )
        return {row.bench_id: row.decided for row in await self._session.execute(query)}

    async def reviews(self, bench_id: str) -> builtins.list[BenchReview]:
        """All decisions, by item and reviewer."""
        query = sa.select(BenchReview).where(col(BenchReview.bench_id) == bench_id)
        query = query.order_by(col(BenchReview.item_id), col(BenchReview.reviewer))
        return builtins.list((await self._session.execute(query)).scalars())
