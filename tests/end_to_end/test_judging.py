"""A judge reads the answers of two candidates, through every process, while its worker is killed."""

import os
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.cli.pull import pull_job
from shared.artifacts.tables import iterate_rows
from shared.domain.evaluations import COMPARE_PREFIX, JUDGE_PREFIX
from shared.domain.rows import InstructionRow
from tests.end_to_end.conftest import Driver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MODEL = {"provider": "simulator", "model": "simulator-small"}
RUNS = 2
IN_FLIGHT = 64
"""What a worker has open at once where nothing is set."""
SLOW_JUDGE = {"classes": {"judge": {"latency_ms": 400}}}


@pytest.fixture(scope="module")
def bench(embedded: Driver) -> str:
    """Id of a bench whose rubrics the simulator wrote."""
    embedded.faults({})
    name = f"bench {os.urandom(3).hex()}"
    job = embedded.finished(
        embedded.submit(
            seed=902, sources=[{"bundled": "demo", "limit": 16}], questions={"split": "all"}, bench={"name": name}
        )
    )
    assert job["state"] == "succeeded", job["error"]
    found = embedded.client.get("/v1/benches")["items"]
    return next(str(one["id"]) for one in found if one["name"] == name)


@pytest.fixture
def judged(driver: Driver) -> Driver:
    driver.faults(SLOW_JUDGE)
    return driver


def judged_spec(bench: str) -> dict[str, Any]:
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


def verdict_calls(driver: Driver) -> int:
    """Calls that the simulator has answered as a judge."""
    found = httpx2.get(f"{driver.system.simulator_url}/simulator/statistics").json()
    return int(found["calls"].get("judge", {}).get("200", 0))


def rows_of(written: list[Path], stage: str) -> list[InstructionRow]:
    parts = sorted(path for path in written if path.parent.name == stage and path.name.startswith("part-"))
    return [row for path in parts for row in iterate_rows(path)]


def distinct_verdicts(driver: Driver, job: dict[str, Any], folder: Path) -> int:
    """Check that every answer has all its verdicts, and return how many different calls they take."""
    assert job["state"] == "succeeded", job["error"]
    written = pull_job(driver.client, job["id"], folder, everything=True)
    asked: set[tuple[Any, ...]] = set()
    for candidate in ("theirs", "none"):
        rows = rows_of(written, JUDGE_PREFIX + candidate)
        assert [row.row_id for row in rows] == [row.row_id for row in rows_of(written, candidate)]
        for row in rows:
            for facet in row.facets:
                assert [(one.facet, one.rubric, one.run) for one in facet.judgments] == [
                    (facet.index, rubric, run) for rubric in range(len(facet.preferences)) for run in range(RUNS)
                ]
                assert all(one.score is not None and not one.fault for one in facet.judgments)
                # Equal answers on the same rubric are one call, whoever gave them.
                asked.update(
                    (row.row_id, facet.index, one.rubric, one.run, facet.answers[one.answer].text)
                    for one in facet.judgments
                )
    for row in rows_of(written, f"{COMPARE_PREFIX}theirs"):
        for facet in row.facets:
            assert [one.order for one in facet.comparisons] == [0, 1]
            assert all(one.verdict and not one.fault for one in facet.comparisons)
            asked.update((row.row_id, facet.index, one.order) for one in facet.comparisons)
    return len(asked)


@pytest.mark.long
def test_a_worker_killed_amid_judging_loses_no_verdict_and_pays_for_none_twice(
    judged: Driver, bench: str, tmp_path: Path
) -> None:
    before = verdict_calls(judged)
    job_id = str(judged.client.post("/v1/jobs", judged_spec(bench))["id"])
    judged.until(job_id, lambda _: verdict_calls(judged) - before >= 200)
    os.kill(judged.pid("worker"), signal.SIGKILL)
    answered = verdict_calls(judged) - before
    job = judged.finished(job_id)
    distinct = distinct_verdicts(judged, job, tmp_path / "job")
    assert answered < distinct, "there must have been something left to judge"
    # What was on its way when the worker was killed, and what was answered in the instant before, may be asked again.
    paid_twice = verdict_calls(judged) - before - distinct
    assert 0 <= paid_twice <= 2 * IN_FLIGHT
