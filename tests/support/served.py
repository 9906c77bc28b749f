"""Deployments brought to a wanted point without processes: registered models, and launchers that report what a test says."""

from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.domain.deployments import DeploymentTarget, LauncherReport, ServerOptions
from shared.domain.models import ModelRegistration
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.deployments import DeploymentRepository
from shared.metadata.repositories.model_servers import LauncherTerms, ModelServerRepository, WantedServer
from shared.metadata.repositories.models import ModelRepository
from shared.metadata.tables import Deployment, Project
from tests.support.control_plane import PROJECT
from tests.support.scheduling import submitted

Sessions = async_sessionmaker[AsyncSession]
TERMS = LauncherTerms(silent_seconds=30, gpu_lease_seconds=60)

MODEL = ModelRegistration(
    name="mine",
    method="sft",
    tuning="full",
    base={"source": "random", "name": "tiny-mistral"},
    parameter_count=7,
    dtype="float32",
    metrics={},
    lineage={},
    adapter_only=False,
)


async def registered(sessions: Sessions, *, job_id: str | None = None, stage: str = "sft", **changes: Any) -> str:
    """A registered model with a file of its own; its id."""
    if job_id is None:
        job_id = (await submitted(sessions)).id
    registration = msgspec.structs.replace(MODEL, **changes)
    kind = "adapter" if registration.adapter_only else "model"
    async with sessions() as session, session.begin():
        await ArtifactRepository(session).add(
            project_id=PROJECT, job_id=job_id, stage=stage, name=f"{kind}/config.json", kind=kind,
            key=f"artifacts/{uuid4().hex}", media_type="application/json", sha256="0" * 64, size=2, step_id="step_1",
        )  # fmt: skip
        return await ModelRepository(session).add(
            project_id=PROJECT, job_id=job_id, stage=stage, attempt_id=1, registration=registration
        )


async def deploy(
    sessions: Sessions,
    name: str,
    model_id: str | None = None,
    *,
    target: DeploymentTarget | None = None,
    job_id: str | None = None,
    **options: Any,
) -> Deployment:
    async with sessions() as session, session.begin():
        await session.execute(insert(Project).values(id=PROJECT).on_conflict_do_nothing())
        return await DeploymentRepository(session).deploy(
            PROJECT, name, target or DeploymentTarget(registry=model_id), ServerOptions(**options), job_id
        )


async def found(sessions: Sessions, name: str) -> Deployment:
    async with sessions() as session:
        return await DeploymentRepository(session).require(PROJECT, name)


async def history(sessions: Sessions, deployment_id: str) -> list[tuple[str, int]]:
    """Types and revisions of the events, in their order. Their numbers must have no gaps."""
    async with sessions() as session:
        events = (await DeploymentRepository(session).events(deployment_id))[::-1]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    return [(event.type, event.revision) for event in events]


async def revision_states(sessions: Sessions, deployment_id: str) -> list[str]:
    async with sessions() as session:
        return [row.state for row in (await DeploymentRepository(session).revisions(deployment_id))[::-1]]


class Launcher:
    """A launcher that says what a test tells it to. Its kind is its own, so that tests over one database do not meet."""

    def __init__(self, sessions: Sessions, places: int = 1, *, kind: str = "cpu", **facts: Any) -> None:
        self.sessions = sessions
        self.name = f"launcher-{uuid4().hex[:8]}"
        self.facts = {"kind": kind, "host": "here", **facts}
        self.places: list[dict[str, Any]] = [{"place": number, "state": "empty"} for number in range(places)]

    async def report(self, terms: LauncherTerms = TERMS, **changes: Any) -> list[WantedServer]:
        told = LauncherReport.model_validate({**self.facts, "places": self.places, **changes})
        async with self.sessions() as session, session.begin():
            return await ModelServerRepository(session, terms).report(self.name, told)

    async def serves(self, deployment: Deployment, revision: int, place: int = 0) -> list[WantedServer]:
        """Report that a revision answers."""
        served = f"{deployment.id}:{revision}"
        self.places[place] = {
            "place": place, "state": "ready", "about": served, "serving": served, "address": "http://127.0.0.1:9000",
            "facts": {"maximum_total_tokens": 512},
        }  # fmt: skip
        return await self.report()

    async def fails(self, deployment: Deployment, revision: int, place: int = 0, **still: Any) -> list[WantedServer]:
        """Report that a revision cannot be served."""
        self.places[place] = {
            "place": place, "state": "failed", "about": f"{deployment.id}:{revision}", "detail": "it broke", **still,
        }  # fmt: skip
        return await self.report()

    async def leave(self) -> None:
        self.places = [{"place": place["place"], "state": "empty"} for place in self.places]
        await self.report(leaving=True)


async def place(sessions: Sessions, deployment: Deployment, terms: LauncherTerms = TERMS) -> bool:
    """What the controller's duty does for one deployment."""
    async with sessions() as session, session.begin():
        return await ModelServerRepository(session, terms).place(deployment.id)


async def lose(sessions: Sessions, server_id: str, terms: LauncherTerms = TERMS) -> None:
    async with sessions() as session, session.begin():
        await ModelServerRepository(session, terms).lose(server_id)
