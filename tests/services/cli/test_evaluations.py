"""Evaluations in the terminal: listed with first figures, shown whole, and run after the estimate was agreed to."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner, Result

from services.cli import evaluations
from services.cli.main import app

FIGURE = {"estimate": 4.0, "low": 3.5, "high": 4.5}
EVALUATION: dict[str, Any] = {
    "candidates": [
        {"name": "[a]", "models": ["p/m"], "system": "own", "absolute": {"overall": FIGURE}},
        {"name": "b", "models": ["p/n"], "system": "own", "absolute": {"overall": {**FIGURE, "estimate": 4.2}}},
    ],
    "differences": [{"first": "[a]", "second": "b", "estimate": -0.2, "low": -0.5, "high": 0.1}],
    "completeness": {"reasons": ["judge-b lost 9 of 10 verdicts"]},
    "flags": ["the judge is b itself"],
    "simulated": ["judge"],
}
JOB: dict[str, Any] = {
    "id": "job_1",
    "name": "my [red] evaluation",
    "state": "succeeded",
    "stages": [{"name": "judge-b", "state": "running", "progress": 0.25}],
    "spec": {},
}
SUMMARY = {
    **JOB,
    "incomplete": True,
    "candidates": ["[a]", "b"],
    "headline": {"candidates": [{"name": "b", "score": 4.2}]},
    "created_at": "2026-01-01T12:34:56Z",
    "cost_micro_usd": 1_500_000,
}
ESTIMATE = {
    "stages": [{"stage": "b", "calls": 7, "prompt_tokens": 1, "completion_tokens": 2, "cost_micro_usd": 3}],
    "cost_micro_usd": 2_000_000,
}


class _Client:
    evaluation: dict[str, Any] | None = EVALUATION
    sent: list[tuple[str, Any]]

    def __init__(self) -> None:
        type(self).sent = []

    def get(self, path: str, **_: Any) -> Any:
        if path == "/v1/evaluations":
            return {"items": [SUMMARY]}
        return {"job": JOB, "evaluation": self.evaluation, "files": [{"name": "report.html"}]}

    def post(self, path: str, body: Any, *headers: Any) -> Any:
        self.sent.append((path, body))
        assert path.endswith("/estimate") or headers[0]["Idempotency-Key"]
        return ESTIMATE if path.endswith("/estimate") else {"job": JOB}


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    output = StringIO()
    monkeypatch.setattr(evaluations, "ApiClient", _Client)
    monkeypatch.setattr(evaluations, "_console", Console(file=output, width=160))
    return output


@pytest.fixture
def spec(tmp_path: Path) -> tuple[str, dict[str, Any]]:
    body = {"bench": "bench_1", "candidates": [], "evaluate": {}}
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(body))
    return str(path), body


def run(*arguments: str, **more: Any) -> Result:
    done = CliRunner().invoke(app, ["evaluations", *arguments], **more)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_evaluations_are_listed_with_their_first_figures(output: StringIO) -> None:
    run()
    run("list")
    said = output.getvalue()
    assert said.count("my [red] evaluation") == 2
    for words in ("succeeded, incomplete", "[a]", "b score 4.20", "$1.5000"):
        assert words in said


def test_an_evaluation_is_shown_with_intervals_and_what_weakens_it(output: StringIO) -> None:
    run("show", "job_1")
    said = output.getvalue()
    for words in (
        "4.00 (3.50 to 4.50)",
        "[a] − b: -0.20 (-0.50 to +0.10), zero is within",
        "incomplete: judge-b lost 9 of 10 verdicts",
        "the judge is b itself",
        "no figures of real models: judge",
        "multifacet pull job_1",
    ):
        assert words in said
    heading = next(line for line in said.splitlines() if "[a]" in line)
    assert heading.index("b") < heading.index("[a]")


def test_before_there_are_figures_its_stages_are_shown(output: StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Client, "evaluation", None)
    run("show", "job_1")
    assert "25%" in output.getvalue()


def test_an_evaluation_runs_once_its_estimate_is_agreed_to(output: StringIO, spec: tuple[str, dict[str, Any]]) -> None:
    path, body = spec
    assert run("run", path, input="n\n").exit_code == 2
    assert _Client.sent == [("/v1/evaluations/estimate", body)]
    assert run("run", path, input="y\n").exit_code == 0
    assert _Client.sent == [("/v1/evaluations/estimate", body), ("/v1/evaluations", body)]
    assert "$2.0000" in output.getvalue()
    assert output.getvalue().endswith("job_1\n")
    assert run("run", path, "--yes").exit_code == 0
