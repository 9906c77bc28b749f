"""Processes that are killed, stopped, frozen or out of memory."""

import asyncio
import os
import signal
from pathlib import Path

import httpx2
import psutil

from services.cli.embedded.state import StateFolder, SystemRecord
from tests.chaos.memory import MemoryLimit
from tests.chaos.scenario import require, scenario
from tests.chaos.world import Process, World

ROWS = 64
COLLECTION_STEPS = 13
"""Curation, and four shards of three row stages."""

TRAINING = {"name": "sft", "method": "sft", "base": {"random": "tiny-mistral"}}


def _point(world: World) -> int:
    """After how many finished steps the fault strikes: before the first, or with some still to come."""
    return world.random.randint(0, COLLECTION_STEPS - 3)


def _no_retry_used(world: World, job_id: str) -> None:
    query = "SELECT coalesce(sum(failures), 0)::int FROM step WHERE job_id = %s"
    require(world.value(query, job_id) == 0, "a fault that was not the step's own used up one of its tries")


@scenario("kill -9 of a worker", family="processes")
async def worker_killed(world: World) -> str:
    """Another worker takes over."""
    world.start_controller()
    worker = world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    point = _point(world)
    await world.until_successes(job.id, point)
    await asyncio.sleep(world.random.uniform(0, 1))
    world.kill(worker)
    world.start_worker()
    await world.wait(job.id)
    _no_retry_used(world, job.id)
    return f"after {point} steps, {_lost(world)} attempts lost"


def _lost(world: World) -> int:
    return int(world.value("SELECT count(*) FROM attempt WHERE state = 'lost'"))


@scenario("kill -9 of a worker amid LLM calls", family="processes", quick=True, handlers="real",
          plan={"default": {"latency_ms": 150, "jitter_ms": 100}})  # fmt: skip
async def worker_killed_amid_calls(world: World) -> str:
    """What was answered more than 100 ms before is not paid for again."""
    world.start_controller()
    worker = world.start_worker()
    job = await world.submit(await world.real_spec(12, stop_after="respond"))
    calls = world.random.randint(8, 50)
    await world.until_calls(calls)
    world.kill(worker)
    world.start_worker()
    await world.wait(job.id)
    return f"after {calls} calls"


@scenario("kill -9 of a worker, three times in one job", family="processes")
async def workers_killed_in_turn(world: World) -> str:
    world.start_controller()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    for kill in range(3):
        worker = world.start_worker()
        await world.until("SELECT count(*) > 0 FROM attempt WHERE state = 'running'")
        await world.until_successes(job.id, 3 * kill)
        await asyncio.sleep(world.random.uniform(0, 1))
        world.kill(worker)
    world.start_worker()
    await world.wait(job.id, 240)
    _no_retry_used(world, job.id)
    return f"{_lost(world)} attempts lost"


async def _child_of(world: World, worker: Process) -> psutil.Process:
    """The child process in which a whole step runs."""
    for _ in range(int(400 * world.pace)):
        for child in worker.children():
            try:
                if "shared.stages.child" in child.cmdline():
                    return child
            except psutil.Error:
                continue
        await asyncio.sleep(0.05)
    raise TimeoutError("no child process was seen")


@scenario("kill -9 of a training's child process", family="processes", environment={"TOY_STEP_SECONDS": "0.6"})
async def training_child_killed(world: World) -> str:
    """The training goes on from its last checkpoint."""
    world.start_controller()
    worker = world.start_worker()
    job = await world.submit(await world.upload_training("kept steps", TRAINING), compare=False)
    await world.until_running(job.id, "training")
    steps = world.random.randint(1, 3)
    shown = "SELECT count(*) >= %s FROM event WHERE job_id = %s AND type = 'train.metrics'"
    await world.until(shown, steps, job.id)
    child = await _child_of(world, worker)
    child.kill()
    world.mark()
    await world.wait(job.id)
    told = [
        row[0]
        for row in world.rows(
            "SELECT (data->>'step')::int FROM event WHERE job_id = %s AND type = 'train.metrics' ORDER BY sequence",
            job.id,
        )
    ]
    require(sorted(set(told)) == [1, 2, 3, 4, 5], f"steps of the training: {told}")
    require(len(told) <= 6, f"more than one step of the training was done again: {told}")
    _no_retry_used(world, job.id)
    return f"after {steps} of 5 steps; told {told}"


@scenario("kill -9 of the one-machine supervisor", family="processes")
async def supervisor_killed(world: World) -> str:
    """Its children live on; the next start ends them and goes on with the job."""
    folder = world.folder / "state"
    settings = {"MULTIFACET_STATE_FOLDER": str(folder)}
    arguments = ("services.cli", "serve")
    supervisor = world.start("supervisor", *arguments, **settings)
    system = await _started(world, supervisor, folder)
    async with httpx2.AsyncClient(base_url=system.api_url, timeout=30) as client:
        body = {
            "name": "a collection",
            "seed": 17,
            "sources": [{"bundled": "demo", "limit": 24}],
            "teacher": {"provider": "simulator", "model": "simulator-small"},
        }
        plan = {"default": {"latency_ms": 300, "jitter_ms": 200}}
        (await client.put(f"{system.simulator_url}/simulator/faults", json=plan)).raise_for_status()
        job_id = (await client.post("/v1/jobs", json=body)).raise_for_status().json()["id"]
    point = world.random.randint(1, 4)
    await world.until_successes(job_id, point)
    world.kill(supervisor)
    again = world.start("supervisor", *arguments, **settings)
    await _started(world, again, folder)
    world.mark()
    world.expect(job_id)
    await world.wait(job_id)
    return f"after {point} steps"


async def _started(world: World, supervisor: Process, folder: Path) -> SystemRecord:
    for _ in range(int(1200 * world.pace)):
        record = StateFolder(folder).record() if folder.exists() else None
        if record is not None and record.supervisor_pid == supervisor.pid:
            world.adopt(record.database_url, folder / "artifacts")
            return record
        require(supervisor.running, f"the supervisor ended: {supervisor.log.read_text(errors='replace')[-1500:]}")
        await asyncio.sleep(0.1)
    raise TimeoutError("the one-machine system did not start")


@scenario("kill -9 of the controller", family="processes")
async def controller_killed(world: World) -> str:
    controller = world.start_controller()
    world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    point = _point(world)
    await world.until_successes(job.id, point)
    await asyncio.sleep(world.random.uniform(0, 1))
    world.kill(controller)
    await asyncio.sleep(world.random.uniform(0, 2))
    world.start_controller()
    world.mark()
    await world.wait(job.id)
    require(_lost(world) == 0, f"{_lost(world)} attempts were lost with the controller")
    return f"after {point} steps"


@scenario("SIGTERM to a worker, grace long enough", family="processes")
async def worker_told_to_leave(world: World) -> str:
    """Rows under way are finished; the rest is given back unharmed."""
    world.start_controller()
    worker = world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    point = _point(world)
    await world.until_successes(job.id, point)
    await asyncio.sleep(world.random.uniform(0, 1))
    status = await world.stop(worker)
    require(status == 0, f"the worker left with {status}")
    require(_lost(world) == 0, "an attempt was lost though the worker left in order")
    world.mark()
    world.start_worker()
    await world.wait(job.id)
    _no_retry_used(world, job.id)
    given_back = world.value("SELECT count(*) FROM attempt WHERE state = 'preempted'")
    return f"after {point} steps, {given_back} attempts given back"


@scenario("SIGTERM to a worker, killed before its grace is over", family="processes")
async def worker_not_given_its_grace(world: World) -> str:
    world.start_controller()
    worker = world.start_worker(TOY_ROW_SECONDS="0.6", MULTIFACET_CANCEL_GRACE_SECONDS="60")
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    point = world.random.randint(1, 6)
    await world.until_successes(job.id, point)
    world.signal(worker, signal.SIGTERM)
    await asyncio.sleep(world.random.uniform(0, 0.4))
    world.kill(worker)
    world.start_worker()
    await world.wait(job.id)
    _no_retry_used(world, job.id)
    return f"after {point} steps"


@scenario("a worker frozen for longer than its lease", family="processes")
async def worker_frozen(world: World) -> str:
    """Another one takes its steps; when it wakes up it must write nothing."""
    world.start_controller()
    frozen = world.start_worker(TOY_ROW_SECONDS="0.5")
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    await world.until_running(job.id, world.random.choice(("augmentation", "composition", "generation")))
    held = "SELECT array_agg(attempt.id) FROM attempt WHERE state = 'running'"
    world.freeze(frozen)
    attempts = world.value(held) or []
    world.start_worker()
    await world.until("SELECT count(*) = 0 FROM attempt WHERE id = ANY(%s) AND state = 'running'", attempts)
    world.thaw(frozen)
    await world.wait(job.id)
    fates = world.rows("SELECT id, state FROM attempt WHERE id = ANY(%s)", attempts)
    require(all(state == "lost" for _, state in fates), f"attempts of the frozen worker: {fates}")
    written = world.value("SELECT count(*) FROM artifact WHERE attempt_id = ANY(%s)", attempts)
    require(written == 0, f"the frozen worker wrote {written} artifacts after its lease")
    _no_retry_used(world, job.id)
    return f"{len(attempts)} attempts fenced"


@scenario("a child process out of memory once", family="processes")
async def child_out_of_memory_once(world: World) -> str:
    """The step runs again, on the infrastructure's budget."""
    world.start_controller()
    worker = world.start_worker()
    job = await world.submit(world.toy_spec("sleep until killed", 16), expect="succeeded|cancelled", compare=False)
    child = await _child_of(world, worker)
    os.kill(child.pid, signal.SIGKILL)  # what the kernel does to it
    world.mark()
    await world.until("SELECT losses = 1 AND failures = 0 FROM step WHERE job_id = %s", job.id)
    await world.until_running(job.id, "curation")
    await world.cancel(job.id)
    await world.wait(job.id)
    return ""


@scenario("a child process out of memory each time: poisoned after three", family="processes")
async def child_out_of_memory_always(world: World) -> str:
    """The memory of the worker and its children is limited, where this machine lets us; the kernel kills the child, not the
    worker."""
    world.start_controller()
    worker = world.start_worker()
    with MemoryLimit(world.name, 700 << 20) as limit:
        limit.hold(worker.pid)
        name = "hungry" if limit.works else "crash"
        job = await world.submit(world.toy_spec(f"{name} rows", 16), expect="failed")
        await world.wait(job.id)
    require(worker.running, "the worker died with its child")
    error = world.value("SELECT error FROM job WHERE id = %s", job.id)
    require(error["code"] == "poisoned", f"the job failed with {error}")
    tries = world.value("SELECT count(*) FROM attempt")
    require(tries == 3, f"{tries} tries")
    return "the kernel killed it" if limit.works else "memory cannot be limited here: it killed itself with SIGKILL"


@scenario("a training that dies after every step", family="processes")
async def training_that_crashes(world: World) -> str:
    """Each try gets one step further, so it is not poisoned, and comes to its end."""
    world.start_controller()
    world.start_worker(roles="training")
    world.start_worker(roles="curation,augmentation,composition,generation")
    job = await world.submit(await world.upload_training("crash after each step", TRAINING), compare=False)
    await world.wait(job.id)
    tries = world.value("SELECT count(*) FROM attempt JOIN step ON step.id = step_id WHERE queue = 'training'")
    require(tries == 5, f"{tries} tries for 5 steps")
    return f"{tries} tries"
