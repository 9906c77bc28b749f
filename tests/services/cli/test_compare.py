"""`multifacet compare` on files, folders and jobs, and its refusal of two benches."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli import compare
from services.cli.main import app
from shared.domain.errors import MultifacetError
from tests.shared.evaluations.test_comparing import written

RUNNER = CliRunner(env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two evaluations of one bench, and one of a smaller one."""
    folder = tmp_path_factory.mktemp("evaluations")
    return (
        written(folder / "first", lambda number, *_: 3.0 + number % 3 / 2),
        written(folder / "second", lambda number, *_: 2.0 + number % 2),
        written(folder / "smaller", lambda *_: 2.0, count=10),
    )


def test_differences_are_told_by_candidate_and_dimension(evaluations: tuple[Path, Path, Path]) -> None:
    first, second, _ = evaluations
    shown = RUNNER.invoke(app, ["compare", str(first / "evaluation.json"), str(second)])
    assert shown.exit_code == 0, shown.output
    lines = [" ".join(line.replace("│", " ").split()) for line in shown.output.splitlines()]
    (score, *_) = [line for line in lines if line.startswith("score, all rubrics")]
    assert score.startswith("score, all rubrics 3.500 2.500 +1.000 +")
    assert score.endswith("36 differs")
    assert sum(line.startswith("background knowledge") for line in lines) == 2
    found = json.loads(RUNNER.invoke(app, ["compare", str(first), str(second), "--json"]).output)
    assert found["same_bench"]
    assert {one["figure"] for one in found["differences"]} >= {"score", "score.style", "specificity", "words"}


def test_different_benches_are_compared_only_when_forced(evaluations: tuple[Path, Path, Path]) -> None:
    first, _, smaller = evaluations
    refused = RUNNER.invoke(app, ["compare", str(first), str(smaller)])
    assert isinstance(refused.exception, MultifacetError)
    assert "36 and 30 items, 30 of them in common" in str(refused.exception)
    forced = RUNNER.invoke(app, ["compare", str(first), str(smaller), "--force"])
    assert forced.exit_code == 0
    assert "the benches differ" in forced.output


def test_benches_without_an_item_in_common_are_never_compared(
    evaluations: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    first, second = evaluations[0], tmp_path / "other"
    shutil.copytree(first, second)
    table = second / "items.csv"
    table.write_text(re.sub(r"(?m)^0", "f", table.read_text()))
    document = json.loads((second / "evaluation.json").read_text())
    document["bench"]["fingerprint"] = "f"
    (second / "evaluation.json").write_text(json.dumps(document))
    shown = RUNNER.invoke(app, ["compare", str(first), str(second), "--force"])
    assert "no item in common" in str(shown.exception)


def test_jobs_are_fetched_through_the_api(
    evaluations: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {"job_1": evaluations[0], "job_2": evaluations[1]}

    class Client:
        def get(self, path: str) -> dict[str, Any]:
            job = path.rsplit("/", 1)[1]
            names = ("evaluation.json", "items.csv") if job in folders else ()
            return {"files": [{"id": f"{job}~{name}", "name": name, "sha256": "x"} for name in names]}

        def download(self, path: str, target: Path, expected_sha256: str) -> None:
            job, _, name = path.split("/")[3].partition("~")
            shutil.copyfile(folders[job] / name, target)

    monkeypatch.setattr(compare, "ApiClient", Client)
    shown = RUNNER.invoke(app, ["compare", "job_1", "job_2"])
    assert shown.exit_code == 0, shown.output
    assert "base of job_1 minus base of job_2" in shown.output
    unfinished = RUNNER.invoke(app, ["compare", "job_1", "job_3"])
    assert "job_3 has no figures yet" in str(unfinished.exception)


def test_a_path_that_is_not_there_is_not_taken_for_a_job(evaluations: tuple[Path, Path, Path]) -> None:
    shown = RUNNER.invoke(app, ["compare", str(evaluations[0]), "no/such/evaluation.json"])
    assert "there is no no/such/evaluation.json" in str(shown.exception)
