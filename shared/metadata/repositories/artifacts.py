"""Rows about stored objects. A row exists only for what a succeeded step (or a roll-up) made: the winning parts. Lists leave out
those whose bytes were removed because of their age."""

from collections.abc import Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.domain.identifiers import new_id
from shared.metadata.tables import Artifact

_ADD = sa.text(
    """
    INSERT INTO artifact (id, project_id, job_id, stage, step_id, attempt_id, name, key, kind, media_type, sha256, size, rows,
                          schema_version, details, lineage)
    SELECT id, project_id, job_id, stage, step_id, attempt_id, name, key, kind, media_type, sha256, size, rows,
           schema_version, details, lineage
    FROM jsonb_populate_recordset(CAST(NULL AS artifact), CAST(:rows AS jsonb))
    ON CONFLICT (key) DO UPDATE SET step_id = excluded.step_id, attempt_id = excluded.attempt_id, sha256 = excluded.sha256,
        size = excluded.size, rows = excluded.rows, details = excluded.details, lineage = excluded.lineage,
        removed_at = NULL
    RETURNING id
    """
)


class ArtifactRepository:
    """Artifacts of jobs."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list(self, project_id: str, job_id: str, *, stage: str | None = None) -> list[Artifact]:
        """Artifacts of a job (of one stage), by stage and name."""
        query = sa.select(Artifact).where(
            col(Artifact.project_id) == project_id, col(Artifact.job_id) == job_id, col(Artifact.removed_at).is_(None)
        )
        if stage is not None:
            query = query.where(col(Artifact.stage) == stage)
        query = query.order_by(col(Artifact.stage), col(Artifact.name), col(Artifact.id))
        return list((await self._session.execute(query)).scalars())

    async def get(self, project_id: str, artifact_id: str) -> Artifact | None:
        """The artifact, also one whose bytes were removed: then `removed_at` is set."""
        query = sa.select(Artifact).where(col(Artifact.project_id) == project_id, col(Artifact.id) == artifact_id)
        return (await self._session.execute(query)).scalar_one_or_none()

    async def of_stages(self, job_id: str, stages: Sequence[str], name: str | None = None) -> Sequence[Artifact]:
        """Artifacts of several stages of a job, by stage and name; `name` keeps one file name only."""
        query = sa.select(Artifact).where(
            col(Artifact.job_id) == job_id, col(Artifact.stage).in_(stages), col(Artifact.removed_at).is_(None)
        )
        if name is not None:
            query = query.where(col(Artifact.name) == name)
        query = query.order_by(col(Artifact.stage), col(Artifact.name), col(Artifact.id))
        return list((await self._session.execute(query)).scalars())

    async def add(
        self,
        *,
        project_id: str,
        job_id: str,
        stage: str,
        name: str,
        key: str,
        kind: str,
        media_type: str,
        sha256: str,
        size: int,
        step_id: str | None = None,
        attempt_id: int | None = None,
        rows: int | None = None,
        schema_version: str | None = None,
        details: dict[str, Any] | None = None,
        lineage: dict[str, Any] | None = None,
    ) -> str:
        """Record a stored object and return its id. A mutable object (README.md, index.json) written again keeps its id and
        takes the new hash, size and lineage."""
        values: dict[str, Any] = {
            "project_id": project_id,
            "job_id": job_id,
            "stage": stage,
            "step_id": step_id,
            "attempt_id": attempt_id,
            "name": name,
            "key": key,
            "kind": kind,
            "media_type": media_type,
            "sha256": sha256,
            "size": size,
            "rows": rows,
            "schema_version": schema_version,
            "details": details or {},
            "lineage": lineage or {},
        }
        (made,) = await self.add_many([values])
        return made

    async def add_many(self, artifacts: Sequence[dict[str, Any]]) -> Sequence[str]:
        """Record stored objects, given by the columns of their rows without the ids, in one statement; returns their ids. Of
        objects that were there, see `add`."""
        rows = await self._session.execute(
            _ADD, {"rows": orjson.dumps([{"id": new_id("art"), **values} for values in artifacts]).decode()}
        )
        return [str(row.id) for row in rows]
