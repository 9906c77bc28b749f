"""Ten thousand steps under faults: `python -m benchmarks.soak [--steps 10000] [--faults 60] [--seed 1]`.

One job of one-row shards through three row stages, in a world of `tests.chaos` with handlers that call no model: a controller
and two workers over PostgreSQL, Redis and an S3 server. At points that the seed draws a fault strikes: a worker or the
controller is killed, a worker is frozen for longer than its lease or told to leave, Redis is killed or wiped, PostgreSQL or the
store crashes, all database connections are cut. When the job has ended, the checker of `make chaos` looks at everything that is
left. Exit status 1 where any promise was broken.
"""

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec

from benchmarks.result_table import head, say
from tests.chaos.invariants import check
from tests.chaos.servers import Grounds
from tests.chaos.world import Process, World

WORKERS = 2
_ROW_STAGES = 3
_LONGEST_SECONDS = 4 * 3600.0


class Soak:
    """The system under faults. Each fault ends with as many processes as there were before it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.controller = world.start_controller()
        self.workers: list[Process] = [world.start_worker() for _ in range(WORKERS)]
        self.faults: dict[str, Callable[[], Awaitable[None]]] = {
            "worker killed": self.worker_killed,
            "worker told to leave": self.worker_told_to_leave,
            "worker frozen for longer than its lease": self.worker_frozen,
            "controller killed": self.controller_killed,
            "Redis killed, back empty": self.redis_killed,
            "Redis wiped": self.redis_wiped,
            "PostgreSQL stopped at once": self.postgres_stopped,
            "database connections cut": self.connections_cut,
            "store killed": self.store_killed,
        }

    def _taken(self) -> Process:
        """A worker, drawn; it is replaced by a new one at the list's end."""
        worker = self.workers.pop(self.world.random.randrange(len(self.workers)))
        self.workers.append(self.world.start_worker())
        return worker

    async def worker_killed(self) -> None:
        self.world.kill(self._taken())

    async def worker_told_to_leave(self) -> None:
        status = await self.world.stop(self._taken())
        if status:
            raise RuntimeError(f"a worker that was told to leave ended with {status}")
        self.world.mark()

    async def worker_frozen(self) -> None:
        worker = self._taken()
        self.world.freeze(worker)
        await asyncio.sleep(1.5 * self.world.lease_seconds)
        self.world.thaw(worker)
        await self.world.stop(worker)

    async def controller_killed(self) -> None:
        self.world.kill(self.controller)
        self.controller = self.world.start_controller()
        self.world.mark()

    async def redis_killed(self) -> None:
        self.world.redis.kill()
        await asyncio.sleep(self.world.random.uniform(0, 2))
        await asyncio.to_thread(self.world.redis.start)
        self.world.mark()

    async def redis_wiped(self) -> None:
        self.world.redis.flush()
        self.world.mark()

    async def postgres_stopped(self) -> None:
        await asyncio.to_thread(self.world.postgres.stop_immediately)
        await asyncio.sleep(self.world.random.uniform(0, 2))
        await asyncio.to_thread(self.world.postgres.start)
        self.world.mark()

    async def connections_cut(self) -> None:
        self.world.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'multifacet%'"
        )
        self.world.mark()

    async def store_killed(self) -> None:
        self.world.store_server.kill()
        await asyncio.sleep(self.world.random.uniform(0, 2))
        await asyncio.to_thread(self.world.store_server.start)
        self.world.mark()


class Soaked(msgspec.Struct, frozen=True):
    """What became of one run."""

    steps: int
    seconds: float
    struck: Counter[str]
    attempts: Counter[str]
    lost_rows: int
    recovery_seconds: float | None
    violations: list[str]


async def run(steps: int, faults: int, seed: int) -> Soaked:
    """Run the job and check what it left."""
    rows = -(-steps // _ROW_STAGES)
    with Grounds() as grounds:
        async with World(grounds, seed) as world:
            soak = Soak(world)
            started = time.monotonic()
            # A row of its own for each shard: a step costs little, and there are many.
            job = await world.submit(world.toy_spec("many rows", rows))
            points = sorted(world.random.randint(1, _ROW_STAGES * rows - 50) for _ in range(faults))
            struck: Counter[str] = Counter()
            for point in points:
                await _until_succeeded(world, job.id, point)
                fault = world.random.choice(list(soak.faults))
                say(f"  {time.monotonic() - started:7.1f} s, after {point:,} steps: {fault}")
                await soak.faults[fault]()
                struck[fault] += 1
            await world.wait(job.id, _LONGEST_SECONDS)
            seconds = time.monotonic() - started
            attempts = Counter(dict(world.rows(_ATTEMPTS)))
            done = world.value("SELECT count(*) FROM step WHERE state = 'succeeded'")
            report = await check(world)
    return Soaked(done, seconds, struck, attempts, report.lost_rows, report.recovery_seconds, report.violations)


_ATTEMPTS = "SELECT state, count(*) FROM attempt GROUP BY state ORDER BY state"


async def _until_succeeded(world: World, job_id: str, steps: int) -> None:
    query = "SELECT count(*) >= %s FROM step WHERE state = 'succeeded' AND job_id = %s"
    await world.until(query, steps, job_id, seconds=_LONGEST_SECONDS)


def tell(soaked: Soaked, seed: int) -> None:
    say(f"\nseed {seed}: {soaked.steps:,} steps in {soaked.seconds:,.0f} s ({soaked.steps / soaked.seconds:.1f}/s)\n")
    say("| fault | times |")
    say("|---|---|")
    for fault, times in sorted(soaked.struck.items()):
        say(f"| {fault} | {times} |")
    recovery = "-" if soaked.recovery_seconds is None else f"{soaked.recovery_seconds:.1f} s"
    say(
        f"\nattempts: {', '.join(f'{count:,} {state}' for state, count in soaked.attempts.items())}; "
        f"{soaked.lost_rows} rows lost; longest time from a fault to the next success {recovery}; "
        f"{len(soaked.violations)} promises broken"
    )
    for violation in soaked.violations:
        say(f"  {violation}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1, help="decides which faults strike, and when")
    options = parser.parse_args()
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        del os.environ[name]  # no fault may reach a real provider
    head()
    soaked = asyncio.run(run(options.steps, options.faults, options.seed))
    tell(soaked, options.seed)
    sys.exit(1 if soaked.violations else 0)


if __name__ == "__main__":
    main()
