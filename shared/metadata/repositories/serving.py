"""Which deployments answer now, and where: what the gateway and the answering stages read."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.domain.deployments import DeploymentState, DeploymentTarget, ServingModel
from shared.metadata.tables import Deployment, DeploymentRevision, ModelServer, RegisteredModel


class ServingRepository:
    """Reads alone; `shared.metadata.repositories.deployments` changes."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def serving(self, project_id: str | None = None) -> list[ServingModel]:
        """Deployments whose serving revision answers, oldest first; of all projects for None."""
        query = (
            sa.select(Deployment, DeploymentRevision, ModelServer, RegisteredModel)
            .join(
                DeploymentRevision,
                sa.and_(
                    col(DeploymentRevision.deployment_id) == col(Deployment.id),
                    col(DeploymentRevision.revision) == col(Deployment.serving_revision),
                ),
            )
            .outerjoin(ModelServer, col(ModelServer.id) == col(DeploymentRevision.server_id))
            .outerjoin(RegisteredModel, col(RegisteredModel.id) == col(DeploymentRevision.target)["registry"].astext)
            .where(col(Deployment.state) != DeploymentState.STOPPED.value)
            .order_by(col(Deployment.id))
        )
        if project_id is not None:
            query = query.where(col(Deployment.project_id) == project_id)
        found = []
        for deployment, revision, server, model in await self._session.execute(query):
            target = DeploymentTarget.model_validate(revision.target)
            if target.registry is not None and not _answers(deployment, server):
                continue
            info = revision.info or {}
            found.append(
                ServingModel(
                    name=deployment.name,
                    project_id=deployment.project_id,
                    deployment_id=deployment.id,
                    revision=revision.revision,
                    state=deployment.state,
                    target=target,
                    server_kind=None if server is None else server.kind,
                    server_address=None if server is None else server.address,
                    method=None if model is None else model.method,
                    is_adapter=model is not None and model.adapter_only,
                    maximum_input_tokens=info.get("maximum_input_tokens"),
                    maximum_total_tokens=info.get("maximum_total_tokens"),
                    created_at=deployment.created_at,
                )
            )
        return found

    async def living(self) -> list[Deployment]:
        """All deployments that are not stopped, of all projects, whether they answer or not."""
        query = sa.select(Deployment).where(col(Deployment.state) != DeploymentState.STOPPED.value)
        return list((await self._session.execute(query)).scalars())

    async def find(self, project_id: str, name: str) -> ServingModel | None:
        """The deployment of that name, if it answers now."""
        return next((model for model in await self.serving(project_id) if model.name == name), None)

    async def places(self) -> list[ModelServer]:
        """Every place that launchers have told of, whichever project's model it has."""
        return list((await self._session.execute(sa.select(ModelServer).order_by(col(ModelServer.id)))).scalars())


def _answers(deployment: Deployment, server: ModelServer | None) -> bool:
    serving = f"{deployment.id}:{deployment.serving_revision}"
    return server is not None and server.address is not None and server.serving == serving
