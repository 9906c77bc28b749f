"""Following a job: a stage that tells how far it is gets a line from time to time, and ends with all of its steps done."""

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from services.cli import watch
from services.cli.watch import print_outcome, watch_job


def _stage(name: str, state: str, work: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "train", "state": state, "ledger": {}, "rows_expected": None, "work": work, **more}


def _work(done: int, total: int | None = 400) -> dict[str, Any]:
    return {"done": done, "total": total, "note": f"loss {5 - done / 100:.3f}, 2,600 tokens/s, 3 min left"}


class _Client:
    """Gives one view of the job after another; each look takes `seconds` on the watch's clock."""

    def __init__(self, views: list[list[dict[str, Any]]], seconds: float) -> None:
        self._views: Iterator[list[dict[str, Any]]] = iter(views)
        self._left = len(views)
        self._seconds = seconds
        self.now = 1000.0

    def get(self, path: str) -> dict[str, Any]:
        self.now += self._seconds
        self._left -= 1
        return {"id": "job_1", "state": "running" if self._left else "succeeded", "stages": next(self._views)}


def _lines(monkeypatch: pytest.MonkeyPatch, views: list[list[dict[str, Any]]], seconds: float) -> list[str]:
    client = _Client(views, seconds)
    monkeypatch.setattr(watch.time, "monotonic", lambda: client.now)
    monkeypatch.setattr(watch.time, "sleep", lambda _: None)
    written = StringIO()
    watch_job(client, "job_1", Console(file=written, width=200))  # type: ignore[arg-type]
    return written.getvalue().splitlines()


def test_a_long_training_gets_a_line_now_and_then_and_not_one_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    views = [[_stage("sft", "running", _work(step))] for step in range(1, 401)]
    lines = _lines(monkeypatch, [*views, [_stage("sft", "succeeded")]], 1.0)
    assert lines[0] == "sft        running 1/400  loss 4.990, 2,600 tokens/s, 3 min left"
    assert lines[1] == "sft        running 31/400  loss 4.690, 2,600 tokens/s, 3 min left"
    assert lines[-1] == "sft        succeeded 400/400"
    assert len(lines) == 15


def test_a_short_training_is_told_when_it_starts_and_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    views = [[_stage("sft", "running", _work(step, 20))] for step in range(1, 21)]
    assert len(_lines(monkeypatch, [*views, [_stage("sft", "succeeded")]], 1.0)) == 2


def test_stages_without_progress_are_told_once_per_state_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    done = _stage(
        "compose", "succeeded", ledger={"rows_out": 9, "rows_rejected": 1, "facets_in": 30, "facets_rejected": 4}
    )
    views = [[_stage("compose", "pending")], *[[_stage("compose", "running")]] * 100, [done]]
    assert _lines(monkeypatch, views, 1.0) == ["compose    running", "compose    succeeded 10/10  4 facets rejected"]


def test_rows_that_are_not_asked_are_not_told_as_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = {
        "rows_in": 92, "rows_out": 4, "rows_rejected": 88, "facets_in": 276, "facets_out": 11, "facets_rejected": 265,
    }  # fmt: skip
    views = [
        [_stage("select", "running", kind="select")],
        [_stage("select", "succeeded", kind="select", ledger=ledger)],
    ]
    lines = _lines(monkeypatch, views, 1.0)
    assert lines == ["select     running", "select     succeeded 92/92  4 instructions are asked, 11 times"]


def test_a_stage_of_unknown_length_tells_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    work = {"done": 3, "total": None, "note": "rows are [read]"}
    lines = _lines(monkeypatch, [[_stage("sft", "running", work)]], 1.0)
    assert lines == ["sft        running  rows are [read]"]


def test_a_terminal_shows_a_bar_with_the_steps_and_the_note(monkeypatch: pytest.MonkeyPatch) -> None:
    client = _Client([[_stage("sft", "running", _work(120))], [_stage("sft", "succeeded")]], 1.0)
    monkeypatch.setattr(watch.sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(watch, "_POLL_SECONDS", 0.3)
    written = StringIO()
    watch_job(client, "job_1", Console(file=written, width=120, force_terminal=True, color_system=None))  # type: ignore[arg-type]
    assert "120/400 loss 3.800, 2,600 tokens/s, 3 min left" in written.getvalue()
    assert "400/400" in written.getvalue()


class _Registry:
    """Answers what was asked for of the registry, newest first."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str | int]] = []

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        assert path == "/v1/registry/models"
        self.asked.append(query)
        named = [("model_2", "dpo", True), ("model_1", "sft", False)]
        return {
            "items": [
                {"id": model, "name": f"tiny-{name}", "method": name, "tuning": "full", "adapter_only": adapters}
                for model, name, adapters in named
            ]
        }


def _outcome(spec: dict[str, Any], **changes: Any) -> tuple[list[str], _Registry]:
    registry, written = _Registry(), StringIO()
    job = {"id": "job_1", "state": "succeeded", "spec": spec, **changes}
    print_outcome(registry, job, Console(file=written, width=200))  # type: ignore[arg-type]
    return written.getvalue().splitlines(), registry


def test_the_outcome_names_the_models_that_the_job_registered_first_one_first() -> None:
    lines, registry = _outcome({"train": [{"name": "sft"}, {"name": "dpo"}]})
    assert lines[1:] == [
        "model tiny-sft (sft, full): multifacet models pull model_1 FOLDER",
        "model tiny-dpo (dpo, full, adapters alone): multifacet models pull model_2 FOLDER",
    ]
    assert registry.asked == [{"job": "job_1", "limit": 200}]


def test_a_job_without_trainings_does_not_ask_for_models() -> None:
    lines, registry = _outcome({"train": []}, state="failed", error={"code": "no_rows", "message": "none [left]"})
    assert lines == ["job job_1 failed; cost $0.0000", "no_rows: none [left]"]
    assert registry.asked == []


def test_an_error_is_told_with_its_place_in_the_spec_where_it_names_one() -> None:
    error = {"code": "input_refused", "message": "no rows", "pointer": "/train/0/data"}
    lines, _ = _outcome({"train": []}, state="failed", error=error)
    assert lines[-1] == "input_refused: no rows (at /train/0/data of the spec)"
