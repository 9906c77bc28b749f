"""What `multifacet acceptance` refuses before a model is asked, and the job that it submits."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from services.cli import acceptance
from services.cli.acceptance import INSTRUCTIONS, acceptance_spec, run_acceptance
from services.cli.client import ApiClient
from shared.domain.errors import MultifacetError
from shared.domain.idle_options import idle_options
from shared.domain.jobs import JobSpec
from shared.sources.bundled import bundled_file

REAL = {"provider": "openai", "model": "gpt-4.1-mini"}


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **changes: Any) -> int:
    monkeypatch.setenv("MULTIFACET_STATE_FOLDER", str(tmp_path / "state"))
    arguments: dict[str, Any] = {
        "instructions": None,
        "teacher": "openai",
        "judge": None,
        "budget_usd": 5.0,
        "out": tmp_path / "out",
        "console": Console(),
        "confirmed": True,
    }
    return run_acceptance(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher": "simulator"}, "says nothing about quality"),
        ({"judge": "simulator/simulator-small"}, "says nothing about quality"),
        ({"teacher": "nobody"}, "names no model"),
        ({"judge": "nobody/model"}, "'nobody' is not configured"),
        ({}, "'openai' needs a key: set OPENAI_API_KEY"),
        ({"instructions": Path("absent.jsonl")}, "there is no file absent.jsonl"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(MultifacetError, match=said):
        run(monkeypatch, tmp_path, **changes)
    assert not (tmp_path / "state" / "postgres").exists()


@pytest.mark.parametrize(
    ("cost", "said"), [(None, "price of a model is not known"), (5_000_001, r"\$5.00, above the budget of \$5.00")]
)
def test_a_job_that_the_budget_does_not_hold_is_not_submitted(cost: int | None, said: str) -> None:
    with pytest.raises(MultifacetError, match=said):
        acceptance._within_budget({"cost_micro_usd": cost, "calls": 3000}, 5.0)
    acceptance._within_budget({"cost_micro_usd": 5_000_000, "calls": 3000}, 5.0)


def test_the_job_holds_its_budget_and_takes_so_many_instructions_of_our_own() -> None:
    spec = JobSpec.model_validate(acceptance_spec(ApiClient("http://127.0.0.1:1"), None, REAL, REAL, 5.0))
    assert (spec.budget_usd, spec.sources[0].limit, spec.judge) == (5.0, INSTRUCTIONS, spec.teacher)
    assert list(idle_options(spec)) == []
    lines = bundled_file("acceptance", "").read_text(encoding="utf-8").splitlines()
    assert len(set(lines)) == INSTRUCTIONS
    assert set(bundled_file("demo", "").read_text(encoding="utf-8").splitlines()) <= set(lines)
