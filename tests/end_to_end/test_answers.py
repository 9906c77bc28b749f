"""Candidates answer the questions of an earlier job, through every process, while their server or their worker is killed."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.pull import pull_job
from shared.artifacts.tables import iterate_rows
from shared.domain.rows import InstructionRow
from tests.end_to_end.conftest import Driver
from tests.support.answering_server import AT_ONCE, score_of
from tests.support.deployed import StandIn, stand_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CHAT = "/v1/chat/completions"
SAMPLES = 4


@pytest.fixture(scope="module")
def asked(embedded: Driver) -> dict[str, Any]:
    """A finished collection."""
    job = embedded.finished(embedded.submit(seed=901, sources=[{"bundled": "demo", "limit": 30}]))
    assert job["state"] == "succeeded", job["error"]
    return job


@pytest.fixture
def server(driver: Driver, tmp_path: Path) -> Iterator[StandIn]:
    url = driver.system.environment()["MULTIFACET_DATABASE_URL"]
    with stand_in(url, tmp_path / "calls.jsonl", seconds=0.1) as server:
        yield server


def names(server: StandIn, asked: dict[str, Any]) -> tuple[str, str]:
    """A language model and a reward model, deployed under names of this test's own."""
    model, reward = f"lm-{os.urandom(3).hex()}", f"rm-{os.urandom(3).hex()}"
    server.deploy(model, asked["id"])
    server.deploy(reward, asked["id"], method="rm")
    return model, reward


def submit(driver: Driver, asked: dict[str, Any], model: str, reward: str) -> str:
    spec = {
        "name": "answers",
        "questions": {"job": asked["id"], "split": "all"},
        "answer": [
            {"name": "janus", "candidate": {"deployment": model}, "samples": SAMPLES, "reward": {"deployment": reward}}
        ],
    }
    return str(driver.client.post("/v1/jobs", spec)["id"])


def until_answering(driver: Driver, server: StandIn, job_id: str, calls: int) -> None:
    driver.until(job_id, lambda _: len(server.calls(CHAT)) >= calls)


def check(driver: Driver, server: StandIn, job_id: str, folder: Path) -> None:
    """The job succeeded, and every row that went in came out with all its answers."""
    job = driver.until(job_id, lambda job: job["state"] in {"succeeded", "failed", "cancelled"}, 180)
    assert job["state"] == "succeeded", job["error"]
    ledgers = {stage["name"]: stage["ledger"] for stage in job["stages"]}
    assert ledgers["janus"]["facets_in"] == ledgers["select"]["facets_out"] == ledgers["janus"]["facets_out"]
    assert ledgers["janus"]["rows_in"] == ledgers["select"]["rows_out"] == ledgers["janus"]["rows_out"]
    assert job["cost_micro_usd"] == 0
    written = pull_job(driver.client, job_id, folder, everything=True)
    rows = rows_of(written, "janus")
    questions = rows_of(written, "select")
    assert [row.row_id for row in rows] == [row.row_id for row in questions]
    assert sum(len(row.facets) for row in rows) == ledgers["janus"]["facets_out"]
    for row, question in zip(rows, questions, strict=True):
        for facet, before in zip(row.facets, question.facets, strict=True):
            assert facet.response == before.response
            assert len({answer.seed for answer in facet.answers}) == len(facet.answers) == SAMPLES
            best = [answer for answer in facet.answers if answer.best]
            assert [max(answer.reward or -2 for answer in facet.answers)] == [answer.reward for answer in best]
            conversation = [
                {"role": "system", "content": facet.system or ""},
                {"role": "user", "content": row.instruction},
                {"role": "assistant", "content": best[0].text},
            ]
            assert best[0].reward == pytest.approx(score_of([dict(sorted(turn.items())) for turn in conversation]))
    distinct = Counter(server.calls(CHAT))
    assert len(distinct) == SAMPLES * ledgers["janus"]["facets_out"]
    # Only what was on its way when a process was killed may be asked again.
    assert distinct.total() - len(distinct) <= 3 * AT_ONCE
    (report,) = folder.rglob("report*.html")
    assert "random weights" in report.read_text()


def rows_of(written: list[Path], stage: str) -> list[InstructionRow]:
    parts = sorted(path for path in written if path.parent.name == stage and path.name.startswith("part-"))
    return [row for path in parts for row in iterate_rows(path)]


@pytest.mark.long
def test_a_killed_model_server_at_a_new_address_loses_no_row(
    driver: Driver, asked: dict[str, Any], server: StandIn, tmp_path: Path
) -> None:
    model, reward = names(server, asked)
    job_id = submit(driver, asked, model, reward)
    until_answering(driver, server, job_id, 40)
    server.kill()
    answered = len(server.calls(CHAT))
    driver.until(job_id, lambda job: any(stage["state"] == "running" for stage in job["stages"]))
    assert driver.job(job_id)["state"] == "running"
    server.start()
    check(driver, server, job_id, tmp_path / "job")
    assert len(server.calls(CHAT)) > answered


@pytest.mark.long
def test_a_killed_worker_answers_on_from_where_it_was(
    driver: Driver, asked: dict[str, Any], server: StandIn, tmp_path: Path
) -> None:
    model, reward = names(server, asked)
    job_id = submit(driver, asked, model, reward)
    until_answering(driver, server, job_id, 40)
    os.kill(driver.pid("worker"), signal.SIGKILL)
    check(driver, server, job_id, tmp_path / "job")


@pytest.mark.long
def test_the_same_answers_again_ask_nobody(
    driver: Driver, asked: dict[str, Any], server: StandIn, tmp_path: Path
) -> None:
    model, reward = names(server, asked)
    check(driver, server, submit(driver, asked, model, reward), tmp_path / "first")
    before = (len(server.calls(CHAT)), len(server.calls("/score")))
    check(driver, server, submit(driver, asked, model, reward), tmp_path / "second")
    assert (len(server.calls(CHAT)), len(server.calls("/score"))) == before
