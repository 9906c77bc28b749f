"""Deployments as a user sees them: deploy, look, roll back, stop.

Every change locks the deployment's row first and is written with an event in the same transaction. Locks are taken in the order
deployment, model server, GPU, so that no two transactions wait for each other. What launchers and the controller change is in
`shared.metadata.repositories.model_servers`.
"""

import builtins
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.domain.deployments import (
    DEPLOYMENT_TRANSITIONS,
    DeploymentConflict,
    DeploymentNotFound,
    DeploymentState,
    DeploymentTarget,
    RevisionState,
    ServerOptions,
)
from shared.domain.identifiers import new_id
from shared.domain.states import require_transition
from shared.metadata.engine import WAKE_CHANNEL
from shared.metadata.repositories.served_models import refuse_options, served_model
from shared.metadata.tables import Deployment, DeploymentEvent, DeploymentRevision, ModelServer, Project


async def lock_deployments(session: AsyncSession, ids: Iterable[str]) -> dict[str, Deployment]:
    """Lock deployments in the order of their ids; id -> the row as it is now."""
    query = sa.select(Deployment).where(col(Deployment.id).in_(sorted(set(ids)))).order_by(col(Deployment.id))
    query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    return {row.id: row for row in (await session.execute(query)).scalars()}


class DeploymentChanges:
    """Changes of deployments whose rows the transaction has locked, each with its event."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def set_state(self, deployment: Deployment, state: DeploymentState, detail: str = "") -> None:
        """Change state and detail. The same state again changes the detail alone."""
        if deployment.state == state and deployment.detail == detail:
            return
        if deployment.state != state:
            require_transition(DEPLOYMENT_TRANSITIONS, DeploymentState(deployment.state), state)
        await self._write(deployment, state=state.value, detail=detail)

    async def set_revisions(self, deployment: Deployment, *, wanted: int, serving: int | None) -> None:
        await self._write(deployment, wanted_revision=wanted, serving_revision=serving)

    async def set_revision_state(self, deployment_id: str, revision: int, state: RevisionState, **values: Any) -> None:
        """Change a revision; `values` are further columns."""
        if state is RevisionState.READY:
            values["ready_at"] = sa.func.coalesce(col(DeploymentRevision.ready_at), sa.func.now())
        elif state is not RevisionState.PENDING:
            values["ended_at"] = sa.func.now()
        await self._session.execute(
            sa.update(DeploymentRevision)
            .where(col(DeploymentRevision.deployment_id) == deployment_id, col(DeploymentRevision.revision) == revision)
            .values(state=state.value, **values)
            .execution_options(synchronize_session=False)
        )

    async def revision(self, deployment_id: str, revision: int) -> DeploymentRevision:
        """The revision as it is now."""
        query = sa.select(DeploymentRevision).where(
            col(DeploymentRevision.deployment_id) == deployment_id, col(DeploymentRevision.revision) == revision
        )
        return (await self._session.execute(query.execution_options(populate_existing=True))).scalar_one()

    async def servers(self, deployment_id: str) -> list[ModelServer]:
        """The places that shall serve the deployment, locked."""
        query = sa.select(ModelServer).where(col(ModelServer.deployment_id) == deployment_id)
        query = query.order_by(col(ModelServer.id)).with_for_update().execution_options(populate_existing=True)
        return list((await self._session.execute(query)).scalars())

    async def free_servers(self, deployment_id: str, *, but: str | None = None) -> None:
        """Let the deployment's places end what they serve; `but` keeps one. Their GPUs are theirs until they have."""
        query = sa.update(ModelServer).where(col(ModelServer.deployment_id) == deployment_id)
        if but is not None:
            query = query.where(col(ModelServer.id) != but)
        await self._session.execute(
            query.values(deployment_id=None, revision=None).execution_options(synchronize_session=False)
        )

    async def give(self, server: ModelServer, deployment_id: str, revision: int) -> None:
        """Let a locked place serve a revision."""
        await self._session.execute(
            sa.update(ModelServer)
            .where(col(ModelServer.id) == server.id)
            .values(deployment_id=deployment_id, revision=revision)
            .execution_options(synchronize_session=False)
        )
        await self._session.execute(
            sa.update(DeploymentRevision)
            .where(col(DeploymentRevision.deployment_id) == deployment_id, col(DeploymentRevision.revision) == revision)
            .values(server_id=server.id)
            .execution_options(synchronize_session=False)
        )

    async def event(self, deployment: Deployment, type: str, revision: int, detail: str = "") -> None:
        """Add to the history. The row lock makes numbers follow each other without gaps."""
        last = sa.select(sa.func.coalesce(sa.func.max(col(DeploymentEvent.sequence)), 0)).where(
            col(DeploymentEvent.deployment_id) == deployment.id
        )
        await self._session.execute(
            sa.insert(DeploymentEvent).values(
                deployment_id=deployment.id,
                sequence=last.scalar_subquery() + 1,
                revision=revision,
                type=type,
                detail=detail,
            )
        )

    async def wake(self) -> None:
        """Wake the controller when this transaction commits."""
        await self._session.execute(sa.select(sa.func.pg_notify(WAKE_CHANNEL, "")))

    async def _write(self, deployment: Deployment, **values: Any) -> None:
        await self._session.execute(
            sa.update(Deployment)
            .where(col(Deployment.id) == deployment.id)
            .values(changed_at=sa.func.now(), **values)
            .execution_options(synchronize_session=False)
        )
        await self._session.refresh(deployment)


class DeploymentRepository:
    """Deployments of projects."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._changes = DeploymentChanges(session)

    async def get(self, project_id: str, name: str) -> Deployment | None:
        """By id, or by the name of one that is not stopped."""
        query = sa.select(Deployment).where(
            col(Deployment.project_id) == project_id,
            sa.or_(
                col(Deployment.id) == name,
                sa.and_(col(Deployment.name) == name, col(Deployment.state) != DeploymentState.STOPPED.value),
            ),
        )
        # A name may look like an id: the id counts.
        query = query.order_by(col(Deployment.id) != name).limit(1)
        return (await self._session.execute(query)).scalar_one_or_none()

    async def require(self, project_id: str, name: str) -> Deployment:
        """The deployment by id or name; raises DeploymentNotFound."""
        found = await self.get(project_id, name)
        if found is None:
            raise DeploymentNotFound(f"no deployment {name!r} in this project")
        return found

    async def list(
        self, project_id: str, *, stopped: bool = False, before: str | None = None, limit: int = 50
    ) -> builtins.list[Deployment]:
        """Newest first; those that were stopped only where `stopped` is set. `before` is the last id of the page before."""
        query = sa.select(Deployment).where(col(Deployment.project_id) == project_id)
        if not stopped:
            query = query.where(col(Deployment.state) != DeploymentState.STOPPED.value)
        if before is not None:
            query = query.where(col(Deployment.id) < before)
        query = query.order_by(col(Deployment.id).desc()).limit(limit)
        return builtins.list((await self._session.execute(query)).scalars())

    async def revisions(self, deployment_id: str) -> builtins.list[DeploymentRevision]:
        """Newest first."""
        query = sa.select(DeploymentRevision).where(col(DeploymentRevision.deployment_id) == deployment_id)
        query = query.order_by(col(DeploymentRevision.revision).desc())
        return builtins.list((await self._session.execute(query)).scalars())

    async def wanted(self, deployments: builtins.list[Deployment]) -> dict[str, DeploymentRevision]:
        """Deployment id -> the revision that it shall serve."""
        query = (
            sa.select(DeploymentRevision)
            .join(Deployment, col(Deployment.id) == col(DeploymentRevision.deployment_id))
            .where(
                col(Deployment.id).in_([deployment.id for deployment in deployments]),
                col(DeploymentRevision.revision) == col(Deployment.wanted_revision),
            )
        )
        return {row.deployment_id: row for row in (await self._session.execute(query)).scalars()}

    async def events(self, deployment_id: str, limit: int = 100) -> builtins.list[DeploymentEvent]:
        """Newest first."""
        query = sa.select(DeploymentEvent).where(col(DeploymentEvent.deployment_id) == deployment_id)
        query = query.order_by(col(DeploymentEvent.sequence).desc()).limit(limit)
        return builtins.list((await self._session.execute(query)).scalars())

    async def servers(self, deployment_id: str) -> builtins.list[ModelServer]:
        """The places that shall serve it."""
        query = sa.select(ModelServer).where(col(ModelServer.deployment_id) == deployment_id)
        return builtins.list((await self._session.execute(query.order_by(col(ModelServer.id)))).scalars())

    async def live_servers(self, kind: str, silent_seconds: float) -> int:
        """Places of a kind whose launcher was heard lately."""
        query = sa.select(sa.func.count()).where(
            col(ModelServer.kind) == kind,
            sa.not_(col(ModelServer.leaving)),
            col(ModelServer.heartbeat_at) > sa.func.now() - sa.func.make_interval(0, 0, 0, 0, 0, 0, silent_seconds),
        )
        return int((await self._session.execute(query)).scalar_one())

    async def deploy(
        self,
        project_id: str,
        name: str,
        target: DeploymentTarget,
        options: ServerOptions,
        job_id: str | None = None,
    ) -> Deployment:
        """Serve `target` under `name`: a new deployment, or the next revision of the one of that name.

        With `job_id` the deployment is the job's own, and is stopped when the job has ended; asking again for what it serves (or
        shall serve) already changes nothing, so a step may run twice. A provider's model is ready at once: whether the provider
        has it is for the caller to ask.

        Raises InputRefused for a model that cannot be served (pointers /target/registry, /options/server), and DeploymentConflict
        where the name belongs to a job, or to another one.
        """
        if target.registry is not None:
            refuse_options((await served_model(self._session, project_id, target.registry)).model, options)
        deployment = await self._living(project_id, name)
        if deployment is None:
            deployment = await self._make(project_id, name, job_id)
        if deployment.job_id != job_id:
            owner = f"job {deployment.job_id}" if deployment.job_id else "a user"
            raise DeploymentConflict(f"the name {name!r} is taken by a deployment of {owner}; choose another name")
        values = {"target": target.model_dump(mode="json"), "options": options.model_dump(mode="json")}
        if job_id is not None and deployment.state != DeploymentState.FAILED and deployment.wanted_revision:
            wanted = await self._changes.revision(deployment.id, deployment.wanted_revision)
            if {"target": wanted.target, "options": wanted.options} == values:
                return deployment
        await self._next_revision(deployment, values, "revision", "")
        return deployment

    async def roll_back(self, project_id: str, name: str) -> Deployment:
        """Serve again what was ready before: a new revision with the target and options of the last earlier one that served
        something else. Raises DeploymentNotFound, and DeploymentConflict where there is none."""
        deployment = await self._locked(project_id, name)
        if deployment.state == DeploymentState.STOPPED:
            raise DeploymentConflict(f"the deployment {deployment.name} is stopped; deploy it anew")
        revisions = await self.revisions(deployment.id)
        now = next(row for row in revisions if row.revision == deployment.wanted_revision)
        earlier = [
            row
            for row in revisions
            if row.ready_at is not None
            and row.revision < now.revision
            and (row.target, row.options) != (now.target, now.options)
        ]
        if not earlier:
            raise DeploymentConflict(
                f"the deployment {deployment.name} has served nothing else before; deploy what it shall serve"
            )
        chosen = earlier[0]
        if deployment.job_id is None and (model_id := chosen.target.get("registry")) is not None:
            await served_model(self._session, project_id, model_id)
        values = {"target": chosen.target, "options": chosen.options}
        await self._next_revision(deployment, values, "rollback", f"back to what revision {chosen.revision} served")
        return deployment

    async def stop(self, project_id: str, name: str) -> Deployment:
        """Undeploy for good; the name is free again. Stopping again changes nothing. Raises DeploymentNotFound."""
        deployment = await self._locked(project_id, name)
        await self.stop_locked(deployment, "undeployed")
        return deployment

    async def stop_locked(self, deployment: Deployment, why: str) -> None:
        """Stop a deployment whose row this transaction has locked."""
        if deployment.state == DeploymentState.STOPPED:
            return
        for row in await self.revisions(deployment.id):
            if row.state in {RevisionState.PENDING, RevisionState.READY}:
                await self._changes.set_revision_state(deployment.id, row.revision, RevisionState.STOPPED)
        await self._changes.free_servers(deployment.id)
        await self._changes.set_state(deployment, DeploymentState.STOPPED, why)
        await self._session.execute(
            sa.update(Deployment)
            .where(col(Deployment.id) == deployment.id)
            .values(stopped_at=sa.func.now(), serving_revision=None)
            .execution_options(synchronize_session=False)
        )
        await self._session.refresh(deployment)
        await self._changes.event(deployment, "stopped", deployment.wanted_revision, why)
        await self._changes.wake()

    async def _next_revision(self, deployment: Deployment, values: dict[str, Any], type: str, detail: str) -> None:
        """Make the next revision and let the deployment's place serve it, where it has one of that kind."""
        changes = self._changes
        revisions = await self.revisions(deployment.id)
        number = max((row.revision for row in revisions), default=0) + 1
        await self._session.execute(
            sa.insert(DeploymentRevision).values(
                deployment_id=deployment.id, revision=number, state=RevisionState.PENDING.value, **values
            )
        )
        for row in revisions:
            if row.state == RevisionState.PENDING:
                await changes.set_revision_state(deployment.id, row.revision, RevisionState.REPLACED)
        await changes.event(deployment, type, number, detail)
        serving = deployment.serving_revision
        await changes.set_revisions(deployment, wanted=number, serving=serving)
        target = DeploymentTarget.model_validate(values["target"])
        if target.provider is not None:
            await changes.set_revision_state(deployment.id, number, RevisionState.READY)
            if serving is not None:
                await changes.set_revision_state(deployment.id, serving, RevisionState.REPLACED)
            await changes.free_servers(deployment.id)
            await changes.set_revisions(deployment, wanted=number, serving=number)
            await changes.set_state(deployment, DeploymentState.READY)
            await changes.event(deployment, "ready", number, f"answered by {target.provider}/{target.model}")
        else:
            await self._place(deployment, number, ServerOptions.model_validate(values["options"]).server)
        await changes.wake()

    async def _place(self, deployment: Deployment, number: int, kind: str) -> None:
        """Keep the deployment's own place; without one the controller looks for another."""
        servers = await self._changes.servers(deployment.id)
        own = [server for server in servers if server.kind == kind]
        if own:
            await self._changes.give(own[0], deployment.id, number)
        if deployment.serving_revision is None:
            await self._changes.free_servers(deployment.id, but=own[0].id if own else None)
        state = DeploymentState(deployment.state)
        if state in {DeploymentState.READY, DeploymentState.CHANGING}:
            detail = f"revision {deployment.serving_revision} answers until revision {number} is ready"
            await self._changes.set_state(deployment, DeploymentState.CHANGING, detail)
        elif own and state is not DeploymentState.WAITING:
            await self._changes.set_state(deployment, DeploymentState.STARTING, "its server is told")
        else:
            await self._changes.set_state(deployment, DeploymentState.WAITING, "waits for a place on a server")

    async def _make(self, project_id: str, name: str, job_id: str | None) -> Deployment:
        await self._session.execute(insert(Project).values(id=project_id).on_conflict_do_nothing())
        # A concurrent request with the same name waits here until the first one's transaction ends.
        await self._session.execute(
            insert(Deployment)
            .values(
                id=new_id("dep"),
                project_id=project_id,
                name=name,
                state=DeploymentState.WAITING.value,
                detail="",
                wanted_revision=0,
                job_id=job_id,
            )
            .on_conflict_do_nothing(index_elements=["project_id", "name"], index_where=sa.text("state <> 'stopped'"))
        )
        made = await self._living(project_id, name)
        if made is None:
            raise DeploymentConflict(f"the deployment {name} was stopped at the same moment; deploy it again")
        return made

    async def _living(self, project_id: str, name: str) -> Deployment | None:
        """The deployment of that name that is not stopped, locked."""
        query = sa.select(Deployment).where(
            col(Deployment.project_id) == project_id,
            col(Deployment.name) == name,
            col(Deployment.state) != DeploymentState.STOPPED.value,
        )
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
        return (await self._session.execute(query)).scalar_one_or_none()

    async def _locked(self, project_id: str, name: str) -> Deployment:
        found = await self.require(project_id, name)
        return (await lock_deployments(self._session, [found.id]))[found.id]
