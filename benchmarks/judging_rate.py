"""How much of a provider's rate a judging stage uses: `python -m benchmarks.judging_rate [--rows 307] [--repeats 1]`.

The setting of the evaluation of Lee et al. 2024 (arXiv 2405.17977, section 4): 307 instructions with three people each, 921
answers, four rubrics each, three verdicts on every rubric, 11,052 calls. The real worker, controller, PostgreSQL, Redis and
store; the judge is the simulator at 200 ms, which lets 100 calls a second through and turns the others away with 429.

- calls/s: answered calls over the seconds from the stage's first claim to its success. The ideal is the limit.
- verdicts: read back from the parts that the stage wrote; every one that was asked for must stand there, with a score.
- CPU ms per call: of the worker, PostgreSQL with Redis, and the controller; the simulator has its share of the machine too.
"""

import argparse
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import psutil
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from benchmarks.machine import Machine, OtherLoad, SimulatedEndpoint, peak_megabytes
from benchmarks.respond_stage import PROJECT, StageRun
from benchmarks.seeding import instruction_row, seed_stages
from shared.artifacts.protocol import ArtifactStore
from shared.artifacts.tables import iterate_rows
from shared.domain.jobs import JobSpec
from shared.domain.rows import Answer, InstructionRow, Rubric
from shared.domain.taxonomy import default_taxonomy

INSTRUCTIONS, PEOPLE, RUNS = 307, 3, 3
CALLS_PER_SECOND, BURST, LATENCY_MS = 100.0, 64, 200.0
GOAL = 0.9
PLAN = {
    "rate_limit": {"calls_per_second": CALLS_PER_SECOND, "burst": BURST, "retry_after_seconds": 1},
    "default": {"latency_ms": LATENCY_MS},
}
_WARM_PLAN = {"default": {"latency_ms": 5.0}}
_CANDIDATE = "a"
_LEVELS = (
    "The answer ignores it throughout, or does the opposite of {what} wherever the matter comes up.",
    "A trace of {what} is there in one place, and everything around it goes another way.",
    "About half of the answer keeps to {what}; the other half reads as if nobody had asked.",
    "Nearly everything keeps to {what}, with one or two slips that a reader would notice.",
    "Every part keeps to {what}, as this person would have it, from the first sentence to the last.",
)


def judged_row(number: int) -> InstructionRow:
    """Row `number`, the same in every run: three people with a rubric for each preference, a reference and an answer."""
    taxonomy = default_taxonomy()
    row = instruction_row(number * PEOPLE, taxonomy, with_response=True)
    row.facets = []
    for index in range(PEOPLE):
        facet = instruction_row(number * PEOPLE + index, taxonomy, with_response=True).facets[0]
        facet.index = index
        facet.rubrics = [
            Rubric(
                f"How far does the answer keep to this wish: {preference.description}",
                [level.format(what=preference.preference) for level in _LEVELS],
            )
            for preference in facet.preferences
        ]
        text = f"For person {index} of question {number}: {facet.response}"
        facet.answers = [Answer(text, "stop", number, len(text) // 4, best=True)]
        row.facets.append(facet)
    return row


class JudgingRun(StageRun):
    """The stage that grades one candidate's answers."""

    role = "evaluation"
    stage = f"judge-{_CANDIDATE}"
    warm_rows = 4

    async def seed_into(
        self, sessions: async_sessionmaker[AsyncSession], store: ArtifactStore, project: str, rows: int, provider: str
    ) -> str:
        spec = JobSpec.model_validate(
            {
                "name": f"benchmark of judging {rows} rows",
                "questions": {"bench": "bench_of_the_benchmark"},
                "judge": {"provider": provider, "model": "m"},
                "answer": [{"name": _CANDIDATE, "candidate": {"given": True}}],
                "evaluate": {"absolute": {"runs": RUNS, "cross": False}},
            }
        )
        return await seed_stages(
            sessions,
            store,
            self._machine.folder,
            project_id=project,
            spec=spec,
            last=_CANDIDATE,
            rows=rows,
            row=judged_row,
        )

    def verdicts(self, job_id: str) -> tuple[int, int]:
        """(how many verdicts the stage's parts hold, how many of them have a score)."""
        query = "SELECT key FROM artifact WHERE job_id = %s AND stage = %s AND name LIKE 'part-%%'"
        with self._machine.connection() as connection:
            keys = [str(key) for (key,) in connection.execute(query, (job_id, self.stage)).fetchall()]
        settings = self._machine.settings()
        found = [
            judgment
            for key in keys
            for row in iterate_rows(settings.artifact_directory / key)
            for facet in row.facets
            for judgment in facet.judgments
        ]
        return len(found), sum(judgment.score is not None for judgment in found)


class Judged(msgspec.Struct, frozen=True):
    """Figures of one run: seconds of the stage, CPU in ms per call, memory of the worker in MB of 2^20 bytes."""

    items: int
    verdicts: int
    scored: int
    seconds: float
    answered: int
    rejected: int
    worker_ms: float
    servers_ms: float
    controller_ms: float
    peak_mb: float
    other_cores: float

    @property
    def calls_per_second(self) -> float:
        return self.answered / self.seconds


def measure(machine: Machine, rows: int) -> Judged:
    """One run with processes of its own, in a project of its own, so that no verdict is in the cache."""
    served, warm = SimulatedEndpoint(PLAN), SimulatedEndpoint(_WARM_PLAN)
    try:
        with ExitStack() as stack:
            run = JudgingRun(machine, served, warm, stack, {})
            load = OtherLoad()
            job_id = run.seed(f"{PROJECT}-{uuid4().hex[:8]}", rows)
            before = run.cpu()
            seconds, items = run.wait(job_id)
            used = run.cpu().since(before)
            other = load.cores()
            calls = served.counters()["calls"]["judge"]
            verdicts, scored = run.verdicts(job_id)
            answered = int(calls["200"])
            return Judged(
                items=items,
                verdicts=verdicts,
                scored=scored,
                seconds=seconds,
                answered=answered,
                rejected=int(calls.get("429", 0)),
                worker_ms=used.worker * 1000 / answered,
                servers_ms=used.servers * 1000 / answered,
                controller_ms=used.controller * 1000 / answered,
                peak_mb=peak_megabytes(run.worker.pid),
                other_cores=other,
            )
    finally:
        served.stop()
        warm.stop()


def main() -> int:
    """Exit status: 0 where every run reached the goal and has all its verdicts, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.judging_rate", description="The rate of a judging stage"
    )
    parser.add_argument("--rows", type=int, default=INSTRUCTIONS, help="instructions, with three answers each")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    sound = True
    with Machine() as machine:
        for _ in range(options.repeats):
            found = measure(machine, options.rows)
            share = found.calls_per_second / CALLS_PER_SECOND
            sound &= share >= GOAL and found.verdicts == found.scored == found.answered
            sys.stdout.write(
                f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {psutil.cpu_count()} cores: {found.items} items, {found.verdicts} "
                f"verdicts ({found.scored} with a score), {found.answered} calls in {found.seconds:.1f} s = "
                f"{found.calls_per_second:.1f} calls/s, {share:.0%} of the limit (goal {GOAL:.0%}); {found.rejected} rejected "
                f"({found.rejected / found.answered:.1%}); CPU ms/call: worker {found.worker_ms:.2f}, PostgreSQL and Redis "
                f"{found.servers_ms:.2f}, controller {found.controller_ms:.2f}; worker's peak {found.peak_mb:.0f} MB; others "
                f"used {found.other_cores:.1f} cores\n"
            )
            sys.stdout.flush()
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
