"""The models of an answer stage: its candidate and its reward model, bound to where they answer now."""

from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.domain.answers import AnswerParameters, CandidateChoice, RewardChoice, deployment_name, own_deployment
from shared.domain.deployments import ServingModel
from shared.domain.errors import StepDeferred, StepFailed
from shared.domain.jobs import ModelChoice
from shared.llm.models import BoundModel, Find
from shared.llm.providers import Providers, ResolvedModel
from shared.llm.servers.resolved import resolved_deployment
from shared.metadata.repositories.deployments import DeploymentRepository
from shared.metadata.repositories.serving import ServingRepository
from shared.stages.own_deployments import ask_for, require_alive

WAIT_SECONDS = 5.0
"""Until a step looks again for a deployment that does not answer."""

Sessions = async_sessionmaker[AsyncSession]
Bind = Callable[[ResolvedModel, Find | None], BoundModel]


class AnsweringModels:
    """Finds the models of one step of an answer stage. Deployments are looked up anew for every shard, and by a call that its
    server does not answer."""

    def __init__(self, sessions: Sessions, providers: Providers, project_id: str, job_id: str, bind: Bind) -> None:
        self._sessions = sessions
        self._providers = providers
        self._project_id = project_id
        self._job_id = job_id
        self._bind = bind

    async def candidate(self, answer: AnswerParameters, pointer: str) -> BoundModel:
        """Who answers. Raises InputRefused, StepFailed `deployment_failed` or `deployment_gone`, and StepDeferred while the
        deployment does not answer."""
        choice = answer.candidate
        if choice.provider is not None and choice.model is not None:
            named = ModelChoice(provider=choice.provider, model=choice.model)
            return self._bind(self._providers.require(named, f"{pointer}/candidate"), None)
        return await self._deployed(choice, answer)

    async def reward(self, answer: AnswerParameters) -> BoundModel | None:
        """Who scores, None where nobody does. Raises as `candidate`."""
        return None if answer.reward is None else await self._deployed(answer.reward, answer)

    async def _deployed(self, choice: CandidateChoice | RewardChoice, answer: AnswerParameters) -> BoundModel:
        own = own_deployment(choice, answer.server)
        name = choice.deployment or ""
        if own is not None:
            name = deployment_name(self._job_id, own.name)
        serving = await self._serving(name)
        if serving is None:
            async with self._sessions() as session, session.begin():
                deployment = await DeploymentRepository(session).get(self._project_id, name)
                if deployment is None and own is not None:
                    # The job had stopped, and its deployments with it; it was taken up again behind its deploy stages.
                    deployment = await ask_for(session, self._project_id, self._job_id, own)
            if deployment is None:
                raise StepFailed(
                    "deployment_gone",
                    f"there is no deployment {name!r} any more; deploy the model again and retry the job",
                )
            require_alive(deployment)
            raise StepDeferred(f"the deployment {name} is {deployment.state} and does not answer yet", WAIT_SECONDS)
        return self._bind(resolved_deployment(serving, self._providers), self._finder(name))

    def _finder(self, name: str) -> Callable[[], Awaitable[ResolvedModel | None]]:
        async def find() -> ResolvedModel | None:
            serving = await self._serving(name)
            return None if serving is None else resolved_deployment(serving, self._providers)

        return find

    async def _serving(self, name: str) -> ServingModel | None:
        async with self._sessions() as session:
            return await ServingRepository(session).find(self._project_id, name)
