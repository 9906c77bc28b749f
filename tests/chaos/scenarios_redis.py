"""Redis gone, empty, deaf and full: it carries doorbells and permits, and both are made again."""

import asyncio
import time

from tests.chaos.scenario import require, scenario
from tests.chaos.world import World

ROWS = 32


async def _job_under_way(world: World) -> str:
    world.start_controller()
    world.start_worker()
    # A step for each row: doorbells are rung all the time.
    job = await world.submit(world.toy_spec("many slow rows", ROWS))
    await world.until_successes(job.id, world.random.randint(0, ROWS))
    await asyncio.sleep(world.random.uniform(0, 1))
    return job.id


async def _ended_unharmed(world: World, job_id: str) -> None:
    await world.wait(job_id)
    query = "SELECT sum(failures)::int, sum(losses)::int FROM step WHERE job_id = %s"
    (counts,) = world.rows(query, job_id)
    require(counts == (0, 0), f"steps were failed or lost with Redis: {counts}")


@scenario("Redis killed, back empty", family="redis", quick=True)
async def redis_killed(world: World) -> str:
    job_id = await _job_under_way(world)
    away = world.random.uniform(0.5, 4)
    world.redis.kill()
    await asyncio.sleep(away)
    await asyncio.to_thread(world.redis.start)
    world.mark()
    await _ended_unharmed(world, job_id)
    return f"away for {away:.1f} s"


@scenario("FLUSHALL, five times in one job", family="redis")
async def redis_flushed(world: World) -> str:
    job_id = await _job_under_way(world)
    for _ in range(5):
        world.redis.flush()
        world.mark()
        await asyncio.sleep(world.random.uniform(0.1, 1.5))
    await _ended_unharmed(world, job_id)
    return ""


@scenario("Redis frozen for longer than a lease", family="redis")
async def redis_frozen(world: World) -> str:
    """The kernel still takes connections, nobody answers: leases are kept in PostgreSQL, so no step is lost."""
    job_id = await _job_under_way(world)
    world.redis.freeze()
    await asyncio.sleep(2 * world.lease_seconds)
    world.redis.thaw()
    world.mark()
    await _ended_unharmed(world, job_id)
    return f"{2 * world.lease_seconds:.0f} s"


@scenario("Redis busy: DEBUG SLEEP", family="redis")
async def redis_busy(world: World) -> str:
    job_id = await _job_under_way(world)
    await asyncio.to_thread(world.redis.sleep, 1.5 * world.lease_seconds)
    world.mark()
    await _ended_unharmed(world, job_id)
    return f"{1.5 * world.lease_seconds:.0f} s"


@scenario("Redis at its maxmemory", family="redis")
async def redis_full(world: World) -> str:
    """Writes are refused; doorbells wait in the outbox."""
    job_id = await _job_under_way(world)
    world.redis.limit_memory(1)  # less than it has already
    await world.until("SELECT count(*) > 0 FROM outbox WHERE created_at < now() - interval '1 second'")
    waiting = world.value("SELECT count(*) FROM outbox")
    world.redis.limit_memory(0)
    world.mark()
    await _ended_unharmed(world, job_id)
    return f"{waiting} doorbells waited"


@scenario("Redis killed amid LLM calls", family="redis", handlers="real", plan={"default": {"latency_ms": 150}})
async def redis_killed_amid_calls(world: World) -> str:
    """Permits are shared out without it until it is back."""
    world.start_controller()
    world.start_worker()
    job = await world.submit(await world.real_spec(12, stop_after="respond"))
    calls = world.random.randint(5, 40)
    await world.until_calls(calls)
    world.redis.kill()
    before, started = len(world.simulator.calls()), time.monotonic()

    def made() -> int:
        return len(world.simulator.calls()) - before

    # Steps that run go on calling; where they were about to end, the next ones are rung for once Redis is back.
    while made() < 4 and await asyncio.to_thread(world.value, "SELECT count(*) FROM attempt WHERE state = 'running'"):
        require(time.monotonic() - started < 60 * world.pace, f"steps run and made {made()} calls without Redis")
        await asyncio.sleep(0.05)
    more, seconds = made(), time.monotonic() - started
    await asyncio.to_thread(world.redis.start)
    world.mark()
    await world.wait(job.id)
    return f"after {calls} calls; {more} more within {seconds:.1f} s without Redis"
