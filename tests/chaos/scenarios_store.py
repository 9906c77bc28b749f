"""An object store that dies in the middle of what it is told, and bytes that change on the way and at rest."""

import asyncio
import random
import signal
from pathlib import Path

from shared.metadata.repositories.jobs import JobRepository
from tests.chaos.link import Cut
from tests.chaos.scenario import require, scenario
from tests.chaos.world import PROJECT, World

ROWS = 64
_PATIENT = {"MULTIFACET_S3_TIMEOUT_SECONDS": "5"}

PUT_OF_A_PART = rb"PUT /multifacet/artifacts/[^ ]*/part-"
PUT_OF_AN_UPLOAD = rb"PUT /multifacet/[^ ]*uploadId="
END_OF_AN_UPLOAD = rb"POST /multifacet/[^ ]*uploadId="
PUT_OF_A_MANIFEST = rb"PUT /multifacet/artifacts/[^ ]*/manifest\.json"
GET_OF_A_PART = rb"GET /multifacet/artifacts/[^ ]*/part-"
COMMIT_OF_A_STEP = rb"UPDATE attempt SET state = 'succeeded'"


def kill_store(world: World) -> None:
    """kill -9, from any thread, without waiting."""
    world.store_server.signal(signal.SIGKILL)


async def store_back(world: World, rule: Cut) -> None:
    """Once the rule has killed the store: let everybody meet its absence, then start it on the files that it left."""
    await rule.hit(90 * world.pace)
    await asyncio.sleep(world.random.uniform(0.2, 3.0))
    await asyncio.to_thread(world.store_server.kill)
    await asyncio.to_thread(world.store_server.start)
    world.mark()


async def killed_at(world: World, pattern: bytes, *, name: str = "slow rows", after_bytes: int = 0) -> None:
    """A job during which the store dies at the first request of that kind after a drawn number of steps."""
    world.start_controller()
    world.start_worker()
    job = await world.submit(world.toy_spec(name, ROWS, stop_after=None))
    await world.until_successes(job.id, world.random.randint(0, 4))
    rule = world.store_link.cut_at(pattern, after_bytes=after_bytes, action=lambda: kill_store(world))
    await store_back(world, rule)
    await world.wait(job.id, 180)


@scenario("store killed, started again on its files", family="store", quick=True, environment=_PATIENT)
async def store_killed(world: World) -> str:
    world.start_controller()
    world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    point = world.random.randint(1, 8)
    await world.until_successes(job.id, point)
    world.store_server.kill()
    await asyncio.sleep(world.random.uniform(1, 4))
    world.store_server.start()
    world.mark()
    await world.wait(job.id, 180)
    return f"after {point} steps"


@scenario("store killed in a PUT", family="store", environment=_PATIENT)
async def store_killed_at_put(world: World) -> str:
    """Of the object a drawn part has gone through."""
    after_bytes = world.random.choice((0, world.random.randint(1, 4000)))
    await killed_at(world, PUT_OF_A_PART, after_bytes=after_bytes)
    return f"after {after_bytes} bytes"


@scenario("store killed in an upload in parts", family="store", environment=_PATIENT)
async def store_killed_in_an_upload(world: World) -> str:
    """In one of the parts, or as they are put together."""
    pattern = world.random.choice((PUT_OF_AN_UPLOAD, PUT_OF_AN_UPLOAD, END_OF_AN_UPLOAD))
    after_bytes = world.random.randint(0, 2 << 20) if pattern == PUT_OF_AN_UPLOAD else 0
    await killed_at(world, pattern, name="heavy", after_bytes=after_bytes)
    return f"after {after_bytes} bytes of a part" if after_bytes else "at the start of a part or at the end"


@scenario("store killed at a stage's manifest", family="store", environment=_PATIENT)
async def store_killed_at_the_manifest(world: World) -> None:
    """The stage succeeds once the manifest stands."""
    await killed_at(world, PUT_OF_A_MANIFEST)


@scenario("store killed between upload and commit", family="store", environment=_PATIENT)
async def store_killed_at_commit(world: World) -> None:
    """What the commit names is on the disk."""
    world.start_controller()
    world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    rule = world.postgres_link.cut_at(COMMIT_OF_A_STEP, action=lambda: kill_store(world))
    await store_back(world, rule)
    await world.wait(job.id, 180)


@scenario("bytes flipped on the wire, both ways", family="store", environment=_PATIENT)
async def store_bytes_flip_on_the_wire(world: World) -> str:
    """What came wrong is fetched again, what arrived wrong is refused by the store and sent again."""
    flips = Flips(world.random)
    world.start_controller()
    world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    await world.until_successes(job.id, 1)
    world.store_link.rewrite = flips.answer
    world.store_link.rewrite_request = flips.request
    await world.until_successes(job.id, 1 + world.random.randint(2, 6))
    world.store_link.clear()
    world.mark()
    await world.wait(job.id, 180)
    require(flips.answers and flips.requests, f"{flips.answers} answers and {flips.requests} requests were changed")
    return f"{flips.answers} answers and {flips.requests} requests changed"


class Flips:
    """Flips a bit in a few tables on their way."""

    MOST = 2

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.answers = self.requests = 0

    def answer(self, data: bytes) -> bytes:
        if self.answers >= self.MOST or b"PAR1" not in data:
            return data
        self.answers += 1
        return self._flipped(data)

    def request(self, data: bytes) -> bytes:
        if self.requests >= self.MOST or b"PAR1" not in data or data.startswith((b"GET", b"HEAD")):
            return data
        self.requests += 1
        return self._flipped(data)

    def _flipped(self, data: bytes) -> bytes:
        """In the table itself: what is before belongs to the request."""
        position = self._chance.randrange(data.index(b"PAR1"), len(data))
        return data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]


@scenario("answers of the store cut off", family="store", environment=_PATIENT)
async def store_answers_cut_off(world: World) -> str:
    world.start_controller()
    world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    await world.until_successes(job.id, 1)
    rule = world.store_link.cut_at(GET_OF_A_PART, moment="answer", after_bytes=world.random.randint(1, 2000), times=3)
    await rule.hit(60 * world.pace)
    await world.wait(job.id, 180)
    return f"{rule.hits} times"


async def changed_at_rest(world: World, change: str) -> str:
    """A part of a finished stage rots. The job says so and fails; with the part as it was, a retry ends it."""
    world.start_controller()
    curating = world.start_worker("curation")
    job = await world.submit(world.toy_spec("toy", ROWS, stop_after=None))
    await world.until(
        "SELECT count(*) > 0 FROM stage WHERE job_id = %s AND name = 'curate' AND state = 'succeeded'", job.id
    )
    key = world.value(
        "SELECT key FROM artifact WHERE job_id = %s AND stage = 'curate' AND name LIKE 'part-%%' LIMIT 1", job.id
    )
    path: Path = world.store_server.objects / key
    before = path.read_bytes()
    match change:
        case "flipped":
            position = world.random.randrange(len(before))
            path.write_bytes(before[:position] + bytes([before[position] ^ 1]) + before[position + 1 :])
        case "truncated":
            path.write_bytes(before[: world.random.randrange(len(before))])
        case _:
            path.unlink()
    world.start_worker("augmentation,composition,generation")
    failed = await world.wait(job.id)
    require(failed.state == "failed", f"the job is {failed.state} with a part that was {change}")
    message = str((failed.error or {}).get("message"))
    require(path.name in message, f"nobody is told which object it is: {failed.error}")
    path.write_bytes(before)
    world.mark()
    async with world.sessions() as session, session.begin():
        await JobRepository(session).retry(PROJECT, job.id)
    await world.wait(job.id)
    require(curating.running, "the other worker did not outlive it")
    return message.partition(":")[0]


@scenario("bytes of an object flipped at rest", family="store")
async def store_object_flipped(world: World) -> str:
    return await changed_at_rest(world, "flipped")


@scenario("an object truncated at rest", family="store")
async def store_object_truncated(world: World) -> str:
    return await changed_at_rest(world, "truncated")


@scenario("an object gone", family="store")
async def store_object_gone(world: World) -> str:
    return await changed_at_rest(world, "gone")
