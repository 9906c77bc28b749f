"""Processes that are killed, stopped, frozen or out of memory."""

from tests.chaos.scenario import require, scenario
from tests.chaos.world import World

ROWS = 64


@scenario("kill -9 of a worker", family="processes", quick=True)
async def worker_killed(world: World) -> str:
    """At a drawn point of the job; another worker takes over."""
    world.start_controller()
    worker = world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    point = world.random.randint(1, 8)
    await world.until_successes(job.id, point)
    world.kill(worker)
    world.start_worker()
    await world.wait(job.id)
    lost = world.value("SELECT count(*) FROM attempt WHERE state = 'lost'")
    require(world.value("SELECT bool_and(failures = 0) FROM step WHERE job_id = %s", job.id), "a kill used up a retry")
    return f"after {point} steps, {lost} attempts lost"
