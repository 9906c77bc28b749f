"""Half-open connections: a cable is pulled, both sides keep what they have, and nothing ever comes."""

import asyncio
import time

from tests.chaos.link import Link
from tests.chaos.scenario import require, scenario
from tests.chaos.scenarios_store import PUT_OF_A_MANIFEST
from tests.chaos.world import World

ROWS = 48
PATIENCE_SECONDS = 4.0
_PATIENT = {"MULTIFACET_DATABASE_PATIENCE_SECONDS": str(PATIENCE_SECONDS), "MULTIFACET_S3_TIMEOUT_SECONDS": "5"}


async def _held(world: World, link: Link, seconds: float) -> str:
    """At a drawn point everything on that link falls silent for good; new connections pass again after so long."""
    world.start_controller()
    world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    point = world.random.randint(1, 6)
    await world.until_successes(job.id, point)
    link.hold()
    await asyncio.sleep(seconds * world.pace)
    link.open()
    world.mark()
    await world.wait(job.id, 180)
    return f"after {point} steps"


@scenario("half-open TCP to PostgreSQL", family="network", environment=_PATIENT)
async def network_postgres_half_open(world: World) -> str:
    """Worker and controller give their silent connections up and go on with others, in the same processes."""
    remark = await _held(world, world.postgres_link, 2.0)
    require(all(process.running for process in world.processes), "a process did not outlive it")
    return remark


@scenario("half-open TCP to Redis", family="network", environment=_PATIENT)
async def network_redis_half_open(world: World) -> str:
    """The worker hears doorbells again though its old connection is silent for good."""
    remark = await _held(world, world.redis_link, 4.0)
    require(all(process.running for process in world.processes), "a process did not outlive it")
    return remark


@scenario("half-open TCP to the store", family="network", environment=_PATIENT)
async def network_store_half_open(world: World) -> str:
    return await _held(world, world.store_link, 4.0)


@scenario("half-open TCP to the store while a worker dies", family="network", environment=_PATIENT)
async def network_store_half_open_and_a_death(world: World) -> str:
    """A store that says nothing holds up the manifest that waits for it, and no other duty of the controller."""
    world.start_controller()
    worker = world.start_worker()
    first = await world.submit(world.toy_spec("many slow rows", ROWS))
    await world.until_running(first.id, "augmentation")
    put = world.store_link.cut_at(PUT_OF_A_MANIFEST)
    second = await world.submit(world.toy_spec("fast", 16))
    await put.hit(60 * world.pace)
    world.store_link.hold()
    await asyncio.sleep(3 * world.pace)  # the manifest is put again, and nobody answers
    world.kill(worker)
    noticed = "SELECT count(*) > 0 FROM attempt WHERE state = 'lost'"
    await world.until(noticed, seconds=world.lease_seconds / world.pace + 10)
    world.store_link.open()
    world.mark()
    world.start_worker()
    await world.wait(first.id, 180)
    await world.wait(second.id, 180)
    return "the death was noticed while the store said nothing"


@scenario("half-open TCP to the LLM", family="network", handlers="real")
async def network_llm_half_open(world: World) -> str:
    """Calls that are never answered end by their time; what was answered is not asked again."""
    world.start_controller()
    world.start_worker()
    job = await world.submit(await world.real_spec(12))
    calls = world.random.randint(5, 40)
    await world.until_calls(calls, 120)
    held_at = time.time()
    world.llm_link.hold()
    await asyncio.sleep(3 * world.pace)
    world.llm_link.open()
    world.interrupted(held_at)
    world.mark()
    await world.wait(job.id, 240)
    return f"after {calls} calls"
