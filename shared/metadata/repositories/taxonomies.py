"""Taxonomies that users uploaded: checked before they get here, never changed after."""

import builtins

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.domain.identifiers import new_id
from shared.domain.taxonomy import Taxonomy
from shared.metadata.tables import Project, StoredTaxonomy


class TaxonomyRepository:
    """Taxonomies of projects."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, project_id: str, taxonomy: Taxonomy) -> tuple[StoredTaxonomy, bool]:
        """Store a taxonomy; returns the row and whether it is new (equal content is stored once per project)."""
        await self._session.execute(insert(Project).values(id=project_id).on_conflict_do_nothing())
        query = sa.select(StoredTaxonomy).where(
            col(StoredTaxonomy.project_id) == project_id, col(StoredTaxonomy.version) == taxonomy.version
        )
        known = (await self._session.execute(query.order_by(col(StoredTaxonomy.id)).limit(1))).scalar_one_or_none()
        if known is not None:
            return known, False
        statement = (
            sa.insert(StoredTaxonomy)
            .values(
                id=new_id("taxonomy"),
                project_id=project_id,
                name=taxonomy.name,
                version=taxonomy.version,
                body=taxonomy.model_dump(mode="json"),
            )
            .returning(StoredTaxonomy)
        )
        return (await self._session.execute(statement)).scalar_one(), True

    async def get(self, project_id: str, taxonomy_id: str) -> StoredTaxonomy | None:
        query = sa.select(StoredTaxonomy).where(
            col(StoredTaxonomy.project_id) == project_id, col(StoredTaxonomy.id) == taxonomy_id
        )
        return (await self._session.execute(query)).scalar_one_or_none()

    async def list(
        self, project_id: str, *, before: str | None = None, limit: int = 50
    ) -> builtins.list[StoredTaxonomy]:
        """Newest first; `before` is the last id of the page before."""
        query = sa.select(StoredTaxonomy).where(col(StoredTaxonomy.project_id) == project_id)
        if before is not None:
            query = query.where(col(StoredTaxonomy.id) < before)
        query = query.order_by(col(StoredTaxonomy.id).desc()).limit(limit)
        return builtins.list((await self._session.execute(query)).scalars())
