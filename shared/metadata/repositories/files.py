"""Uploaded files: rows about immutable objects under `uploads/`."""

import builtins

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.metadata.tables import Project, UploadedFile


class FileRepository:
    """Files of projects."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, file: UploadedFile) -> UploadedFile:
        """Record a stored file (its project too, where it is new); the row comes back with its time."""
        await self._session.execute(insert(Project).values(id=file.project_id).on_conflict_do_nothing())
        values = file.model_dump(exclude={"created_at"})
        query = sa.insert(UploadedFile).values(**values).returning(UploadedFile)
        return (await self._session.execute(query)).scalar_one()

    async def get(self, project_id: str, file_id: str) -> UploadedFile | None:
        query = sa.select(UploadedFile).where(
            col(UploadedFile.project_id) == project_id, col(UploadedFile.id) == file_id
        )
        return (await self._session.execute(query)).scalar_one_or_none()

    async def list(self, project_id: str, *, before: str | None = None, limit: int = 50) -> builtins.list[UploadedFile]:
        """Newest first; `before` is the last id of the page before."""
        query = sa.select(UploadedFile).where(col(UploadedFile.project_id) == project_id)
        if before is not None:
            query = query.where(col(UploadedFile.id) < before)
        query = query.order_by(col(UploadedFile.id).desc()).limit(limit)
        return builtins.list((await self._session.execute(query)).scalars())
