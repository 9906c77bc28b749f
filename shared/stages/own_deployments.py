"""Models that a job puts on servers itself: asked for by its stages `deploy-…`, and again by an answer stage that finds one gone
because the job had stopped in between."""

from sqlalchemy.ext.asyncio import AsyncSession

from shared.domain.answers import OwnDeployment, deployment_name
from shared.domain.deployments import DeploymentState, DeploymentTarget, ServerOptions
from shared.domain.errors import StepFailed
from shared.metadata.repositories.deployments import DeploymentRepository
from shared.metadata.repositories.models import ModelRepository
from shared.metadata.tables import Deployment


async def ask_for(session: AsyncSession, project_id: str, job_id: str, wanted: OwnDeployment) -> Deployment:
    """The job's own deployment of a model; asking again for what is under way changes nothing, after a failure it is tried anew.

    Raises StepFailed `no_model` where the training registered none, InputRefused for a model that no server can be given.
    """
    registry = wanted.registry
    if registry is None:
        models = await ModelRepository(session).of_job(job_id)
        registry = next((model.id for model in models if model.stage == wanted.stage), None)
        if registry is None:
            raise StepFailed("no_model", f"the training {wanted.stage} registered no model that a server could hold")
    return await DeploymentRepository(session).deploy(
        project_id,
        deployment_name(job_id, wanted.name),
        DeploymentTarget(registry=registry),
        ServerOptions(server=wanted.server),
        job_id=job_id,
    )


def require_alive(deployment: Deployment) -> None:
    """Raise StepFailed where the deployment failed or was stopped, with the server's own words."""
    if deployment.state in (DeploymentState.FAILED, DeploymentState.STOPPED):
        raise StepFailed(
            "deployment_failed",
            f"the deployment {deployment.name} is {deployment.state}: {deployment.detail or 'no reason was told'}",
        )
