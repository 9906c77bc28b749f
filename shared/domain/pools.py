"""How many workers a group of containers should have running: pure, so that every case can be tested.

A pool is a queue: the steps of one service. A group is a set of containers (or processes) that all serve the same roles, so it
answers for the pools of those roles together.
"""

import math
from collections.abc import Collection, Iterable

import msgspec

FAILURES_BEFORE_PAUSE = 3
FIRST_PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 900.0


class PoolDemand(msgspec.Struct, frozen=True):
    """One row of the view `pool_demand`: steps that could run now, steps that run, slots of live workers that take steps."""

    pool: str
    ready: int
    running: int
    slots: int


def desired_workers(
    demand: Iterable[PoolDemand],
    roles: Collection[str],
    *,
    steps_per_worker: int,
    minimum: int,
    maximum: int,
) -> int:
    """Workers for all steps of these roles that are ready or run, within the bounds."""
    steps = sum(pool.ready + pool.running for pool in demand if pool.pool in roles)
    return max(minimum, min(maximum, math.ceil(steps / steps_per_worker)))


def without_free_slot(demand: Iterable[PoolDemand], roles: Collection[str]) -> bool:
    """Whether steps of one of these roles wait and no live worker has room for them: each works at something long, or drains."""
    return any(pool.ready > 0 and pool.running >= pool.slots for pool in demand if pool.pool in roles)


def within_free_gpus(desired: int, running: int, free_gpus: int | None, gpus_per_worker: int) -> int:
    """No more workers than those that run and those that the free GPUs could feed: another would only wait for a GPU that a model
    server or a training has. `free_gpus` None: it is not known how many there are."""
    if free_gpus is None:
        return desired
    return min(desired, running + free_gpus // gpus_per_worker)


def pause_seconds(failures: int) -> float:
    """How long nothing is started after so many failed starts in a row: none at first, then doubling to a quarter of an hour."""
    if failures < FAILURES_BEFORE_PAUSE:
        return 0.0
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (failures - FAILURES_BEFORE_PAUSE))
