"""The report's section on answers: figures per candidate, the best-of-n curve, and what must be said of the models."""

import re
from pathlib import Path
from typing import Any

import pytest

from services.curation.reporting.report import run
from shared.artifacts.tables import write_rows
from shared.domain.errors import StepFailed
from shared.domain.jobs import JobSpec
from shared.domain.ledger import row_ledger, total
from shared.domain.rows import Answer, Facet, InstructionRow, Provenance, Rejection
from shared.stages.protocol import InputObject, WholeContext
from shared.statistics.best_of import expected_best
from tests.services.curation.assembly.synthetic import make_context

ANSWERS = [
    {"name": "janus", "candidate": {"registry": "model_1"}, "samples": 4, "reward": {"deployment": "rm"}},
    {"name": "other", "candidate": {"provider": "openai", "model": "gpt-4o"}, "system": "none"},
]


def made_by(stage: str, model: str) -> Provenance:
    return Provenance(stage, "deployment", model, "verbatim", 1)


def rows_of(stage: str, samples: int, *, models: tuple[str, ...] = ("model_1",), scored: bool = True) -> Any:
    rows = []
    for number in range(12):
        answers = [
            Answer("text", "length" if n == 0 else "stop", n, 10 + number, float(number + n) if scored else None)
            for n in range(samples)
        ]
        facet = Facet(0, system="Be brief.", answers=answers, provenance=[made_by(stage, models[number % len(models)])])
        failed = Facet(1, answers=[Answer("", "stop", 0, 0, fault="empty")] * samples)
        failed.rejection = Rejection(stage, "empty", "all")
        rows.append(InstructionRow(f"{number:016x}", "x", "s", "s", number, facets=[facet, failed]))
    return rows


def report(folder: Path, *, facts: dict[str, Any] | None = None, models: tuple[str, ...] = ("model_1",)) -> str:
    inputs, ledgers = [], {}
    for stage, samples in (("janus", 4), ("other", 1)):
        rows = rows_of(stage, samples, models=models, scored=stage == "janus")
        path = folder / f"{stage}.parquet"
        write_rows(path, rows)
        inputs.append(InputObject(stage, "part-00000.parquet", path, len(rows), {}))
        ledgers[stage] = total(row_ledger(row, stage) for row in rows)
    spec = JobSpec.model_validate({"answer": ANSWERS, "questions": {"job": "job_1"}})
    context: WholeContext = make_context(
        folder, inputs, stage="report", spec=spec, stage_ledgers=ledgers, facts=facts or {}
    )
    result = run(context)
    assert result.summary == {"trainings": 0, "answers": 2}
    assert [output.name for output in result.outputs] == ["report.html"]
    html = (context.output_folder / "report.html").read_text()
    return " ".join(re.sub(r"<script.*?</script>|<[^>]*>", " ", html, flags=re.DOTALL).split())


def test_each_candidate_is_told_with_what_it_answered(tmp_path: Path) -> None:
    text = report(tmp_path)
    assert "2 candidates that answered of job" in text
    assert text.index("Registered model model_1") < text.index("Openai/gpt-4o")
    assert "instructions 12 questions 24 answers 96 questions rejected 50.0%" in text
    assert "length 25.0%" in text
    assert "Answers that do not count: empty 48" in text
    assert "no system message" in text.split("Openai/gpt-4o")[1]
    assert "trainings" not in text.lower()


def test_the_curve_comes_from_all_answers_with_intervals_and_says_what_it_cannot_show(tmp_path: Path) -> None:
    text = report(tmp_path)
    first = [expected_best([number, number + 1, number + 2, number + 3], 1) for number in range(12)]
    best = [number + 3 for number in range(12)]
    for n, values in ((1, first), (4, best)):
        assert re.search(rf" {n} {sum(values) / 12:.2f} \(\d+\.\d\d to \d+\.\d\d\)", text)
    assert "they do not show that answers get better" in text
    assert text.count("best of n answers") == 1


def test_trials_and_simulated_models_are_called_so(tmp_path: Path) -> None:
    known = {
        "janus": {"random_weights": True, "simulated_data": True},
        "janus:reward": {"random_weights": True},
        "other": {"simulator": True},
    }
    text = report(tmp_path, facts={"answer_models": known})
    assert "The candidate started from random weights" in text
    assert "The candidate was trained on texts of the simulator" in text
    assert "The reward model started from random weights" in text
    assert "The candidate is a simulator" in text
    assert "random weights" not in report(tmp_path)


def test_a_deployment_that_changed_under_the_job_is_told(tmp_path: Path) -> None:
    assert "Several models answered" in report(tmp_path, models=("model_1", "model_2"))
    assert "Several models answered" not in report(tmp_path)


def test_answers_that_left_nothing_are_nothing_to_report(tmp_path: Path) -> None:
    spec = JobSpec.model_validate({"answer": ANSWERS, "questions": {"job": "job_1"}})
    with pytest.raises(StepFailed, match="nor answers"):
        run(make_context(tmp_path, [], stage="report", spec=spec, facts={}))
