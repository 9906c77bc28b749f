"""Speed of the control plane: `python -m benchmarks.control_plane [--steps 3000] [--ready 1000]`.

PostgreSQL (durable), Redis, one controller and two workers on this machine.

- **empty steps/s**: a job of many shards through three row stages, whose steps are rung, claimed and committed and do nothing
  else (`benchmarks.empty_worker`). Steps over the seconds from the first start to the last end, as the database recorded them.
- **slot free to step running**: handlers of `tests.support.toy_handlers`, with parts of one row that are read and stored and
  rows that take 0.2 s, so that slots become free one after the other while so many steps are ready. From the end of an attempt
  to the start of the attempt that took its slot (within a worker slots are taken in the order in which they became free), both
  on the database's clock.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

import msgspec
import numpy as np

from benchmarks.machine import Machine, OtherLoad, Process, cpu_of_tree
from benchmarks.result_table import Goal, head, print_goals
from shared.domain.jobs import JobSpec
from shared.metadata.engine import create_engine, session_factory
from shared.metadata.repositories.jobs import JobRepository
from tests.support.control_plane import ROLES, toy_spec, toy_taxonomy

PROJECT = "benchmark"
_WORKERS = 2
_LONGEST_SECONDS = 1800.0
_ROW_STAGES = ["augment", "compose", "respond"]


class Rate(msgspec.Struct, frozen=True):
    """Steps of row stages that succeeded over `seconds`; CPU in ms per step; `other_cores` used by others."""

    steps: int
    seconds: float
    controller_ms: float
    servers_ms: float
    workers_ms: float
    other_cores: float

    @property
    def steps_per_second(self) -> float:
        return self.steps / self.seconds


class Gaps(msgspec.Struct, frozen=True):
    """Seconds from slot free to step running, and how many steps were ready while they were measured."""

    seconds: Sequence[float]
    least_ready: int
    other_cores: float

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.seconds, share))


class ToySystem:
    """A controller and workers with toy handlers over a machine's servers."""

    def __init__(self, machine: Machine, stack: ExitStack, *, worker: str, slots: int, row_seconds: float = 0) -> None:
        self._machine = machine
        settings = {
            **machine.environment(),
            # The number of slots stays what it is: these steps wait for no provider.
            "MULTIFACET_WORKER_SLOTS": str(slots),
            "MULTIFACET_WORKER_MOST_SLOTS": str(slots),
            "TOY_ROW_SECONDS": str(row_seconds),
        }
        self.controller = stack.enter_context(machine.process("controller", ["services.controller"], settings))
        arguments = [worker, "--roles", "all"]
        for role in ROLES:
            arguments += ["--handlers", f"{role}=tests.support.toy_handlers.{role}"]
        self.workers: list[Process] = [
            stack.enter_context(machine.process(f"worker-{number}", arguments, settings)) for number in range(_WORKERS)
        ]
        with machine.connection() as connection:
            while connection.execute("SELECT count(*) FROM worker").fetchone() != (_WORKERS,):
                self.require_alive()
                time.sleep(0.05)

    def require_alive(self) -> None:
        for process in (self.controller, *self.workers):
            process.require_alive()

    def submit(self, spec: JobSpec) -> str:
        async def submit() -> str:
            engine = create_engine(self._machine.settings().database_url)
            try:
                async with session_factory(engine)() as session, session.begin():
                    job, _ = await JobRepository(session).submit(
                        PROJECT, spec, toy_taxonomy(), teacher_is_simulator=True
                    )
                    return job.id
            finally:
                await engine.dispose()

        return asyncio.run(submit())

    def wait(self, query: str, *parameters: object, job_id: str) -> None:
        """Until the query's first value is true. Raises RuntimeError where the job fails or it takes too long."""
        deadline = time.monotonic() + _LONGEST_SECONDS
        with self._machine.connection() as connection:
            while True:
                row = connection.execute(query.encode(), parameters).fetchone()
                if row is not None and row[0]:
                    return
                job = connection.execute("SELECT state, error FROM job WHERE id = %s", (job_id,)).fetchone()
                assert job is not None
                if job[0] in {"failed", "cancelled"} or time.monotonic() > deadline:
                    raise RuntimeError(f"the job is {job[0]}: {job[1]}")
                self.require_alive()
                time.sleep(0.1)


_ENDED = "SELECT state = 'succeeded' FROM job WHERE id = %s"


def empty_steps(machine: Machine, steps: int) -> Rate:
    """Run so many empty steps, a third in each row stage."""
    rows = steps // len(_ROW_STAGES)
    with ExitStack() as stack:
        system = ToySystem(machine, stack, worker="benchmarks.empty_worker", slots=8)
        postgres, redis = machine.postgres.pid, machine.redis.pid
        assert postgres is not None
        assert redis is not None

        def cpu() -> tuple[float, float, float]:
            return (
                cpu_of_tree(system.controller.pid),
                cpu_of_tree(postgres) + cpu_of_tree(redis),
                sum(cpu_of_tree(worker.pid) for worker in system.workers),
            )

        warm = system.submit(toy_spec("many warm", 16))
        system.wait(_ENDED, warm, job_id=warm)
        job_id = system.submit(toy_spec("many empty", rows))
        system.wait(
            "SELECT state = 'succeeded' FROM stage WHERE job_id = %s AND name = 'curate'", job_id, job_id=job_id
        )
        load, before = OtherLoad(), cpu()
        query = "SELECT bool_and(state = 'succeeded') FROM stage WHERE job_id = %s AND name = ANY(%s)"
        system.wait(query, job_id, _ROW_STAGES, job_id=job_id)
        used = [after - earlier for after, earlier in zip(cpu(), before, strict=True)]
        other = load.cores()
        with machine.connection() as connection:
            row = connection.execute(
                """
                SELECT count(*), EXTRACT(epoch FROM max(attempt.ended_at) - min(attempt.started_at))
                FROM attempt JOIN step ON step.id = attempt.step_id JOIN stage ON stage.id = step.stage_id
                WHERE step.job_id = %s AND stage.name = ANY(%s) AND attempt.state = 'succeeded'
                """,
                (job_id, _ROW_STAGES),
            ).fetchone()
            assert row is not None
    done, seconds = int(row[0]), float(row[1])
    controller, servers, workers = (value * 1000 / done for value in used)
    return Rate(done, seconds, controller, servers, workers, other)


def gaps(machine: Machine, ready: int, samples: int) -> Gaps:
    """Measure `samples` slots that become free while at least `ready` steps are ready."""
    with ExitStack() as stack:
        system = ToySystem(machine, stack, worker="shared.stages.worker", slots=4, row_seconds=0.2)
        job_id = system.submit(toy_spec("many slow rows", ready + samples))
        begun = "SELECT count(*) > 0 FROM attempt JOIN step ON step.id = step_id WHERE job_id = %s AND shard > 0"
        system.wait(begun, job_id, job_id=job_id)
        load = OtherLoad()
        ended = """
            SELECT count(*) >= %s FROM attempt JOIN step ON step.id = step_id JOIN stage ON stage.id = step.stage_id
            WHERE step.job_id = %s AND attempt.state = 'succeeded' AND stage.name = ANY(%s)
        """
        system.wait(ended, samples, job_id, _ROW_STAGES, job_id=job_id)
        other = load.cores()
        with machine.connection() as connection:
            counted = connection.execute(
                "SELECT count(*) FROM step WHERE job_id = %s AND state = 'ready'", (job_id,)
            ).fetchone()
            rows = connection.execute(
                """
                SELECT worker_id, EXTRACT(epoch FROM attempt.started_at), EXTRACT(epoch FROM attempt.ended_at)
                FROM attempt JOIN step ON step.id = step_id JOIN stage ON stage.id = step.stage_id
                WHERE step.job_id = %s AND stage.name = ANY(%s) ORDER BY attempt.started_at
                """,
                (job_id, _ROW_STAGES),
            ).fetchall()
    assert counted is not None
    return Gaps(slot_gaps([(str(w), float(s), None if e is None else float(e)) for w, s, e in rows]), counted[0], other)


def slot_gaps(attempts: Sequence[tuple[str, float, float | None]]) -> list[float]:
    """From (worker, started, ended or None), the seconds for which each slot that became free stayed empty.

    Slots of one worker are alike: a start takes the slot that became free first. Starts before any end filled slots
    that had never been used, and count nothing.
    """
    found: list[float] = []
    for worker in {name for name, _, _ in attempts}:
        marks = [(at, 1) for name, at, _ in attempts if name == worker]
        marks += [(ended, 0) for name, _, ended in attempts if name == worker and ended is not None]
        free: list[float] = []
        for at, starts in sorted(marks):
            if not starts:
                free.append(at)
            elif free:
                found.append(at - free.pop(0))
    return found


def measure(steps: int, ready: int, samples: int) -> list[Goal]:
    with Machine() as machine:
        rate = empty_steps(machine, steps)
    with Machine() as machine:
        waits = gaps(machine, ready, samples)
    return [
        Goal(
            "empty steps through one controller",
            "at least 100/s",
            f"{rate.steps_per_second:.0f}/s",
            rate.steps_per_second >= 100,
            f"{rate.steps} steps in {rate.seconds:.1f} s; CPU ms per step: controller {rate.controller_ms:.2f}, PostgreSQL "
            f"and Redis {rate.servers_ms:.2f}, workers {rate.workers_ms:.2f}; others used {rate.other_cores:.1f} cores",
        ),
        Goal(
            f"slot free to step running, {ready:,} steps ready",
            "p95 < 1 s",
            f"{waits.quantile(0.95):.3f} s",
            waits.quantile(0.95) < 1 and waits.least_ready >= ready,
            f"p50 {waits.quantile(0.5):.3f} s, longest {max(waits.seconds):.3f} s of {len(waits.seconds)}; at least "
            f"{waits.least_ready:,} steps ready; others used {waits.other_cores:.1f} cores",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.control_plane", description=__doc__)
    parser.add_argument("--steps", type=int, default=3000, help="empty steps (default: 3000)")
    parser.add_argument("--ready", type=int, default=1000, help="steps that are ready while slots become free")
    parser.add_argument("--samples", type=int, default=500, help="slots that become free")
    options = parser.parse_args()
    head()
    sys.exit(print_goals(measure(options.steps, options.ready, options.samples)))


if __name__ == "__main__":
    main()
