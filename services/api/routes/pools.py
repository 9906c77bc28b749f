"""Pools of workers: what waits, who works, how many are wanted; telling workers to leave."""

from fastapi import APIRouter

from services.api.authentication import Administrator, Reader
from services.api.pool_views import DrainAnswer, DrainRequest, GroupView, PoolsView, PoolView, WorkerView
from services.api.problems import not_found
from services.api.routes.common import problems
from services.api.state import State
from shared.domain.plan import SERVICES
from shared.metadata.repositories.pools import PoolRepository
from shared.metadata.repositories.workers import WorkerRepository

router = APIRouter(prefix="/v1/pools", tags=["pools"])


@router.get("", operation_id="read_pools", responses=problems())
async def read_pools(_caller: Reader, state: State) -> PoolsView:
    """Every pool with its demand, the live workers, and what the autoscaler wants and has of each group of containers. Projects
    share the workers."""
    async with state.transaction() as session:
        repository = PoolRepository(session)
        demand, workers, groups = await repository.demand(), await repository.workers(), await repository.groups()
    return PoolsView(
        pools=[
            PoolView(
                pool=pool.pool,
                ready=pool.ready,
                running=pool.running,
                slots=pool.slots,
                workers=sum(pool.pool in worker.roles and not worker.draining for worker in workers),
            )
            for pool in demand
        ],
        groups=[GroupView.model_validate(group) for group in groups],
        workers=[WorkerView.model_validate(worker) for worker in workers],
    )


@router.post("/{pool}/drain", status_code=202, operation_id="drain_pool", responses=problems(404, 413, 415))
async def drain_pool(pool: str, wanted: DrainRequest, _caller: Administrator, state: State) -> DrainAnswer:
    """Tell the pool's workers, or one of them, to finish what they run, take nothing more and leave. They hear of it at once or
    with their next heartbeat. What waits is for others: an autoscaler starts new ones."""
    if pool not in SERVICES:
        raise not_found("pool", pool)
    async with state.transaction() as session:
        known = {worker.id for worker in await PoolRepository(session).workers() if pool in worker.roles}
        if wanted.worker is not None and wanted.worker not in known:
            raise not_found("worker", wanted.worker)
        told = await WorkerRepository(session).request_drain([pool], wanted.worker)
    return DrainAnswer(workers=told)
