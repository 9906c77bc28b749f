"""Places where launchers run model servers: what they report, what they shall run, and deployments that wait or lost theirs.

A report is written and answered in one transaction: what a launcher says of a revision becomes the deployment's state there.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.domain.deployments import (
    DeploymentState,
    DeploymentTarget,
    LauncherReport,
    PlaceReport,
    RevisionState,
    ServerOptions,
    ServerState,
)
from shared.domain.states import JOB_END_STATES
from shared.metadata.repositories.deployments import DeploymentChanges, DeploymentRepository, lock_deployments
from shared.metadata.repositories.gpu_slots import GpuSlotRepository, server_holder
from shared.metadata.tables import Deployment, DeploymentRevision, ModelServer

_ANSWERING = {DeploymentState.READY, DeploymentState.CHANGING, DeploymentState.STARTING}
HOW_TO_START = "docs/deployments.md says how one is started"


class LauncherTerms(msgspec.Struct, frozen=True):
    """How long silence and leases last, in seconds."""

    silent_seconds: float
    gpu_lease_seconds: float


class WantedServer(msgspec.Struct, frozen=True):
    """What a place shall serve."""

    place: int
    deployment: Deployment
    revision: DeploymentRevision
    devices: tuple[int, ...]


def server_id_of(launcher: str, place: int) -> str:
    return f"{launcher}/{place}"


def served_id(deployment_id: str, revision: int) -> str:
    """What launchers call a revision."""
    return f"{deployment_id}:{revision}"


class ModelServerRepository:
    """What launchers and the controller do with places."""

    def __init__(self, session: AsyncSession, terms: LauncherTerms) -> None:
        self._session = session
        self._terms = terms
        self._changes = DeploymentChanges(session)
        self._gpus = GpuSlotRepository(session)

    async def report(self, launcher: str, report: LauncherReport) -> list[WantedServer]:
        """Write down what a launcher says and what follows for its deployments. Returns what its places shall serve; a place
        that is not among them shall serve nothing."""
        query = sa.select(col(ModelServer.deployment_id)).where(col(ModelServer.launcher) == launcher)
        known = [found for found in (await self._session.execute(query)).scalars() if found is not None]
        deployments = await lock_deployments(self._session, known)
        if report.devices:
            await self._gpus.register(report.host, report.devices)
        for place in sorted(report.places, key=lambda place: server_id_of(launcher, place.place)):
            server = await self._write(launcher, report, place)
            if server.deployment_id is None:
                if place.state is ServerState.EMPTY:
                    await self._gpus.release(server_holder(server.id))
                continue
            # One that was given to this place since the rows were locked is taken up with the next report.
            if (deployment := deployments.get(server.deployment_id)) is not None and not report.leaving:
                await self._apply(deployment, server, place)
        await self._session.execute(
            sa.update(ModelServer)
            .where(
                col(ModelServer.launcher) == launcher,
                col(ModelServer.place).not_in([place.place for place in report.places]),
            )
            .values(leaving=True, address=None, serving=None)
            .execution_options(synchronize_session=False)
        )
        if report.leaving:
            await self._changes.wake()
            return []
        return await self._wanted(launcher)

    async def serves(self, launcher: str) -> list[tuple[str, str]]:
        """Project and registered model of everything that the launcher's places shall serve."""
        query = (
            sa.select(col(Deployment.project_id), col(DeploymentRevision.target))
            .select_from(ModelServer)
            .join(Deployment, col(Deployment.id) == col(ModelServer.deployment_id))
            .join(DeploymentRevision, _revision_of_server())
            .where(col(ModelServer.launcher) == launcher)
        )
        rows = await self._session.execute(query)
        return [(project, target["registry"]) for project, target in rows if target.get("registry") is not None]

    # What the controller does.

    async def unplaced(self) -> list[str]:
        """Deployments of registered models that no place shall serve, oldest first."""
        placed = sa.exists().where(
            col(ModelServer.deployment_id) == col(Deployment.id),
            col(ModelServer.revision) == col(Deployment.wanted_revision),
        )
        query = (
            sa.select(col(Deployment.id))
            .join(
                DeploymentRevision,
                sa.and_(
                    col(DeploymentRevision.deployment_id) == col(Deployment.id),
                    col(DeploymentRevision.revision) == col(Deployment.wanted_revision),
                ),
            )
            .where(
                col(Deployment.state).not_in([DeploymentState.FAILED.value, DeploymentState.STOPPED.value]),
                col(DeploymentRevision.target)["registry"].astext.is_not(None),
                sa.not_(placed),
            )
            .order_by(col(Deployment.id))
        )
        return list((await self._session.execute(query)).scalars())

    async def place(self, deployment_id: str) -> bool:
        """Give a deployment a free place of its kind, with GPUs where the place needs them. False: it waits, and its detail
        says for what."""
        deployment = (await lock_deployments(self._session, [deployment_id]))[deployment_id]
        if deployment.state in {DeploymentState.FAILED, DeploymentState.STOPPED}:
            return False
        number = deployment.wanted_revision
        servers = await self._changes.servers(deployment_id)
        if any(server.revision == number for server in servers):
            return True
        revision = await self._changes.revision(deployment_id, number)
        kind = ServerOptions.model_validate(revision.options).server
        taken, why = await self._free_place(deployment, number, kind)
        if taken is not None:
            await self._changes.give(taken, deployment_id, number)
            if deployment.state == DeploymentState.WAITING:
                await self._changes.set_state(deployment, DeploymentState.STARTING, f"is given to {taken.id}")
            await self._changes.event(deployment, "placed", number, f"given to {taken.id}")
            return True
        if deployment.state == DeploymentState.CHANGING:
            why = f"revision {deployment.serving_revision} answers; revision {number}: {why}"
            await self._changes.set_state(deployment, DeploymentState.CHANGING, why)
        else:
            await self._changes.set_state(deployment, DeploymentState.WAITING, why)
        return False

    async def lost(self) -> list[str]:
        """Places with a deployment whose launcher fell silent or leaves."""
        query = (
            sa.select(col(ModelServer.id))
            .where(
                col(ModelServer.deployment_id).is_not(None),
                sa.or_(col(ModelServer.leaving), col(ModelServer.heartbeat_at) <= self._heard_since()),
            )
            .order_by(col(ModelServer.id))
        )
        return list((await self._session.execute(query)).scalars())

    async def lose(self, server_id: str) -> None:
        """Take a deployment from a place that is lost, where that helps it.

        A silent launcher may be alive (the api was away, the network is): it keeps its deployment, which waits for it, until
        another place of the kind is free whose launcher has been heard all the while.
        """
        found = await self._session.get(ModelServer, server_id, populate_existing=True)
        if found is None or found.deployment_id is None:
            return
        deployment = (await lock_deployments(self._session, [found.deployment_id]))[found.deployment_id]
        query = sa.select(ModelServer).where(
            col(ModelServer.id) == server_id,
            col(ModelServer.deployment_id) == deployment.id,
            sa.or_(col(ModelServer.leaving), col(ModelServer.heartbeat_at) <= self._heard_since()),
        )
        query = query.with_for_update().execution_options(populate_existing=True)
        server = (await self._session.execute(query)).scalar_one_or_none()
        if server is None or server.revision is None:
            return
        if server.leaving:
            why = f"the launcher {server.launcher} ended"
        else:
            why = f"the launcher {server.launcher} has not been heard of for {self._terms.silent_seconds:g} s"
        is_wanted = server.revision == deployment.wanted_revision
        if server.leaving or not is_wanted or await self._other_place(server):
            await self._let_go(server)
        still = [item for item in await self._changes.servers(deployment.id) if item.id != server_id]
        answers = any(item.serving == served_id(deployment.id, deployment.serving_revision or 0) for item in still)
        state = DeploymentState(deployment.state)
        if state not in _ANSWERING or answers:
            return
        if is_wanted:
            await self._changes.set_state(deployment, DeploymentState.WAITING, why)
            await self._changes.event(deployment, "lost", server.revision, why)
        elif state is DeploymentState.CHANGING:
            await self._changes.set_state(deployment, DeploymentState.STARTING, why)
            await self._changes.event(deployment, "lost", server.revision, why)

    async def stop_of_ended_jobs(self) -> int:
        """Stop deployments that jobs made for themselves, once they have ended; returns how many."""
        rows = await self._session.execute(
            sa.text(
                """
                SELECT deployment.id FROM deployment JOIN job ON job.id = deployment.job_id
                WHERE deployment.state <> 'stopped' AND job.state = ANY(:ended)
                """
            ),
            {"ended": [state.value for state in JOB_END_STATES]},
        )
        found = await lock_deployments(self._session, rows.scalars().all())
        for deployment in found.values():
            await DeploymentRepository(self._session).stop_locked(deployment, "its job has ended")
        return len(found)

    # What follows from a report.

    async def _write(self, launcher: str, report: LauncherReport, place: PlaceReport) -> ModelServer:
        values: dict[str, Any] = {
            "kind": report.kind,
            "host": report.host,
            "gpus": report.gpus_per_place,
            "devices": list(report.devices),
            "address": None if report.leaving else place.address,
            "observed_state": place.state.value,
            "observed_detail": place.detail,
            "serving": None if report.leaving else place.serving,
            "leaving": report.leaving,
        }
        statement = insert(ModelServer).values(
            id=server_id_of(launcher, place.place), launcher=launcher, place=place.place, **values
        )
        was_away = sa.or_(col(ModelServer.leaving), col(ModelServer.heartbeat_at) <= self._heard_since())
        changed = {
            **values,
            "heartbeat_at": sa.func.now(),
            "live_since": sa.case((was_away, sa.func.now()), else_=col(ModelServer.live_since)),
        }
        statement = statement.on_conflict_do_update(index_elements=["id"], set_=changed)
        returned = await self._session.execute(
            statement.returning(ModelServer), execution_options={"populate_existing": True}
        )
        return returned.scalar_one()

    async def _apply(self, deployment: Deployment, server: ModelServer, place: PlaceReport) -> None:
        number = server.revision
        if number is None or deployment.state in {DeploymentState.STOPPED, DeploymentState.FAILED}:
            return
        if not await self._keeps_gpus(server, place):
            await self._give_up_for_gpus(deployment, server)
            return
        name = served_id(deployment.id, number)
        if place.state is ServerState.FAILED and place.about == name:
            await self._failed(deployment, server, place)
        elif place.serving == name:
            await self._answers(deployment, server, place)
        elif number == deployment.wanted_revision:
            await self._under_way(deployment, server, place)

    async def _answers(self, deployment: Deployment, server: ModelServer, place: PlaceReport) -> None:
        number = server.revision
        assert number is not None
        info = place.facts.model_dump(mode="json", exclude_none=True)
        if number == deployment.serving_revision:
            if number == deployment.wanted_revision and deployment.state != DeploymentState.READY:
                detail = await self._why_not_newer(deployment)
                await self._changes.set_state(deployment, DeploymentState.READY, detail)
                await self._changes.event(deployment, "ready", number, f"answers again, on {server.id}")
            return
        if number != deployment.wanted_revision:
            return
        before = deployment.serving_revision
        await self._changes.set_revision_state(
            deployment.id, number, RevisionState.READY, server_id=server.id, info=info
        )
        if before is not None:
            await self._changes.set_revision_state(deployment.id, before, RevisionState.REPLACED)
        await self._changes.set_revisions(deployment, wanted=number, serving=number)
        await self._changes.free_servers(deployment.id, but=server.id)
        await self._changes.set_state(deployment, DeploymentState.READY)
        await self._changes.event(deployment, "ready", number, f"answers, on {server.id}")

    async def _under_way(self, deployment: Deployment, server: ModelServer, place: PlaceReport) -> None:
        """The wanted revision does not answer yet, or no more."""
        number = server.revision
        assert number is not None
        state = DeploymentState(deployment.state)
        says = place.detail if place.about == served_id(deployment.id, number) else ""
        if state is DeploymentState.READY:
            await self._changes.set_state(deployment, DeploymentState.STARTING, says or "its server does not answer")
            await self._changes.event(deployment, "restarting", number, says)
        elif state is DeploymentState.WAITING:
            await self._changes.set_state(deployment, DeploymentState.STARTING, says)
        elif says and place.state is not ServerState.EMPTY:
            before = deployment.serving_revision
            if state is DeploymentState.CHANGING and place.serving == served_id(deployment.id, before or 0):
                says = f"revision {before} answers until revision {number} is ready; {says}"
            await self._changes.set_state(deployment, state, says)

    async def _failed(self, deployment: Deployment, server: ModelServer, place: PlaceReport) -> None:
        """The revision cannot be served: what answered before shall again, else the deployment has failed."""
        number, serving = server.revision, deployment.serving_revision
        assert number is not None
        await self._changes.set_revision_state(deployment.id, number, RevisionState.FAILED, error=place.detail)
        await self._changes.event(deployment, "failed", number, place.detail)
        if serving is None or number == serving:
            await self._changes.set_revisions(deployment, wanted=number, serving=None)
            await self._changes.free_servers(deployment.id)
            if deployment.state == DeploymentState.WAITING:  # its launcher came back with this
                await self._changes.set_state(deployment, DeploymentState.STARTING)
            await self._changes.set_state(deployment, DeploymentState.FAILED, place.detail)
            return
        if number != deployment.wanted_revision:
            await self._let_go(server)
            return
        await self._changes.set_revisions(deployment, wanted=serving, serving=serving)
        await self._changes.event(deployment, "kept", serving, f"revision {number} could not be served")
        detail = _kept_text(serving, number, place.detail)
        before = await self._changes.revision(deployment.id, serving)
        if DeploymentTarget.model_validate(before.target).provider is not None:
            await self._changes.free_servers(deployment.id)
            await self._changes.set_state(deployment, DeploymentState.READY, detail)
            return
        wanted = served_id(deployment.id, serving)
        others = [item for item in await self._changes.servers(deployment.id) if item.id != server.id]
        holder = next((item for item in others if item.revision == serving), None)
        if holder is not None:
            await self._let_go(server)
            answers = holder.serving == wanted
        elif server.kind == ServerOptions.model_validate(before.options).server:
            await self._changes.give(server, deployment.id, serving)
            answers = place.serving == wanted
        else:
            await self._let_go(server)
            await self._changes.set_state(deployment, DeploymentState.WAITING, detail)
            return
        await self._changes.set_state(
            deployment, DeploymentState.READY if answers else DeploymentState.STARTING, detail
        )

    async def _why_not_newer(self, deployment: Deployment) -> str:
        """What the detail of a deployment says whose newest revision failed."""
        newest = (await DeploymentRepository(self._session).revisions(deployment.id))[0]
        serving = deployment.serving_revision
        if newest.state != RevisionState.FAILED or serving is None or newest.revision == serving:
            return ""
        return _kept_text(serving, newest.revision, newest.error or "")

    # Places and GPUs.

    async def _free_place(self, deployment: Deployment, number: int, kind: str) -> tuple[ModelServer | None, str]:
        """A free place, locked, with its GPUs leased; else what is waited for."""
        wanted = served_id(deployment.id, number)
        live = [
            col(ModelServer.kind) == kind,
            sa.not_(col(ModelServer.leaving)),
            col(ModelServer.heartbeat_at) > self._heard_since(),
        ]
        is_free = [
            *live,
            col(ModelServer.deployment_id).is_(None),
            sa.or_(col(ModelServer.observed_state) == ServerState.EMPTY.value, col(ModelServer.serving) == wanted),
        ]
        # One that serves it already first.
        query = (
            sa.select(col(ModelServer.id))
            .where(*is_free)
            .order_by((col(ModelServer.serving) == wanted).desc().nulls_last(), col(ModelServer.id))
        )
        free = []
        for server_id in (await self._session.execute(query)).scalars().all():
            locked = sa.select(ModelServer).where(*is_free, col(ModelServer.id) == server_id).with_for_update()
            locked = locked.execution_options(populate_existing=True)
            server = (await self._session.execute(locked)).scalar_one_or_none()
            if server is None:
                continue  # others were faster
            if await self._claim_gpus(server):
                return server, ""
            free.append(server)
        if free:
            server = free[0]
            return None, f"waits for {server.gpus} free GPUs of {server.host}, which others have now"
        count = (
            await self._session.execute(sa.select(sa.func.count()).select_from(ModelServer).where(*live))
        ).scalar_one()
        if count:
            return (
                None,
                f"all {count} places on servers of kind {kind} are taken; undeploy something, or start a launcher",
            )
        return None, f"no server of kind {kind} is there; {HOW_TO_START}"

    async def _other_place(self, server: ModelServer) -> bool:
        """Whether a free place of the kind has been heard for as long as `server` was not."""
        query = sa.select(sa.func.count()).where(
            col(ModelServer.kind) == server.kind,
            col(ModelServer.id) != server.id,
            col(ModelServer.deployment_id).is_(None),
            col(ModelServer.observed_state) == ServerState.EMPTY.value,
            sa.not_(col(ModelServer.leaving)),
            col(ModelServer.heartbeat_at) > self._heard_since(),
            col(ModelServer.live_since) <= self._heard_since(),
        )
        return bool((await self._session.execute(query)).scalar_one())

    async def _claim_gpus(self, server: ModelServer) -> bool:
        if server.gpus == 0:
            return True
        holder = server_holder(server.id)
        lease = self._terms.gpu_lease_seconds
        return await self._gpus.claim(server.host, server.devices, server.gpus, holder, lease) is not None

    async def _keeps_gpus(self, server: ModelServer, place: PlaceReport) -> bool:
        """Prolong the lease of the place's GPUs. One that ran out is taken again only by a place that uses none now: what runs
        there would be on other devices than those that are free."""
        if server.gpus == 0:
            return True
        holder = server_holder(server.id)
        kept = await self._gpus.renew([holder], self._terms.gpu_lease_seconds)
        if kept.get(holder, 0) == server.gpus:
            return True
        uses_none = place.serving is None and place.state in {ServerState.EMPTY, ServerState.FETCHING}
        return uses_none and await self._claim_gpus(server)

    async def _give_up_for_gpus(self, deployment: Deployment, server: ModelServer) -> None:
        why = f"the lease of the GPUs of {server.id} ran out, and others have them now"
        number = server.revision or 0
        await self._let_go(server)
        if DeploymentState(deployment.state) in _ANSWERING:
            await self._changes.set_state(deployment, DeploymentState.WAITING, why)
        await self._changes.event(deployment, "lost", number, why)
        await self._changes.wake()

    async def _let_go(self, server: ModelServer) -> None:
        """The place shall serve nothing, and nobody is sent there any more."""
        await self._session.execute(
            sa.update(ModelServer)
            .where(col(ModelServer.id) == server.id)
            .values(deployment_id=None, revision=None, address=None, serving=None)
            .execution_options(synchronize_session=False)
        )

    async def _wanted(self, launcher: str) -> list[WantedServer]:
        query = (
            sa.select(ModelServer, Deployment, DeploymentRevision)
            .join(Deployment, col(Deployment.id) == col(ModelServer.deployment_id))
            .join(DeploymentRevision, _revision_of_server())
            .where(col(ModelServer.launcher) == launcher, sa.not_(col(ModelServer.leaving)))
            .order_by(col(ModelServer.place))
            .execution_options(populate_existing=True)
        )
        found = []
        for server, deployment, revision in await self._session.execute(query):
            devices = await self._gpus.held_by(server_holder(server.id)) if server.gpus else ()
            found.append(WantedServer(server.place, deployment, revision, devices))
        return found

    def _heard_since(self) -> Any:
        return sa.func.now() - sa.func.make_interval(0, 0, 0, 0, 0, 0, self._terms.silent_seconds)


def _revision_of_server() -> Any:
    return sa.and_(
        col(DeploymentRevision.deployment_id) == col(ModelServer.deployment_id),
        col(DeploymentRevision.revision) == col(ModelServer.revision),
    )


def _kept_text(serving: int, failed: int, error: str) -> str:
    return f"revision {serving} answers; revision {failed} could not be served: {error}"
