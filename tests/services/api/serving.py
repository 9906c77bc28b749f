"""Deployments that look as if a launcher served them."""

from services.api.state import ApiState
from shared.domain.deployments import DeploymentState, DeploymentTarget, RevisionState, ServerOptions, ServerState
from shared.domain.identifiers import new_id
from shared.metadata.tables import Deployment, DeploymentRevision, ModelServer
from tests.services.api.trainings import register, training_job


async def served_model(
    state: ApiState, name: str, address: str, *, method: str = "dpo", project_id: str = "default"
) -> str:
    """A deployment of a registered model that answers at `address`; its id."""
    stage = "dpo" if method == "dpo" else "sft"
    model_id = await register(state, await training_job(state, f"trains {name}"), stage, name=name, method=method)
    identifier = new_id("dep")
    async with state.transaction() as session:
        session.add(
            Deployment(
                id=identifier, project_id=project_id, name=name, state=DeploymentState.READY.value, serving_revision=1
            )
        )
        await session.flush()
        session.add(
            DeploymentRevision(
                deployment_id=identifier,
                revision=1,
                target=DeploymentTarget(registry=model_id).model_dump(mode="json"),
                options=ServerOptions().model_dump(mode="json"),
                state=RevisionState.READY.value,
                server_id=f"launcher/{name}",
                info={"maximum_input_tokens": 1000, "maximum_total_tokens": 2000},
            )
        )
        session.add(
            ModelServer(
                id=f"launcher/{name}",
                launcher="launcher",
                place=0,
                kind="cpu",
                host="here",
                address=address,
                deployment_id=identifier,
                revision=1,
                observed_state=ServerState.READY.value,
                serving=f"{identifier}:1",
            )
        )
    return identifier
