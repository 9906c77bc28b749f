"""The api under load: `python -m benchmarks.api_load [--rate 200] [--seconds 30]`.

An api of two processes, PostgreSQL, Redis, one controller and this load generator share the machine. Requests come at fixed
times, whether the ones before have been answered or not (an open loop), so that a pause of the api counts for everything that
came in it. Nine of ten read: a job, the list of jobs, a page of a job's events, in turns; one of ten submits a job, each a new
one with all checks. No worker runs: the jobs stay queued, and the controller looks after all of them. Latency is from the time
at which a request was due to the end of its answer.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

import aiohttp
import msgspec
import numpy as np

from benchmarks.machine import CpuSeconds, Machine, OtherLoad, Process, cpu_of_tree
from benchmarks.result_table import Goal, head, print_goals
from services.api.app import create_key
from services.cli.embedded.supervisor import free_port

READ_SHARE = 0.9
GOALS_MS = {"reads": 50.0, "submissions": 150.0}
_API_WORKERS = 2
_WARM_REQUESTS = 200
_START_SECONDS = 300.0


class Load(msgspec.Struct, frozen=True):
    """Latencies in ms by kind of request, answers that were no success, and CPU seconds: api, servers, controller."""

    latencies: dict[str, Sequence[float]]
    failed: int
    seconds: float
    cpu: CpuSeconds
    generator_cpu: float
    other_cores: float

    def quantile(self, kind: str, share: float) -> float:
        return float(np.quantile(self.latencies[kind], share))


def measure_api(machine: Machine, rate: float, seconds: float) -> Load:
    """Send `rate` requests a second for so long."""
    port = free_port()
    settings = {
        **machine.environment(),
        "MULTIFACET_API_PORT": str(port),
        "MULTIFACET_API_WORKERS": str(_API_WORKERS),
    }
    key = asyncio.run(create_key(machine.settings(), "default", "load", ["write"]))
    with ExitStack() as stack:
        controller = stack.enter_context(machine.process("controller", ["services.controller"], settings))
        api = stack.enter_context(machine.process("api", ["services.api"], settings))
        postgres, redis = machine.postgres.pid, machine.redis.pid
        assert postgres is not None
        assert redis is not None

        def cpu() -> CpuSeconds:
            return CpuSeconds(
                cpu_of_tree(api.pid), cpu_of_tree(postgres) + cpu_of_tree(redis), cpu_of_tree(controller.pid)
            )

        async def run() -> Load:
            headers = {"Authorization": f"Bearer {key}"}
            connector = aiohttp.TCPConnector(limit=0)
            url = f"http://127.0.0.1:{port}"
            async with aiohttp.ClientSession(url, headers=headers, connector=connector) as session:
                await _until_ready(session, api)
                warm = _Generator(session)
                await warm.send(_WARM_REQUESTS, rate / 4)
                generator, load = _Generator(session, warm.jobs), OtherLoad()
                before, own, started = cpu(), time.process_time(), time.monotonic()
                await generator.send(int(rate * seconds), rate)
                elapsed = time.monotonic() - started
                return Load(
                    latencies=generator.latencies,
                    failed=generator.failed,
                    seconds=elapsed,
                    cpu=cpu().since(before),
                    generator_cpu=time.process_time() - own,
                    other_cores=load.cores(),
                )

        return asyncio.run(run())


class _Generator:
    def __init__(self, session: aiohttp.ClientSession, jobs: Sequence[str] = ()) -> None:
        self._session = session
        self.jobs = list(jobs)
        self.latencies: dict[str, list[float]] = {"reads": [], "submissions": []}
        self.failed = 0

    async def send(self, requests: int, rate: float) -> None:
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(requests):
                due = started + number / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self._one(number, due))

    async def _one(self, number: int, due: float) -> None:
        submits = number % round(1 / (1 - READ_SHARE)) == 0 or not self.jobs
        try:
            if submits:
                body = {
                    "name": f"load {number}",
                    "sources": [{"bundled": "demo"}],
                    "teacher": {"provider": "simulator", "model": "simulator-large"},
                    "seed": number,
                }
                async with self._session.post("/v1/jobs", json=body) as answer:
                    job = await answer.json()
                    ok = answer.status == 202
                if ok:
                    self.jobs.append(job["id"])
            else:
                job_id = self.jobs[(number * 7919) % len(self.jobs)]
                path = (f"/v1/jobs/{job_id}", "/v1/jobs?limit=20", f"/v1/jobs/{job_id}/events?limit=50")[number % 3]
                async with self._session.get(path, headers={"Accept": "application/json"}) as answer:
                    await answer.read()
                    ok = answer.status == 200
        except (aiohttp.ClientError, OSError):
            ok = False
        self.failed += not ok
        self.latencies["submissions" if submits else "reads"].append((time.monotonic() - due) * 1000)


async def _until_ready(session: aiohttp.ClientSession, api: Process) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        api.require_alive()
        try:
            async with session.get("/health/ready") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        if time.monotonic() > deadline:
            raise RuntimeError(f"the api does not answer after {_START_SECONDS:.0f} s")
        await asyncio.sleep(0.2)


def goals(load: Load, rate: float) -> list[Goal]:
    requests = sum(map(len, load.latencies.values()))
    cpu = (
        f"CPU ms per request: api {load.cpu.worker * 1000 / requests:.2f}, PostgreSQL and Redis "
        f"{load.cpu.servers * 1000 / requests:.2f}, controller {load.cpu.controller * 1000 / requests:.2f}, generator "
        f"{load.generator_cpu * 1000 / requests:.2f}; others used {load.other_cores:.1f} cores"
    )
    return [
        Goal(
            f"api, {rate:.0f} requests/s, {kind}",
            f"p95 under {bound:.0f} ms",
            f"{load.quantile(kind, 0.95):.0f} ms",
            load.quantile(kind, 0.95) < bound and load.failed == 0,
            f"{len(load.latencies[kind]):,} in {load.seconds:.0f} s, {load.failed} failed of all; p50 "
            f"{load.quantile(kind, 0.5):.0f} ms, p99 {load.quantile(kind, 0.99):.0f} ms"
            + (f"; {cpu}" if kind == "reads" else ""),
        )
        for kind, bound in GOALS_MS.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api_load", description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    head()
    with Machine() as machine:
        load = measure_api(machine, options.rate, options.seconds)
    sys.exit(print_goals(goals(load, options.rate)))


if __name__ == "__main__":
    main()
