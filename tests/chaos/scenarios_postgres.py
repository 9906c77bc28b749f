"""PostgreSQL that crashes, is away, or ends connections in the middle of what they say."""

import asyncio
import time

from tests.chaos.scenario import require, scenario
from tests.chaos.world import World

ROWS = 64
OUTAGE_SECONDS = 60.0
HITS = 2
"""How often each statement is ended."""

_END_CONNECTION = """
CREATE FUNCTION chaos_end_connection() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A sequence keeps counting through the rollback that follows.
    IF current_setting('application_name') LIKE 'multifacet-%%' AND nextval(TG_ARGV[0]) <= TG_ARGV[1]::int THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF;
    RETURN NULL;
END $$
"""


def end_connections_at(world: World, *places: tuple[str, str]) -> None:
    """End the connection that says such a statement, the first HITS times. `places` are tables and operations."""
    if not world.value("SELECT count(*) FROM pg_proc WHERE proname = 'chaos_end_connection'"):
        world.execute(_END_CONNECTION)
    for table, operation in places:
        name = f"chaos_{table}_{operation.lower()}"
        world.execute(f"CREATE SEQUENCE {name}")
        world.execute(
            f"CREATE TRIGGER {name} AFTER {operation} ON {table} FOR EACH STATEMENT "
            f"EXECUTE FUNCTION chaos_end_connection('{name}', '{HITS}')"
        )


def end_connections_in_commit(world: World, table: str) -> None:
    """The same within the COMMIT of a transaction that inserted into `table`."""
    name = f"chaos_{table}_commit"
    world.execute(f"CREATE SEQUENCE {name}")
    world.execute(
        f"CREATE CONSTRAINT TRIGGER {name} AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
        f"EXECUTE FUNCTION chaos_end_connection('{name}', '{HITS}')"
    )


def ended(world: World) -> str:
    """How often connections were ended. Raises Broken where a place was never met."""
    names = [
        row[0] for row in world.rows("SELECT relname FROM pg_class WHERE relkind = 'S' AND relname LIKE 'chaos_%%'")
    ]
    struck = {
        name: world.value(f"SELECT CASE WHEN is_called THEN least(last_value, {HITS}) ELSE 0 END FROM {name}")
        for name in names
    }
    missed = sorted(name for name, count in struck.items() if count < HITS)
    require(not missed, f"nobody came by {', '.join(missed)}")
    return f"{sum(struck.values())} connections ended at {len(struck)} places"


@scenario("PostgreSQL stopped immediately, started again", family="postgres")
async def postgres_stopped_immediately(world: World) -> str:
    world.start_controller()
    world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    point = world.random.randint(1, 8)
    await world.until_successes(job.id, point)
    world.postgres.stop_immediately()
    await asyncio.sleep(world.random.uniform(0, 2))
    world.postgres.start()
    world.mark()
    await world.wait(job.id)
    return f"after {point} steps"


@scenario("PostgreSQL stopped immediately while answers are stored", family="postgres", handlers="real")
async def postgres_stopped_while_answers_are_stored(world: World) -> str:
    """Answers that came before are not asked again, those in memory are stored once it is back."""
    world.start_controller()
    world.start_worker()
    job = await world.submit(await world.real_spec(24))
    calls = world.random.randint(5, 80)
    await world.until_calls(calls, 120)
    world.postgres.stop_immediately()
    stopped_at = time.time()
    world.postgres.start()
    world.interrupted(stopped_at)
    world.mark()
    await world.wait(job.id, 240)
    return f"after {calls} calls"


@scenario("PostgreSQL away for 60 s", family="postgres", handlers="real")
async def postgres_outage(world: World) -> str:
    """Longer than the lease: attempts are given up, and what they were answered is kept."""
    world.start_controller()
    world.start_worker()
    job = await world.submit(await world.real_spec(24))
    calls = world.random.randint(5, 80)
    await world.until_calls(calls, 120)
    world.postgres_link.refuse()
    away_at = time.time()
    await asyncio.sleep(OUTAGE_SECONDS)
    world.postgres_link.open()
    world.interrupted(away_at)
    world.mark()
    await world.wait(job.id, 240)
    require(all(process.running for process in world.processes), "a process did not outlive the outage")
    return f"after {calls} calls"


@scenario("connections ended at each statement of a claim", family="postgres")
async def postgres_ends_claims(world: World) -> str:
    end_connections_at(
        world, ("attempt", "INSERT"), ("step", "UPDATE"), ("job", "UPDATE"), ("stage", "UPDATE"), ("event", "INSERT")
    )
    end_connections_in_commit(world, "attempt")
    world.start_controller()
    world.start_worker()
    job = await world.submit(world.toy_spec("toy", ROWS))
    await world.wait(job.id)
    return ended(world)


@scenario("connections ended at each statement of a commit", family="postgres")
async def postgres_ends_commits(world: World) -> str:
    """And of the controller's round: making steps, ringing, rolling up."""
    places = (
        ("attempt", "UPDATE"),
        ("artifact", "INSERT"),
        ("event", "INSERT"),
        ("step", "INSERT"),
        ("outbox", "INSERT"),
        ("outbox", "DELETE"),
    )
    end_connections_at(world, *places)
    end_connections_in_commit(world, "artifact")
    end_connections_in_commit(world, "outbox")
    world.start_controller()
    world.start_worker()
    job = await world.submit(world.toy_spec("toy", ROWS))
    await world.wait(job.id)
    return ended(world)


@scenario("connections ended as answers and costs are stored", family="postgres", handlers="real")
async def postgres_ends_flushes(world: World) -> str:
    """An answer is never stored half and never asked again."""
    end_connections_at(world, ("cached_completion", "INSERT"), ("usage", "INSERT"))
    end_connections_in_commit(world, "cached_completion")
    end_connections_in_commit(world, "usage")
    world.start_controller()
    world.start_worker()
    job = await world.submit(await world.real_spec(12))
    await world.wait(job.id, 240)
    answered = sum(call["status"] == 200 for call in world.simulator.calls())
    counted = world.value("SELECT sum(calls)::int FROM usage WHERE job_id = %s", job.id)
    require(counted == answered, f"{answered} calls were answered, {counted} are counted")
    return ended(world)


@scenario("COMMIT done, and the answer lost", family="postgres")
async def postgres_commit_unanswered(world: World) -> str:
    """Whoever asks again must find it done, not do it twice."""
    world.start_controller()
    world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    await world.until_successes(job.id, world.random.randint(0, 3))
    rule = world.postgres_link.cut_at(rb"COMMIT", moment="answer", times=20)
    await rule.hit(60 * world.pace)
    await world.wait(job.id)
    world.postgres_link.clear()
    return f"{rule.hits} answers lost"
