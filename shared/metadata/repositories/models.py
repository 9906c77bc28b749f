"""Registered models: one row per training that made one, written in the transaction that commits the training."""

import builtins
from collections.abc import Collection

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.domain.errors import MultifacetError
from shared.domain.identifiers import new_id
from shared.domain.models import ModelRegistration
from shared.metadata.tables import RegisteredModel


class ModelNotFound(MultifacetError):
    """No such registered model in this project (404)."""

    code = "model_not_found"


class ModelRepository:
    """Registered models of projects."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(
        self, *, project_id: str, job_id: str, stage: str, attempt_id: int, registration: ModelRegistration
    ) -> str:
        """Record a model; returns its id. A stage registers one model: a second one violates the table's constraint."""
        identifier = new_id("model")
        values = {
            **msgspec.to_builtins(registration),
            "id": identifier,
            "project_id": project_id,
            "job_id": job_id,
            "stage": stage,
            "attempt_id": attempt_id,
        }
        await self._session.execute(sa.insert(RegisteredModel).values(**values))
        return identifier

    async def get(self, project_id: str, model_id: str) -> RegisteredModel | None:
        query = sa.select(RegisteredModel).where(
            col(RegisteredModel.project_id) == project_id, col(RegisteredModel.id) == model_id
        )
        return (await self._session.execute(query)).scalar_one_or_none()

    async def require(self, project_id: str, model_id: str) -> RegisteredModel:
        """The model; raises ModelNotFound."""
        model = await self.get(project_id, model_id)
        if model is None:
            raise ModelNotFound(f"no registered model {model_id} in this project")
        return model

    async def list(
        self, project_id: str, *, job_id: str | None = None, before: str | None = None, limit: int = 50
    ) -> builtins.list[RegisteredModel]:
        """Newest first; `before` is the last id of the page before, `job_id` keeps those of one job."""
        query = sa.select(RegisteredModel).where(col(RegisteredModel.project_id) == project_id)
        if job_id is not None:
            query = query.where(col(RegisteredModel.job_id) == job_id)
        if before is not None:
            query = query.where(col(RegisteredModel.id) < before)
        query = query.order_by(col(RegisteredModel.id).desc()).limit(limit)
        return builtins.list((await self._session.execute(query)).scalars())

    async def of_ids(self, project_id: str, model_ids: Collection[str]) -> dict[str, RegisteredModel]:
        """Those of the models that this project has, by id."""
        query = sa.select(RegisteredModel).where(
            col(RegisteredModel.project_id) == project_id, col(RegisteredModel.id).in_(model_ids)
        )
        return {model.id: model for model in (await self._session.execute(query)).scalars()}

    async def of_job(self, job_id: str) -> builtins.list[RegisteredModel]:
        """What the trainings of a job registered, oldest first."""
        query = sa.select(RegisteredModel).where(col(RegisteredModel.job_id) == job_id)
        return builtins.list((await self._session.execute(query.order_by(col(RegisteredModel.id)))).scalars())
