"""Two evaluations side by side: paired where they can be, refused where they ask different things."""

from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from services.cli.compare import run_compare
from services.evaluation.reporting.report import run
from shared.domain.errors import MultifacetError
from tests.services.evaluation.evaluated import context_of, judged, row_of, spec_of

ONE = [{"name": "tuned", "candidate": {"deployment": "tuned"}}]


def evaluation(folder: Path, score: float, count: int = 12, **evaluate: Any) -> str:
    folder.mkdir()

    def rows() -> list[Any]:
        return [row_of(number, lambda number, person: f"answer {number} {person}") for number in range(count)]

    graded = judged(rows(), lambda number, person, owner: score + number % 2)
    spec = spec_of({"absolute": {}, **evaluate}, answer=ONE)
    run(context_of(folder, spec, {"tuned": rows(), "judge-tuned": graded}))
    return str(folder / "out")


def told(first: str, second: str, **more: bool) -> str:
    out = StringIO()
    run_compare(first, second, Console(file=out, width=160), **{"force": False, "as_json": False, **more})
    return out.getvalue()


def test_scores_are_compared_item_by_item(tmp_path: Path) -> None:
    first, second = evaluation(tmp_path / "a", 3.0), evaluation(tmp_path / "b", 2.0)
    found = orjson.loads(told(first, second, as_json=True))
    by_figure = {row["figure"]: row for row in found["differences"]}
    # Every item differs by exactly 1, so that paired there is no doubt; the dimensions' intervals know of no pairs.
    assert (by_figure["score"]["difference"], by_figure["score"]["method"]) == (1.0, "no_variation")
    assert by_figure["score: style"]["low"] < 1.0 < by_figure["score: style"]["high"]
    assert found["items"] == 36
    text = told(first, second)
    assert "differs" in text
    assert "over 36 items" in text


def test_another_judge_or_other_options_are_told(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "a", 3.0)
    second = evaluation(tmp_path / "b", 3.0, absolute={"runs": 5})
    assert "evaluate.absolute.runs: 3 and 5" in told(first, second)


def test_evaluations_of_other_items_are_refused_unless_forced(tmp_path: Path) -> None:
    first, second = evaluation(tmp_path / "a", 3.0), evaluation(tmp_path / "b", 2.0, count=8)
    with pytest.raises(MultifacetError, match="24 are the same"):
        told(first, second)
    assert "over 24 items" in told(first, second, force=True)


def test_what_is_no_evaluation_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(MultifacetError, match="cannot be read"):
        told(str(tmp_path), str(tmp_path))
    (tmp_path / "evaluation.json").write_text("[]")
    (tmp_path / "items.csv").write_text("row_id,facet\n")
    with pytest.raises(MultifacetError, match="holds no evaluation"):
        told(str(tmp_path), str(tmp_path))
