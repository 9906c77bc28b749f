"""Duties: give waiting deployments places on model servers, notice launchers that fell silent, stop what ended jobs deployed."""

import structlog

from services.controller.state import ControllerState
from shared.metadata.repositories.gpu_slots import GpuSlotRepository
from shared.metadata.repositories.model_servers import LauncherTerms, ModelServerRepository

_log = structlog.get_logger(__name__)


def _terms(state: ControllerState) -> LauncherTerms:
    return LauncherTerms(state.settings.launcher_lease_seconds, state.settings.gpu_lease_seconds)


async def place_waiting(state: ControllerState) -> None:
    """Give every deployment without a place a free one of its kind, the oldest first."""
    async with state.sessions() as session:
        waiting = await ModelServerRepository(session, _terms(state)).unplaced()
    for deployment_id in waiting:
        async with state.sessions() as session, session.begin():
            if await ModelServerRepository(session, _terms(state)).place(deployment_id):
                _log.info("deployment_placed", deployment_id=deployment_id)


async def notice_lost(state: ControllerState) -> None:
    """Deployments of launchers that are silent or leave wait for them, or for another place."""
    async with state.sessions() as session:
        lost = await ModelServerRepository(session, _terms(state)).lost()
    for server_id in lost:
        async with state.sessions() as session, session.begin():
            await ModelServerRepository(session, _terms(state)).lose(server_id)


async def stop_of_ended_jobs(state: ControllerState) -> None:
    """A job's own deployments end with it."""
    async with state.sessions() as session, session.begin():
        stopped = await ModelServerRepository(session, _terms(state)).stop_of_ended_jobs()
    if stopped:
        _log.info("deployments_of_jobs_stopped", count=stopped)


async def expire_gpus(state: ControllerState) -> None:
    """Free GPUs whose holder did not prolong its lease."""
    async with state.sessions() as session, session.begin():
        freed = await GpuSlotRepository(session).expire()
    if freed:
        _log.warning("gpu_leases_expired", count=freed)
