"""Which deployments answer, remembered for about a second per process."""

import asyncio
import time
from collections.abc import Mapping

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from services.api.gateway.errors import LiveError
from shared.domain.deployments import DeploymentState, ServingModel
from shared.metadata.repositories.serving import ServingRepository

log = structlog.get_logger(__name__)

REMEMBERED_SECONDS = 1.5
_READ_ANEW_SECONDS = 0.75
"""What is this old is read anew while the remembered still counts, so that busy times never wait for the database."""
_UNKNOWN_SECONDS = 0.25
"""So often at most names that are unknown are looked up, however many are asked for."""
_RETRY_AFTER = {"retry-after": "5"}
_COMING = {DeploymentState.WAITING, DeploymentState.STARTING, DeploymentState.CHANGING, DeploymentState.READY}
"""Without a server that answers now, these may have one soon; a failed one has not."""
_NAMES_TOLD = 20


class Silent(msgspec.Struct, frozen=True):
    """A deployment that does not answer now, and why."""

    state: str
    detail: str


class Deployments(msgspec.Struct, frozen=True):
    """All projects' deployments at one moment, by project and name."""

    serving: Mapping[tuple[str, str], ServingModel]
    silent: Mapping[tuple[str, str], Silent]
    read_at: float
    """time.monotonic() before they were asked for."""

    def of_project(self, project_id: str) -> list[ServingModel]:
        """What answers in a project, oldest first."""
        return [model for (owner, _), model in self.serving.items() if owner == project_id]

    def require(self, project_id: str, name: str) -> ServingModel:
        """The deployment of that name. Raises LiveError: 404 with the names that serve, 503 while it does not answer, 400
        for a reward model."""
        model = self.serving.get((project_id, name))
        if model is None:
            raise self._missing(project_id, name)
        if model.is_reward_model:
            raise LiveError(
                400,
                "model_not_for_chat",
                f"The model {name!r} is a reward model: it scores answers and writes none. Name a model that chats.",
                param="model",
            )
        return model

    def _missing(self, project_id: str, name: str) -> LiveError:
        silent = self.silent.get((project_id, name))
        if silent is None:
            names = [model.name for model in self.of_project(project_id) if not model.is_reward_model]
            more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
            said = f"these serve: {', '.join(names[:_NAMES_TOLD])}{more}" if names else "none serves now"
            text = f"The model {name[:200]!r} does not exist; {said}."
            return LiveError(404, "model_not_found", text, param="model")
        detail = f" ({silent.detail})" if silent.detail else ""
        if silent.state not in _COMING:
            text = f"The deployment {name!r} has failed{detail}; it answers when another revision of it is deployed."
            return LiveError(503, "model_not_ready", text, param="model", headers={"x-should-retry": "false"})
        state = "has no server that answers" if silent.state == DeploymentState.READY else f"is {silent.state}"
        text = f"The deployment {name!r} {state}{detail}; try again in some seconds."
        return LiveError(503, "model_not_ready", text, param="model", headers=_RETRY_AFTER)


class DeploymentDirectory:
    """Reads all deployments at once, when somebody asks and what is remembered is old."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._known: Deployments | None = None
        self._reading: asyncio.Task[Deployments] | None = None

    async def current(self) -> Deployments:
        """The deployments as of `REMEMBERED_SECONDS` ago or later."""
        known = self._known
        if known is not None:
            age = time.monotonic() - known.read_at
            if age < REMEMBERED_SECONDS:
                if age > _READ_ANEW_SECONDS:
                    self._read().add_done_callback(_tell_failure)
                return known
        return await asyncio.shield(self._read())

    async def require(self, project_id: str, name: str) -> ServingModel:
        """The deployment of that name, as `Deployments.require`. One that does not answer as far as is remembered is looked up
        anew: it may do so by now."""
        deployments = await self.current()
        if (project_id, name) not in deployments.serving:
            deployments = await self.after(time.monotonic() - _UNKNOWN_SECONDS)
        return deployments.require(project_id, name)

    async def after(self, moment: float) -> Deployments:
        """The deployments as read after `moment` (time.monotonic())."""
        while self._known is None or self._known.read_at < moment:
            await asyncio.shield(self._read())
        return self._known

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _read(self) -> "asyncio.Task[Deployments]":
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._ask(), name="read-deployments")
        return self._reading

    async def _ask(self) -> Deployments:
        asked_at = time.monotonic()
        async with self._sessions() as session:
            repository = ServingRepository(session)
            serving = {(model.project_id, model.name): model for model in await repository.serving()}
            silent = {
                (one.project_id, one.name): Silent(one.state, one.detail)
                for one in await repository.living()
                if (one.project_id, one.name) not in serving
            }
        self._known = Deployments(serving, silent, asked_at)
        return self._known


def _tell_failure(task: "asyncio.Task[Deployments]") -> None:
    if not task.cancelled() and isinstance(error := task.exception(), SQLAlchemyError | OSError):
        log.warning("deployments_not_read", error=type(error).__name__)
