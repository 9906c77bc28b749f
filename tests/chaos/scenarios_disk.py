"""Disks without room: that of the workers, and that of the store. Both are small file systems in memory, made for the try."""

import asyncio
import errno
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.scenario import scenario
from tests.chaos.world import World

ROWS = 64
SIZE = "8m"
NOT_TRIED = "NOT TRIED: this user may not mount a file system"


@contextmanager
def small_disk(path: Path) -> Iterator[bool]:
    """A file system of SIZE at `path`; False where that is not allowed. Whatever still uses it keeps it until it ends."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "chaos", str(path)], check=False, capture_output=True
    )
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


class Ballast:
    """A file that takes all the room there is, again and again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".ballast"

    def fill(self) -> None:
        with self.path.open("ab", buffering=0) as sink:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        sink.write(b"\0" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


async def full_for_a_while(world: World, folder: Path, code: str) -> str:
    """From a drawn point on there is no room; it comes back once an attempt has ended of it."""
    world.start_controller()
    world.start_worker()
    job = await world.submit(world.toy_spec("slow rows", ROWS))
    # Not at 1: there the manifest of the first stage may be what finds no room, and no attempt is made at all until it stands.
    point = world.random.choice((0, 2, 3, 4, 5, 6))
    await world.until_successes(job.id, point)
    ballast = Ballast(folder)
    ended = "SELECT count(*) >= %s FROM attempt JOIN step ON step.id = step_id WHERE job_id = %s AND attempt.error->>'code' = %s"

    async def keep_full() -> None:
        while True:
            await asyncio.to_thread(ballast.fill)
            await asyncio.sleep(0.05)

    keeping = asyncio.create_task(keep_full())
    try:
        # More than what poisons a step that fails by itself.
        await world.until(ended, 4, job.id, code, seconds=90)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        ballast.remove()
    world.mark()
    await world.wait(job.id, 180)
    attempts = world.value("SELECT count(*) FROM attempt WHERE error->>'code' = %s", code)
    return f"after {point} steps, {attempts} attempts met it"


@scenario("the workers' disk full", family="disk")
async def disk_of_workers_full(world: World) -> str:
    with small_disk(world.folder / "work") as mounted:
        return await full_for_a_while(world, world.folder / "work", "disk_full") if mounted else NOT_TRIED


@scenario("the store's disk full", family="disk")
async def disk_of_store_full(world: World) -> str:
    folder, kept = world.folder / "store", world.folder / "kept"
    with small_disk(folder) as mounted:
        if not mounted:
            return NOT_TRIED
        await asyncio.to_thread(world.store_server.kill)
        world.store_server.objects.mkdir(parents=True)
        await asyncio.to_thread(world.store_server.start)
        remark = await full_for_a_while(world, folder, "store_unavailable")
        await asyncio.to_thread(world.store_server.kill)
        shutil.copytree(folder, kept)
    # What is checked afterwards lies on the disk below.
    shutil.rmtree(folder)
    kept.rename(folder)
    await asyncio.to_thread(world.store_server.start)
    return remark
