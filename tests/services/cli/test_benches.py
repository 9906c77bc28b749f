"""Benches in the terminal: listed, shown with what a file left out, and exported with the decisions beside them."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from services.cli import benches
from services.cli.main import app

COUNTS = {"kept": 1, "dropped": 1, "undecided": 3}
BENCH: dict[str, Any] = {
    "id": "bench_1",
    "name": "my [red] bench",
    "job_id": None,
    "file_id": "file_1",
    "rows": 2,
    "items": 5,
    "teacher": None,
    "created_at": "2026-01-01T12:34:56Z",
    "review": COUNTS,
    "reviewers": [{"reviewer": "ada", **COUNTS}],
    "left_out": {"bad_rubric": 2},
    "rejected": [{"line": 7, "reason": "bad_rubric", "detail": "four levels", "text": "?"}],
}
DROPPED = {
    "id": "0123:0",
    "instruction": "Why?",
    "reviews": [
        {"reviewer": "ada", "decision": "drop", "reason": "off topic"},
        {"reviewer": "bo", "decision": "keep", "reason": "fine"},
        {"reviewer": "cy", "decision": "drop", "reason": ""},
    ],
}


class _Client:
    sent: tuple[str, Any] = ("", None)
    fetched: list[tuple[str, dict[str, Any]]]

    def __init__(self) -> None:
        type(self).fetched = []

    def get(self, path: str, **query: Any) -> Any:
        if path.endswith("/items"):
            assert query == {"outcome": "dropped", "offset": 0, "limit": 200}
            return {"items": [DROPPED], "items_matched": 1}
        return {"items": [BENCH]} if path == "/v1/benches" else BENCH

    def upload(self, path: Path) -> dict[str, Any]:
        return {"id": f"id of {path.name}"}

    def post(self, path: str, body: Any, **_: Any) -> Any:
        type(self).sent = (path, body)
        return BENCH

    def save(self, path: str, target: Path, **query: Any) -> None:
        self.fetched.append((path, query))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path)


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    output = StringIO()
    monkeypatch.setattr(benches, "ApiClient", _Client)
    monkeypatch.setattr(benches, "_console", Console(file=output, width=160))
    return output


def run(*arguments: str) -> None:
    done = CliRunner().invoke(app, ["benches", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output


def test_benches_are_listed_and_shown_with_their_review(output: StringIO) -> None:
    run()
    run("list")
    assert output.getvalue().count("my [red] bench") == 2
    run("show", "bench_1")
    said = output.getvalue()
    for words in ("5 items on 2 instructions, from file file_1", "bad_rubric 2", "line 7: bad_rubric: four levels"):
        assert words in said
    assert "and 1 more, listed by GET /v1/benches/bench_1/rejected" in said
    assert [line.split()[1] for line in said.splitlines() if "│" in line][-2:] == ["ada", "together"]


def test_a_file_is_uploaded_and_made_a_bench(output: StringIO, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    run("add", str(file))
    assert _Client.sent == ("/v1/benches", {"file": "id of mine.jsonl"})
    run("add", str(file), "--name", "mine")
    assert _Client.sent == ("/v1/benches", {"file": "id of mine.jsonl", "name": "mine"})
    assert "my [red] bench" in output.getvalue()


def test_the_summary_of_a_review_names_what_is_dropped_and_why(output: StringIO) -> None:
    run("review-summary", "bench_1")
    assert "ada: off topic; cy: drop" in output.getvalue()
    assert "fine" not in output.getvalue()


def test_an_export_has_the_bench_and_the_decisions_beside_it(output: StringIO, tmp_path: Path) -> None:
    run("export", "bench_1", "--out", str(tmp_path / "to"), "--format", "parquet")
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["bench.parquet", "reviews.jsonl"]
    assert _Client.fetched == [
        ("/v1/benches/bench_1/export", {"layout": "multifaceted_bench", "format": "parquet"}),
        ("/v1/benches/bench_1/reviews", {}),
    ]
    assert "bench.parquet and reviews.jsonl" in output.getvalue()
