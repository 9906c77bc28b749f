"""`multifacet agreement` and `multifacet rate`: what they print, as tables and as JSON, and what they refuse."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from services.cli import main
from services.cli.main import app
from shared.domain.errors import InputRefused
from tests.shared.verdict_files import rows
from tests.shared.verdict_files.rows import write


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "console", Console(soft_wrap=True, width=200))


def run(*arguments: str) -> str:
    shown = CliRunner().invoke(app, arguments)
    if shown.exception is not None and not isinstance(shown.exception, SystemExit):
        raise shown.exception
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def test_agreement_as_tables_and_as_json(tmp_path: Path) -> None:
    lines = [*rows.PANDALM, rows.PANDALM[0], rows.PANDALM[0] | {"idx": 9, "annotator2": None}]
    path = str(write(tmp_path, lines, "json"))
    printed = run("agreement", path)
    assert "layout pandalm, 5 of 6 lines used" in printed
    assert "lines left out: 1 duplicate (first: line 5: annotator1 has a verdict on '0' already)" in printed
    assert "verdicts missing: 1 no verdict (first: line 6, annotator2)" in printed
    assert "Fleiss' kappa (4 items with every label)" in printed
    assert "majority labels: first 1, second 1, tie 1, no majority 2" in printed
    found = json.loads(run("agreement", path, "--json"))
    assert found["left_out"]["duplicate"]["lines"] == 1
    assert {pair["first"] + pair["second"]: pair["items"] for pair in found["pairs"]} == {
        "annotator1annotator3": 5, "annotator1annotator2": 4, "annotator3annotator2": 4,
    }  # fmt: skip
    assert found["krippendorff"]["nominal"]["clusters"] == 5


def test_many_annotators_are_cut_in_the_terminal_alone(tmp_path: Path) -> None:
    line = {"item": "i", **{f"annotator{number}": number % 2 for number in range(8)}}
    path = str(write(tmp_path, [line, line | {"item": "j", "annotator0": 1}]))
    assert "and 8 pairs with fewer common items: --json has all" in run("agreement", path)
    assert len(json.loads(run("agreement", path, "--json"))["pairs"]) == 28


def test_rates_as_tables_and_as_json(tmp_path: Path) -> None:
    path = str(write(tmp_path, rows.ARENA_HARD))
    printed = run("rate", path)
    assert "layout arena-hard, 4 of 4 lines used" in printed
    assert "held fixed" in printed
    assert "50.0% (" in printed
    assert "33.3%" in printed  # one of three pairs changes sides
    found = json.loads(run("rate", path, "--baseline", "theirs", "--json"))
    assert found["pairs"][0]["win_rate"]["second"] == "theirs"
    assert found["pairs"][0]["win_rate"]["interval"]["estimate"] == 0.5
    assert found["ratings"]["missing"] == 1


def test_rates_under_control(tmp_path: Path) -> None:
    path = str(write(tmp_path, rows.ARENA, "parquet"))
    printed = run("rate", path, "--layout", "arena", "--baseline", "ant", "--length-control", "--style-control")
    assert "at equal length" in printed
    assert "rating at equal style" in printed
    assert "bold passages" in printed
    assert "at equal length" not in run("rate", path)


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="of no known layout"):
        run("rate", str(write(tmp_path, [{"question": 1}])))
    with pytest.raises(InputRefused, match="tells no lengths"):
        run("rate", str(write(tmp_path, rows.ARENA_HARD)), "--style-control")
    with pytest.raises(InputRefused, match="is no layout"):
        run("agreement", str(write(tmp_path, rows.RATINGS)), "--layout", "stars")
