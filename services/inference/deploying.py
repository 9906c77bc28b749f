"""The whole step `deploy`: a model of the job is put on a server, and the step ends when it answers."""

import asyncio
import time

from shared.domain.answers import all_deployments
from shared.domain.deployments import DeploymentState
from shared.domain.errors import StepFailed
from shared.domain.ledger import Ledger
from shared.metadata.engine import create_engine, session_factory
from shared.metadata.repositories.deployments import DeploymentRepository
from shared.metadata.repositories.serving import ServingRepository
from shared.settings import get_settings
from shared.stages.own_deployments import ask_for, require_alive
from shared.stages.protocol import WholeContext, WholeResult

POLL_SECONDS = 0.5


def run(context: WholeContext) -> WholeResult:
    """Ask for the deployment and wait until it answers, however long a server has to be waited for; the note says what it does.
    The controller stops it when the job has ended.

    Raises StepFailed `deployment_failed` with the server's words, `no_model`, and InputRefused for a model that no server can be
    given.
    """
    return asyncio.run(_run(context))


async def _run(context: WholeContext) -> WholeResult:
    wanted = next((one for one in all_deployments(context.spec.answer) if one.name == context.stage), None)
    if wanted is None:
        raise StepFailed("no_deployment", f"the job's spec deploys nothing in a stage {context.stage!r}")
    project_id = str(context.facts["project_id"])
    settings = get_settings()
    engine = create_engine(settings.database_url, 1, "multifacet-deploy", settings.database_patience_seconds)
    sessions = session_factory(engine)
    started = time.monotonic()
    try:
        async with sessions() as session, session.begin():
            name = (await ask_for(session, project_id, context.job_id, wanted)).name
        while True:
            async with sessions() as session:
                deployment = await DeploymentRepository(session).require(project_id, name)
                serving = await ServingRepository(session).find(project_id, name)
            if serving is not None and deployment.state == DeploymentState.READY:
                break
            require_alive(deployment)
            context.progress(0, 1, deployment.detail or f"{deployment.state}: no server holds the model yet")
            await asyncio.sleep(POLL_SECONDS)
    finally:
        await engine.dispose()
    context.progress(1, 1, "ready")
    summary = {
        "deployment": deployment.name,
        "model": serving.answered_by,
        "server": serving.server_kind,
        "seconds": round(time.monotonic() - started, 1),
        "maximum_input_tokens": serving.maximum_input_tokens,
        "maximum_total_tokens": serving.maximum_total_tokens,
    }
    return WholeResult(outputs=(), ledger=Ledger(), summary=summary)
