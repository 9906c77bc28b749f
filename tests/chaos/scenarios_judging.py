"""Verdicts are the dearest calls: a judging stage is stopped midway."""

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from shared.artifacts.tables import iterate_rows
from shared.domain.evaluations import COMPARE_PREFIX, JUDGE_PREFIX
from shared.domain.rows import InstructionRow
from tests.chaos.scenario import require, scenario
from tests.chaos.world import WORKER_ROLES, World

MODEL = {"provider": "simulator", "model": "simulator-small"}
ROLES = f"{WORKER_ROLES},evaluation,inference"
RUNS = 2


def _judged(bench: str) -> dict[str, Any]:
    decoding = {"repetition_penalty": None}
    return {
        "name": "judged",
        "questions": {"bench": bench},
        "judge": MODEL,
        "answer": [
            {"name": "theirs", "candidate": MODEL, "decoding": decoding},
            {"name": "none", "candidate": MODEL, "decoding": decoding, "system": "none"},
        ],
        "evaluate": {"absolute": {"runs": RUNS, "cross": False}, "pairwise": {"baseline": "none"}},
        "seed": 51,
    }


@scenario("kill -9 of the worker amid an evaluation's judging", family="processes", handlers="real",
          plan={"classes": {"judge": {"latency_ms": 300}}})  # fmt: skip
async def judging_worker_killed(world: World) -> str:
    """Every verdict is there in the end, and none that had come is paid for again."""
    await world.start_api()
    world.start_controller()
    worker = world.start_worker(ROLES)
    spec = await world.real_spec(6, questions={"split": "all"}, bench={"name": "a bench"})
    made = await world.ask("POST", "/v1/jobs", json=spec.model_dump(mode="json", exclude_unset=True))
    require(made.status_code == 202, made.text)
    world.expect(made.json()["id"])
    await world.wait(made.json()["id"], 240)
    asked = await world.ask("POST", "/v1/jobs", json=_judged(world.value("SELECT id FROM bench")))
    require(asked.status_code == 202, asked.text)
    job_id = asked.json()["id"]
    world.expect(job_id)
    calls = world.random.randint(10, 60)
    before = len(world.simulator.calls())
    await world.until(
        "SELECT count(*) > 0 FROM step JOIN stage ON stage.id = stage_id WHERE step.job_id = %s "
        "AND stage.name LIKE 'judge-%%' AND step.state = 'running'",
        job_id,
        seconds=240,
    )
    await world.until_calls(before + calls, 240)
    world.kill(worker)
    world.start_worker(ROLES)
    await world.wait(job_id, 300)
    verdicts = 0
    for candidate in ("theirs", "none"):
        async for row in _rows(world, job_id, JUDGE_PREFIX + candidate):
            for facet in row.facets:
                wanted = [(rubric, run) for rubric in range(len(facet.preferences)) for run in range(RUNS)]
                found = [(one.rubric, one.run) for one in facet.judgments if one.score is not None and not one.fault]
                require(found == wanted, f"verdicts {found} in place of {wanted}")
                verdicts += len(found)
    async for row in _rows(world, job_id, f"{COMPARE_PREFIX}theirs"):
        for facet in row.facets:
            require([one.order for one in facet.comparisons if one.verdict] == [0, 1], "a comparison is missing")
            verdicts += 2
    return f"after {calls} calls of {verdicts} verdicts"


async def _rows(world: World, job_id: str, stage: str) -> AsyncIterator[InstructionRow]:
    query = "SELECT key FROM artifact WHERE job_id = %s AND stage = %s AND name LIKE 'part-%%' ORDER BY name"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "part.parquet"
        for (key,) in world.rows(query, job_id, stage):
            await world.store.get_file(key, path)
            for row in iterate_rows(path):
                yield row
