"""Answers of a file, matched with the questions: everything is used or counted."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from services.evaluation.taking.taking import run
from shared.artifacts.tables import read_rows, write_rows
from shared.domain.errors import StepFailed
from shared.domain.identifiers import row_id_of
from shared.domain.jobs import JobSpec
from shared.domain.rows import Facet, InstructionRow, Rejection
from shared.domain.taxonomy import default_taxonomy
from shared.stages.protocol import InputObject, WholeContext, WholeResult

SPEC = JobSpec.model_validate(
    {"questions": {"bench": "bench_1"}, "answer": [{"name": "theirs", "candidate": {"file": "file_1"}}]}
)


def question(text: str, *systems: str) -> InstructionRow:
    facets = [Facet(number, system=system) for number, system in enumerate(systems)]
    return InstructionRow(row_id_of(text), text, "s", "s", 0, facets=facets)


ASKED = [
    question("What is tea?", "Be brief.", "Be thorough."),
    question("What is rye?", "Be calm."),
    question("What is oat?", "Be kind."),
]


def taken(folder: Path, lines: list[dict[str, Any]], asked: list[InstructionRow] | None = None) -> WholeResult:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    file = folder / "answers.jsonl"
    file.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    part = folder / "part.parquet"
    write_rows(part, asked or [question(row.instruction, *(f.system or "" for f in row.facets)) for row in ASKED])
    inputs = (
        InputObject("select", "part-00000.parquet", part, 3, {}),
        InputObject("upload", "file_1", file, None, {"name": "answers.jsonl"}),
    )
    return run(WholeContext("job_1", "take-theirs", SPEC, default_taxonomy(), inputs, out, lambda *_: None))


def answers(result: WholeResult) -> list[list[str]]:
    rows = [row for output in result.outputs for row in read_rows(output.path)]
    return [[answer.text for answer in facet.answers] for row in rows for facet in row.facets]


FULL: list[dict[str, Any]] = [
    {"prompt": "What is tea?", "system": "Be brief.", "output": "Leaves."},
    {"prompt": "What is tea?", "system": "Be thorough.", "output": "Leaves, steeped."},
    {"instruction": "What is rye?", "answer": "Grain."},
    {"prompt": "What is oat?", "response": "A cereal."},
]


def test_answers_are_matched_by_prompt_and_system_message_and_best_where_there_is_one(tmp_path: Path) -> None:
    result = taken(tmp_path, FULL)
    assert answers(result) == [["Leaves."], ["Leaves, steeped."], ["Grain."], ["A cereal."]]
    assert result.summary == {"lines": 4, "answers": 4, "left_out": {}}
    rows = [row for output in result.outputs for row in read_rows(output.path)]
    assert all(facet.answers[0].best for row in rows for facet in row.facets)
    assert [output.name for output in result.outputs] == ["part-00000.parquet"]


def test_an_items_id_says_what_was_asked_and_several_answers_are_samples(tmp_path: Path) -> None:
    item = f"{ASKED[0].row_id}:1"
    result = taken(tmp_path, [*FULL[:1], *FULL[2:], {"item": item, "output": "one"}, {"item": item, "output": "two"}])
    assert answers(result)[1] == ["one", "two"]


def test_every_line_that_becomes_no_answer_is_counted_and_missing_answers_are_rejected(tmp_path: Path) -> None:
    odd = [
        {"prompt": "What is tea?", "output": "for whom?"},
        {"prompt": "What is coal?", "output": "A rock."},
        {"prompt": "What is oat?", "output": "A cereal."},
        {"prompt": "What is oat?", "output": "  "},
        {"output": "to what?"},
    ]
    result = taken(tmp_path, FULL[:1] + FULL[2:] + odd)
    assert result.summary["left_out"] == {
        "ambiguous": 1,
        "another_bench": 1,
        "duplicate": 1,
        "empty": 1,
        "missing_field": 1,
    }
    assert (result.ledger.facets_in, result.ledger.facets_out) == (4, 3)
    assert result.ledger.reasons == {"no_answer": 1}


def test_a_file_of_answers_to_other_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"answers 0 of 4 questions \(another_bench: 2\)") as failed:
        taken(tmp_path, [{"prompt": f"What is {thing}?", "output": "x"} for thing in ("coal", "tin")])
    assert failed.value.code == "answers_of_other_questions"


def test_what_an_earlier_stage_rejected_stays_as_it_was(tmp_path: Path) -> None:
    asked = [question("What is rye?", "Be calm.", "Be loud.")]
    asked[0].facets[1].rejection = Rejection("rubric", "rubric_levels")
    result = taken(tmp_path, [{"prompt": "What is rye?", "output": "Grain."}], asked)
    assert answers(result) == [["Grain."], []]
    assert result.ledger.facets_in == 1


def test_numbered_samples_may_say_the_same_and_conversations_come_as_lists(tmp_path: Path) -> None:
    prompt = {"prompt": "What is oat?"}
    samples = [{**prompt, "output": "A cereal.", "sample": number} for number in (0, 1, 1)]
    result = taken(tmp_path, [*FULL[:2], {"prompt": "What is rye?", "output": ["Grain.", "Bread."]}, *samples])
    assert answers(result)[3] == ["A cereal.", "A cereal."]
    assert result.summary["left_out"] == {"duplicate": 1}
    rows = [row for output in result.outputs for row in read_rows(output.path)]
    assert rows[1].facets[0].answers[0].later == ["Bread."]


def test_a_blank_system_message_says_nothing_and_another_one_is_told_apart(tmp_path: Path) -> None:
    odd = [{"prompt": "What is rye?", "system": "", "output": "Grain."}]
    result = taken(
        tmp_path, [*FULL[:2], FULL[3], *odd, {"prompt": "What is oat?", "system": "Be rude.", "output": "x"}]
    )
    assert answers(result)[2] == ["Grain."]
    assert result.summary["left_out"] == {"another_system": 1}
