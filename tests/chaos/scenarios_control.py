"""The control plane: doorbells of all kinds, several controllers, cancels that race, wrong clocks, everything at once."""

import asyncio
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from celery import Celery

from shared.queue.celery_app import RUN_STEP, create_app
from tests.chaos.scenario import require, scenario
from tests.chaos.world import WORKER_ROLES, JobEnded, World

ROWS = 64
QUEUES = WORKER_ROLES.split(",")


def _celery(world: World) -> Celery:
    return create_app(world.redis.url, QUEUES)


@scenario("doorbells twice, out of order, stale and from the future", family="doorbells")
async def doorbells_repeated(world: World) -> str:
    """Each step runs once all the same."""
    world.start_controller()
    world.start_worker()
    world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    app = _celery(world)
    rung = 0
    try:
        while world.value("SELECT state FROM job WHERE id = %s", job.id) in ("queued", "running"):
            bells = [
                (step, number, queue)
                for step, dispatched, queue in world.rows(
                    "SELECT id, dispatch_no, queue FROM step WHERE job_id = %s", job.id
                )
                for number in (dispatched, dispatched, max(0, dispatched - 1), dispatched + 1)
            ]
            world.random.shuffle(bells)
            with app.producer_or_acquire() as producer:
                for step, number, queue in bells[:40]:
                    app.send_task(
                        RUN_STEP,
                        kwargs={"step_id": step, "dispatch_no": number},
                        queue=queue,
                        producer=producer,
                        ignore_result=True,
                    )
                    rung += 1
            await asyncio.sleep(world.random.uniform(0.2, 0.6))
    finally:
        app.close()
    await world.wait(job.id)
    attempts = world.rows("SELECT step_id, count(*) FROM attempt GROUP BY step_id HAVING count(*) > 1")
    require(not attempts, f"steps ran more than once: {attempts}")
    return f"{rung} doorbells too many"


def _garbage(world: World, app: Celery) -> list[bytes]:
    """Messages that no controller sends, in and out of Celery's envelope."""
    captured: list[bytes] = []
    calls: list[tuple[str, dict[str, Any]]] = [
        ("multifacet.nothing", {"step_id": "step_1", "dispatch_no": 1}),
        (RUN_STEP, {}),
        (RUN_STEP, {"step_id": None, "dispatch_no": "one"}),
        (RUN_STEP, {"step_id": "step_that_nobody_has", "dispatch_no": 1}),
        (RUN_STEP, {"step_id": "x" * 100_000, "dispatch_no": -1}),
        (RUN_STEP, {"step_id": "step\x00with a null", "dispatch_no": 2**70}),
        (RUN_STEP, {"step_id": "step_1", "dispatch_no": 1, "more": []}),
    ]
    client = world.redis.client
    for name, kwargs in calls:
        app.send_task(name, kwargs=kwargs, queue="garbage", ignore_result=True)
    while (message := client.rpop("garbage")) is not None:
        captured.append(message)
    whole = orjson.loads(captured[0])
    captured += [
        b"",
        b"garbage",
        b"\x00\xff\xfe",
        b"{}",
        b"[]",
        b"null",
        orjson.dumps({**whole, "body": "not base64!"}),
        orjson.dumps({**whole, "content-type": "application/x-python-serialize"}),
        orjson.dumps({**whole, "headers": {}}),
        orjson.dumps({**whole, "properties": {}}),
        captured[0][: len(captured[0]) // 2],
    ]
    return captured


@scenario("garbage in the queues", family="doorbells")
async def doorbells_garbage(world: World) -> str:
    """The worker lives on and does its work."""
    world.start_controller()
    worker = world.start_worker()
    app = _celery(world)
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    await world.until_running(job.id, "augmentation")
    garbage = _garbage(world, app)
    world.random.shuffle(garbage)
    client = world.redis.client
    for message in garbage:
        client.lpush(world.random.choice(QUEUES), message)
        await asyncio.sleep(0.05)
    app.close()
    world.mark()
    await world.wait(job.id, 240)
    require(worker.running, "the worker died of garbage")
    return f"{len(garbage)} messages"


@scenario("doorbells lost on the way", family="doorbells")
async def doorbells_lost(world: World) -> str:
    """They are rung again."""
    world.start_controller()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    world.start_worker()
    client = world.redis.client
    lost = 0
    deadline = time.monotonic() + 6 * world.pace
    while time.monotonic() < deadline:
        queue = world.random.choice(QUEUES)
        lost += client.llen(queue)
        client.delete(queue)
        await asyncio.sleep(0.02)
    world.mark()
    await world.wait(job.id, 240)
    return f"{lost} doorbells taken away"


@scenario("two controllers, leaders killed in turn", family="controllers")
async def controllers_in_turn(world: World) -> str:
    controllers = [world.start_controller(), world.start_controller()]
    world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    for turn in range(3):
        await world.until_successes(job.id, 1 + 2 * turn)
        await asyncio.sleep(world.random.uniform(0, 1))
        world.kill(controllers.pop(0))
        controllers.append(world.start_controller())
    await world.wait(job.id)
    return ""


LEADER = (
    "SELECT activity.pid FROM pg_locks JOIN pg_stat_activity AS activity USING (pid) "
    "WHERE locktype = 'advisory' AND granted AND application_name = 'multifacet-controller' LIMIT 1"
)


@scenario("two controllers, the leader frozen", family="controllers")
async def leader_frozen(world: World) -> str:
    """The other one leads within a lease, and the first, when it wakes up, does no harm."""
    first = world.start_controller()
    await world.until(f"SELECT count(*) = 1 FROM ({LEADER}) AS leader")
    session = world.value(LEADER)
    world.start_controller()
    world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    await world.until_successes(job.id, world.random.randint(1, 4))
    world.freeze(first)
    started = time.monotonic()
    await world.until(f"SELECT count(*) = 1 FROM ({LEADER}) AS leader WHERE pid <> %s", session)
    seconds = time.monotonic() - started
    world.mark()
    await world.until_successes(job.id, 8)
    world.signal(first, signal.SIGCONT)
    await world.wait(job.id)
    return f"another one led after {seconds:.1f} s; the lease is {world.lease_seconds:.0f} s"


@scenario("cancel in every state", family="cancel", quick=True)
async def cancel_races(world: World) -> str:
    """A dozen jobs, each cancelled at a drawn moment between submission and its end."""
    world.start_controller()
    world.start_worker(MULTIFACET_WORKER_SLOTS="4", TOY_ROW_SECONDS="0.2")
    seen: dict[str, int] = {}

    async def one(number: int) -> None:
        job = await world.submit(world.toy_spec(f"slow race {number}", 16), expect="cancelled|succeeded")
        states = ("queued", "curation", "augmentation", "composition", "generation", "last")
        wanted = states[number % len(states)]
        with suppress(JobEnded):  # a step so short may pass between two looks; told below
            if wanted in QUEUES:
                await world.until_running(job.id, wanted)
            elif wanted == "last":
                await world.until_successes(job.id, 3)
            await asyncio.sleep(world.random.uniform(0, 0.6))
        state = world.value("SELECT state FROM job WHERE id = %s", job.id)
        if state == "succeeded":
            seen["too late"] = seen.get("too late", 0) + 1
            return
        await asyncio.gather(*(world.try_cancel(job.id) for _ in range(2)))
        ended = await world.wait(job.id)
        seen[ended.state] = seen.get(ended.state, 0) + 1
        if ended.state == "cancelled":
            taken = (ended.settled_at - ended.cancel_requested_at).total_seconds()  # type: ignore[operator]
            longest = world.lease_seconds / 4 + 1.5 * world.pace + 8 * world.pace
            require(
                taken <= longest, f"a cancel took {taken:.1f} s, more than a heartbeat and the grace ({longest:.1f} s)"
            )

    await asyncio.gather(*(one(number) for number in range(12)))
    require(seen.get("cancelled", 0) >= 3, f"too few jobs were cancelled to say anything: {seen}")
    return ", ".join(f"{count} {state}" for state, count in sorted(seen.items()))


_LIBRARIES = tuple(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


def _clock(seconds: int) -> tuple[tuple[str, ...], dict[str, str]]:
    """How a process is started under a shifted clock: words before its command, and environment."""
    if _LIBRARIES:
        return (), {"LD_PRELOAD": str(_LIBRARIES[0]), "FAKETIME": f"{seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return ("tests.chaos.shifted_clock", str(seconds)), {}


@scenario("clocks of controller and worker wrong by an hour", family="clocks")
async def clocks_shifted(world: World) -> str:
    """One is ahead, the other behind: every time that counts is PostgreSQL's."""
    hour = 3600 * world.random.choice((-1, 1))
    for name, seconds, arguments in (
        ("controller", hour, ("services.controller",)),
        ("worker", -hour, world.worker_arguments(WORKER_ROLES)),
    ):
        words, environment = _clock(seconds)
        world.start(name, *words, *arguments, **environment)
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    await world.wait(job.id)
    query = "SELECT sum(failures)::int, sum(losses)::int, max(abs(extract(epoch FROM now() - finished_at)))::float FROM step"
    ((failures, losses, oldest),) = world.rows(query)
    require((failures, losses) == (0, 0), f"{failures} tries failed, {losses} were lost")
    times = ("started_at", "ended_at", "lease_until")
    for column in times:
        off = world.value(f"SELECT max(abs(extract(epoch FROM now() - {column})))::float FROM attempt")
        require(off < 1800, f"attempt.{column} is {off:.0f} s from PostgreSQL's time")
    require(oldest < 1800, f"step.finished_at is {oldest:.0f} s from PostgreSQL's time")
    how = "libfaketime" if _LIBRARIES else "a clock shifted within Python"
    return f"controller {hour:+d} s, worker {-hour:+d} s, by {how}"


@scenario("a storm: workers, controller and Redis in drawn order", family="storm")
async def storm(world: World) -> str:
    controller, workers = world.start_controller(), [world.start_worker(), world.start_worker()]
    job = await world.submit(world.toy_spec("slow rows", 96))
    told = []
    for _ in range(8):
        await asyncio.sleep(world.random.uniform(0.3, 1.5) * world.pace)
        fault = world.random.choice(("worker", "controller", "flush", "redis"))
        told.append(fault)
        match fault:
            case "worker":
                world.kill(workers.pop(world.random.randrange(2)))
                workers.append(world.start_worker())
            case "controller":
                world.kill(controller)
                controller = world.start_controller()
            case "flush":
                world.redis.flush()
            case "redis":
                world.redis.kill()
                await asyncio.to_thread(world.redis.start)
    world.mark()
    await world.wait(job.id, 300)
    return ", ".join(told)
