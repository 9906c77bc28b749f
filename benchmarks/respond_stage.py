"""The real respond stage: one worker process, the controller, PostgreSQL, Redis and the store on one machine, all checks on.

What is measured, per run:

- rows/s: rows over the seconds from the stage's first claim to the stage's success, both as the database recorded them. The
  reading of parts, checks of answers, the durable answer cache, usage, writing and storing of parts, commits and the
  stage's manifest are inside; imports, migrations and the making of the input are not. The worker is up and has done a
  job of 64 rows with another provider when the job appears.
- ideal: 64 calls in flight over the mean latency of the endpoint (or its limit of calls per second).
- CPU ms per row: from the job's appearance to the stage's success, user and system: the worker with PostgreSQL (all its
  backends) and Redis; the controller apart.
- peak MB: VmHWM of the worker process, imports included.
- calls, rejected (429) and failed (500): as the endpoint counted them.
"""

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from uuid import uuid4

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from benchmarks.machine import (
    IN_FLIGHT,
    CpuSeconds,
    Endpoint,
    Machine,
    OtherLoad,
    Process,
    cpu_of_tree,
    peak_megabytes,
)
from benchmarks.seeding import seed_job
from shared.artifacts import open_store
from shared.artifacts.protocol import ArtifactStore
from shared.metadata.engine import create_engine, session_factory

PROJECT = "benchmark"
_LONGEST_STAGE_SECONDS = 1800.0
_SHORT_LEASES = {
    "MULTIFACET_LEASE_SECONDS": "3",
    "MULTIFACET_HEARTBEAT_SECONDS": "0.75",
    "MULTIFACET_HEARTBEAT_GIVE_UP_SECONDS": "2.2",
    "MULTIFACET_CONTROLLER_TICK_SECONDS": "0.3",
    "MULTIFACET_REDISPATCH_SECONDS": "3",
}
DURABLE_AFTER_SECONDS = 0.1


class Case(msgspec.Struct, frozen=True):
    """One way of the endpoint to behave. `ideal` in rows/s, None where there is no such figure."""

    name: str
    title: str
    rows: int
    endpoint: tuple[str, ...]
    ideal: float | None
    goal: str


_SLOW = ("--latency-ms", "200")
_LIMIT = ("--calls-per-second", "100", "--burst", "64")
_FAULTS = ("--random-429", "0.05", "--random-500", "0.02")
CASES: tuple[Case, ...] = (
    Case("fixed", "200 ms", 4000, _SLOW, IN_FLIGHT / 0.2, ">= 290 rows/s"),
    Case("tail", "200 ms + exponential tail of 300 ms", 4000, (*_SLOW, "--tail-ms", "300"), IN_FLIGHT / 0.5,
         ">= 115 rows/s"),
    Case("fast", "20 ms", 4000, ("--latency-ms", "20"), IN_FLIGHT / 0.02, ">= 1,000 rows/s, <= 1.2 ms/row, < 200 MB"),
    Case("limited", "200 ms, 100 calls/s, burst 64, 429 with Retry-After 1", 1000, (*_SLOW, *_LIMIT), 100.0,
         ">= 95 rows/s, <= 5% rejected"),
    Case("faults", "200 ms, 5% 429 with Retry-After 1, 2% 500", 4000, (*_SLOW, *_FAULTS), IN_FLIGHT / 0.2,
         ">= 200 rows/s"),
    Case("faults-1k", "the same, 1,000 rows: the pauses of the last calls weigh more", 1000, (*_SLOW, *_FAULTS),
         IN_FLIGHT / 0.2, ""),
)  # fmt: skip


class Measured(msgspec.Struct, frozen=True):
    """Figures of one run. Seconds are of the stage; CPU in ms per row; memory in MB of 2^20 bytes."""

    rows: int
    seconds: float
    worker_ms: float
    servers_ms: float
    controller_ms: float
    peak_mb: float
    calls: int
    answered: int
    rejected: int
    failed: int
    distinct: int
    facets_out: int
    other_cores: float

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds

    @property
    def cpu_ms(self) -> float:
        return self.worker_ms + self.servers_ms


def median(runs: list[Measured]) -> Measured:
    """Median of each figure."""
    values = {
        name: statistics.median(getattr(run, name) for run in runs)
        for name in Measured.__struct_fields__
        if name not in {"seconds", "rows"}
    }
    rates = statistics.median(run.rows_per_second for run in runs)
    return msgspec.convert(values | {"rows": runs[0].rows, "seconds": runs[0].rows / rates}, Measured, strict=False)


class StageRun:
    """A controller and workers over one endpoint; jobs are run one after the other. Another stage than `respond` is measured by a
    subclass that says which, by what role, and how many rows its first job has.

    `warm` is another endpoint, for the first job of a worker: a long-lived process's lazy imports, prepared statements and
    mappings are made then. It is another provider, so that nothing is learned of the endpoint that is measured.
    """

    role = "generation"
    stage = "respond"
    warm_rows = 64

    def __init__(
        self, machine: Machine, endpoint: Endpoint, warm: Endpoint, stack: ExitStack, settings: dict[str, str]
    ) -> None:
        self._machine = machine
        self.endpoint = endpoint
        self._stack = stack
        self._environment = {**machine.environment(fake=endpoint, warm=warm), **settings}
        self.controller = stack.enter_context(machine.process("controller", ["services.controller"], self._environment))
        self.worker = self.start_worker()
        self.wait(self.seed(f"{PROJECT}-warm-{uuid4().hex[:8]}", self.warm_rows, provider="warm"))

    def start_worker(self) -> Process:
        """A fresh worker process, returned when it takes doorbells."""
        arguments = ["shared.stages.worker", "--roles", self.role]
        worker = self._stack.enter_context(self._machine.process("worker", arguments, self._environment))
        with self._machine.connection() as connection:
            query = "SELECT 1 FROM worker WHERE process_id = %s"
            while connection.execute(query, (worker.pid,)).fetchone() is None:
                worker.require_alive()
                time.sleep(0.05)
        self.worker = worker
        return worker

    def seed(self, project: str, rows: int, provider: str = "fake") -> str:
        """Make a job whose measured stage starts at once; returns its id."""

        async def seed() -> str:
            settings = self._machine.settings()
            engine = create_engine(settings.database_url)
            try:
                return await self.seed_into(session_factory(engine), open_store(settings), project, rows, provider)
            finally:
                await engine.dispose()

        return asyncio.run(seed())

    async def seed_into(
        self, sessions: async_sessionmaker[AsyncSession], store: ArtifactStore, project: str, rows: int, provider: str
    ) -> str:
        """Store a job of so many rows, whose next stage is the measured one; returns its id."""
        return await seed_job(sessions, store, self._machine.folder, project_id=project, rows=rows, provider=provider)

    def wait(self, job_id: str) -> tuple[float, int]:
        """(seconds of the stage, facets out), once it has succeeded. Raises RuntimeError where the job fails."""
        query = """
            SELECT stage.state, EXTRACT(epoch FROM stage.finished_at - stage.started_at), stage.ledger->>'facets_out',
                   job.state, job.error
            FROM stage JOIN job ON job.id = stage.job_id WHERE job.id = %s AND stage.name = %s
        """
        deadline = time.monotonic() + _LONGEST_STAGE_SECONDS
        with self._machine.connection() as connection:
            while True:
                row = connection.execute(query, (job_id, self.stage)).fetchone()
                assert row is not None
                state, seconds, facets, job_state, error = row
                if state == "succeeded":
                    return float(seconds), int(facets)
                if job_state in {"failed", "cancelled"} or time.monotonic() > deadline:
                    raise RuntimeError(f"the job is {job_state} and its stage {self.stage} {state}: {error}")
                self.worker.require_alive()
                self.controller.require_alive()
                time.sleep(0.1)

    def cpu(self) -> CpuSeconds:
        postgres, redis = self._machine.postgres.pid, self._machine.redis.pid
        assert postgres is not None
        assert redis is not None
        return CpuSeconds(
            cpu_of_tree(self.worker.pid), cpu_of_tree(postgres) + cpu_of_tree(redis), cpu_of_tree(self.controller.pid)
        )

    def run(self, project: str, rows: int) -> Measured:
        """Run one job and measure it."""
        load = OtherLoad()
        job_id = self.seed(project, rows)
        before = self.cpu()
        seconds, facets = self.wait(job_id)
        used = self.cpu().since(before)
        counters = self.endpoint.counters()
        return Measured(
            rows=rows,
            seconds=seconds,
            worker_ms=used.worker * 1000 / rows,
            servers_ms=used.servers * 1000 / rows,
            controller_ms=used.controller * 1000 / rows,
            peak_mb=peak_megabytes(self.worker.pid),
            calls=counters["calls"],
            answered=counters["answered"],
            rejected=counters["rejected"],
            failed=counters["failed"],
            distinct=counters["distinct"],
            facets_out=facets,
            other_cores=load.cores(),
        )


@contextmanager
def stage_run(
    machine: Machine, endpoint: tuple[str, ...], settings: dict[str, str] | None = None
) -> Iterator[StageRun]:
    """A fresh endpoint, controller and worker; all stopped at the end."""
    served, warm = Endpoint(endpoint), Endpoint(("--latency-ms", "5"))
    try:
        with ExitStack() as stack:
            yield StageRun(machine, served, warm, stack, settings or {})
    finally:
        served.stop()
        warm.stop()


def measure(machine: Machine, case: Case, *, rows: int | None = None, repeat: int = 0) -> Measured:
    """One run of a case with processes of its own; a project of its own, so that no answer is in the cache."""
    with stage_run(machine, (*case.endpoint, "--seed", str(repeat))) as run:
        return run.run(f"{PROJECT}-{uuid4().hex[:8]}", rows or case.rows)


def calls_of_reruns(machine: Machine, rows: int = 500) -> list[int]:
    """Paid calls of three jobs: `rows` rows, the same again, and the same with a tenth more."""
    project = f"{PROJECT}-{uuid4().hex[:8]}"
    counts: list[int] = []
    with stage_run(machine, _SLOW) as run:
        for rows_now in (rows, rows, rows + rows // 10):
            counts.append(run.run(project, rows_now).calls - sum(counts))
    return counts


class Killed(msgspec.Struct, frozen=True):
    """A worker killed at half. `paid_twice` are answers beyond one per row; `in_doubt` the calls that were in flight at the
    kill or had been answered in the 100 ms before."""

    rows: int
    facets_out: int
    paid_twice: int
    in_doubt: int
    seconds: float


def killed_at_half(machine: Machine, rows: int = 1000) -> Killed:
    """SIGKILL the worker when half of the rows are answered, start another at once, and count what is paid twice.

    Leases are shortened to 3 s, so that the wait for them does not dominate; nothing else is changed.
    """
    with stage_run(machine, _SLOW, _SHORT_LEASES) as run:
        job_id = run.seed(f"{PROJECT}-{uuid4().hex[:8]}", rows)
        seen: deque[tuple[float, int]] = deque(maxlen=200)
        while True:
            counters = run.endpoint.counters()
            seen.append((time.monotonic(), counters["answered"]))
            # A little past half: exactly there shards end, and nothing would be in flight.
            if counters["answered"] >= rows // 2 + IN_FLIGHT // 2:
                break
            time.sleep(0.01)
        run.worker.kill()
        killed_at = time.monotonic()
        sent = run.endpoint.counters()["calls"]
        durable = next(count for at, count in reversed(seen) if killed_at - at >= DURABLE_AFTER_SECONDS)
        run.start_worker()
        seconds, facets = run.wait(job_id)
        # The endpoint finishes the calls of the dead worker too; all answers are in now.
        time.sleep(0.5)
        ended = run.endpoint.counters()
    return Killed(
        rows=rows,
        facets_out=facets,
        paid_twice=int(ended["answered"] - ended["distinct"]),
        in_doubt=int(sent - durable),
        seconds=seconds,
    )


def memory_of(machine: Machine, rows: int, latency_ms: float = 20.0) -> Measured:
    """A stage of so many rows in a fresh worker, for its peak memory."""
    with stage_run(machine, ("--latency-ms", str(latency_ms))) as run:
        return run.run(f"{PROJECT}-{uuid4().hex[:8]}", rows)
