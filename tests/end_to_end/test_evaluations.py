"""Evaluations through every process: answers out of a file beside a model's, conversations, and the same again."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from services.cli.pull import pull_job
from tests.end_to_end.conftest import Driver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MODEL = {"provider": "simulator", "model": "simulator-small"}
DECODING = {"repetition_penalty": None}
QUESTIONS = [
    {"prompt": f"Why is {thing} so popular?", "system": f"You speak as a {who}."}
    for thing in ("tea", "rye bread", "chess")
    for who in ("nurse", "pilot")
]


def upload(driver: Driver, path: Path, lines: list[dict[str, Any]]) -> str:
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return str(driver.client.upload(path)["id"])


def evaluated(driver: Driver, spec: dict[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The job, and its evaluation's files."""
    job = driver.finished(str(driver.client.post("/v1/jobs", spec)["id"]))
    assert job["state"] == "succeeded", job["error"]
    written = pull_job(driver.client, job["id"], folder, everything=False)
    return job, {path.name: path.read_bytes() for path in written if path.parent.name == "evaluate"}


@pytest.mark.long
def test_a_seeded_evaluation_repeated_gives_the_same_report_and_costs_nothing(driver: Driver, tmp_path: Path) -> None:
    questions = upload(driver, tmp_path / "questions.jsonl", QUESTIONS)
    answers = [{**line, "output": f"Because of {number}."} for number, line in enumerate(QUESTIONS[:5])]
    odd = [{"prompt": "Why is coal so popular?", "output": "It burns."}]
    theirs = upload(driver, tmp_path / "answers.jsonl", [*answers, *odd])
    spec = {
        "name": "theirs and ours",
        "questions": {"file": questions},
        "judge": MODEL,
        "seed": 77,
        "answer": [
            {"name": "theirs", "candidate": {"file": theirs}},
            {"name": "ours", "candidate": MODEL, "decoding": DECODING},
            {"name": "swapped", "candidate": MODEL, "decoding": DECODING, "system": "shuffled"},
        ],
        "evaluate": {"pairwise": {"baseline": "theirs"}, "bootstrap_rounds": 200},
    }
    first, files = evaluated(driver, spec, tmp_path / "first")
    again, same = evaluated(driver, spec, tmp_path / "again")
    ledgers = {stage["name"]: stage["ledger"] for stage in first["stages"]}
    assert ledgers["take-theirs"]["reasons"] == {"no_answer": 1}
    assert ledgers["ours"]["facets_out"] == ledgers["swapped"]["facets_out"] == 6
    document = orjson.loads(files["evaluation.json"])
    missing = {one["candidate"]: one["missing"] for one in document["completeness"]["answers"]}
    assert missing == {"theirs": 1, "ours": 0, "swapped": 0}
    assert "theirs has no answer to 1 of 6 questions (no_answer: 1)" in document["completeness"]["reasons"]
    assert {one["name"] for one in document["completeness"]["stages"][0]["reasons"]} == {"no_baseline_answer"}
    assert again["cost_micro_usd"] == 0
    for name in ("items.csv", "comparisons.csv"):
        assert same[name] == files[name]
    repeated = orjson.loads(same["evaluation.json"])
    assert {**repeated, "job_id": ""} == {**document, "job_id": ""}


def test_conversations_are_held_turn_by_turn_rated_and_checked_at_every_turn(driver: Driver, tmp_path: Path) -> None:
    spec = {
        "name": "drift",
        "questions": {"suite": "drift", "maximum_rows": 3},
        "judge": MODEL,
        "answer": [{"name": "ours", "candidate": MODEL, "decoding": DECODING}],
        "evaluate": {"conversation": {}, "bootstrap_rounds": 200},
    }
    _, files = evaluated(driver, spec, tmp_path)
    (ours,) = orjson.loads(files["evaluation.json"])["candidates"]
    (suite,) = ours["robustness"]
    assert suite["name"] == "drift"
    assert len(suite["turns"]) >= 4
    assert ours["conversation"]["overall"]["n"] == ours["conversation"]["asked"]
    assert not ours["conversation"]["lost"]
