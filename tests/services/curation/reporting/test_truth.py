"""What report and card say of the truth of the data: figures are there, and those out of bounds are said aloud."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from services.curation.reporting.figures_as_text import figure_text, share_text, whole_text
from services.curation.reporting.report import run
from services.curation.reporting.truth import truth_faults
from shared.domain.rows import InstructionRow, Verdict
from tests.services.curation.assembly.synthetic import make_rows
from tests.services.curation.reporting.finished import report_context


def interval(estimate: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"estimate": estimate, "low": low, "high": high}


def truth(**changes: Any) -> dict[str, Any]:
    """Figures with nothing wrong, and what a test changes of them."""
    balance = {
        "entropy": 0.97,
        "preferences_per_pole": 50.0,
        "unbalanced": [],
        "pairs": 300,
        "alike": 0,
    }
    blind, position = changes.pop("blind", interval(0.5)), changes.pop("position", interval(0.0, -0.01, 0.01))
    return {"balance": balance | changes, "shortcuts": {"blind": {"accuracy": blind}, "position": {"gain": position}}}


def test_figures_within_bounds_are_no_fault() -> None:
    assert truth_faults(truth()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unbalanced": [{"subdimension": "tone", "pole": "warm", "estimate": 0.8}]}, "“warm” takes 80%"),
        ({"entropy": 0.8}, "crowd on a few poles"),
        ({"alike": 4}, "4 of 300 pairs of sets"),
        ({"blind": interval(0.6, 0.55, 0.65)}, "tells the chosen answer in 60.0%"),
        ({"blind": interval(0.53)}, "it should be 52% at most"),
        ({"position": interval(0.3, 0.25, 0.35)}, "by 30.0% more often"),
    ],
)
def test_figures_out_of_bounds_are_said(changes: dict[str, Any], said: str) -> None:
    (fault,) = truth_faults(truth(**changes))
    assert said in fault


@pytest.mark.parametrize(
    "changes",
    [
        {"entropy": 0.8, "preferences_per_pole": 3.0},
        {"blind": interval(0.6, 0.45, 0.75)},
        {"blind": interval(None)},
        {"position": interval(0.08, 0.02, 0.14)},
    ],
)
def test_what_may_be_chance_is_no_fault(changes: dict[str, Any]) -> None:
    assert truth_faults(truth(**changes)) == []


def judged_rows(count: int) -> list[InstructionRow]:
    """Rows whose answers follow all wishes of their own person and none of the others."""
    rows = make_rows(count)
    for row in rows:
        row.matrix = [
            Verdict(answer.index, facet.index, position, "followed" if answer is facet else "violated", "judge")
            for answer in row.facets
            for facet in row.facets
            for position in range(len(facet.preferences))
        ]
    return rows


def test_report_card_and_statistics_tell_whom_answers_serve(tmp_path: Path) -> None:
    context = report_context(tmp_path, judged_rows(40))
    result = run(context)
    page = (context.output_folder / "report.html").read_text()
    card = (context.output_folder / "README.md").read_text()
    found = orjson.loads((context.output_folder / "statistics.json").read_bytes())["truth"]
    train = next(split for split in found["matrix"]["splits"] if split["split"] == "train")
    # A wish that two people share is judged twice here, once followed and once violated.
    assert 0.9 < train["specificity"]["estimate"] < train["matched_share"]["estimate"] == 1.0
    assert sum(level["facets"] for level in found["matrix"]["levels"]) == result.summary["facets"]
    assert found["shortcuts"]["blind"]["accuracy"]["estimate"] == 0.5
    assert found["balance"]["instructions"] == train["instructions"]
    for text in (page, card):
        assert "Does each answer serve its own person?" in text
        assert figure_text(train["specificity"]) in text
    assert "people given their own answer" in page
    assert result.summary["truth_faults"] == len(truth_faults(found))


def test_without_verdicts_nothing_is_made_up(tmp_path: Path) -> None:
    context = report_context(tmp_path, make_rows(8))
    run(context)
    card = (context.output_folder / "README.md").read_text()
    found = orjson.loads((context.output_folder / "statistics.json").read_bytes())["truth"]
    assert found["matrix"]["verdicts"] == {}
    assert {level["followed"]["estimate"] for level in found["matrix"]["levels"]} == {None}
    assert "Without a judge only wishes that a program decides are known" in card


def test_figures_are_written_with_their_intervals() -> None:
    assert share_text(interval(0.84, 0.802, 0.871)) == "84.0% (80.2% to 87.1%)"
    assert figure_text(interval(0.84, 0.802, 0.871)) == "0.84 (0.80 to 0.87)"
    assert whole_text(interval(1234.4)) == "1,234"
    assert share_text(interval(None)) == "–"
