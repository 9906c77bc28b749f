"""Benchmarks in their own columns, told apart and read whole: every line is a question or counted."""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.domain.errors import InputRefused
from shared.question_layouts.lines import QuestionLine
from shared.question_layouts.reading import read_question_file, read_question_records, read_references
from shared.sources.readers import BadRecord, Record


def read(folder: Path, *lines: dict[str, Any], layout: str = "auto", **more: Any) -> list[QuestionLine | BadRecord]:
    path = folder / "questions.jsonl"
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return list(read_question_file(path, layout, "/questions/file", **more))


def one(folder: Path, line: dict[str, Any], **more: Any) -> QuestionLine:
    (found,) = read(folder, line, **more)
    assert isinstance(found, QuestionLine), found
    return found


def test_alpaca_eval_brings_the_baselines_output_along(tmp_path: Path) -> None:
    line = {"dataset": "koala", "instruction": "Sing.", "output": "La.", "generator": "gpt4_1106_preview"}
    found = one(tmp_path, line)
    assert (found.instruction, found.category, found.facet.answers[0].text) == ("Sing.", "koala", "La.")
    assert found.facet.preferred is None


def test_mt_bench_has_turns_a_category_and_references_from_either_place(tmp_path: Path) -> None:
    line = {"question_id": 101, "category": "math", "turns": ["2 + 2?", "Twice that?"]}
    plain = one(tmp_path, line)
    assert (plain.instruction, plain.turns, plain.category) == ("2 + 2?", ["Twice that?"], "math")
    assert plain.facet.response is None
    inside = one(tmp_path, {**line, "reference": ["4", "8"]})
    assert (inside.facet.response, inside.facet.later_references) == ("4", ["8"])
    published = tmp_path / "gpt-4.jsonl"
    published.write_bytes(orjson.dumps({"question_id": 101, "choices": [{"index": 0, "turns": ["four", "eight"]}]}))
    beside = one(tmp_path, line, references=read_references(published, "/questions/references"))
    assert (beside.facet.response, beside.facet.later_references) == ("four", ["eight"])


def test_arena_hard_asks_the_first_turn_by_cluster(tmp_path: Path) -> None:
    line = {"question_id": "q", "category": "arena-hard-v0.1", "cluster": "ABC", "turns": [{"content": "Prove it."}]}
    found = one(tmp_path, line)
    assert (found.instruction, found.category, found.turns) == ("Prove it.", "ABC", [])


def test_toxic_prompts_are_left_out_and_told(tmp_path: Path) -> None:
    lines = [
        {"filename": "a", "prompt": {"text": f"So {toxicity}", "toxicity": toxicity}, "continuation": {"text": "x"}}
        for toxicity in (0.1, 0.5, None)
    ]
    kept, *left = read(tmp_path, *lines)
    assert isinstance(kept, QuestionLine)
    assert kept.instruction == "So 0.1"
    assert [one.reason for one in left if isinstance(one, BadRecord)] == ["toxic_prompt", "toxic_prompt"]


def test_pairs_for_reward_models_come_with_the_preferred_answer_first_and_keep_their_subset(tmp_path: Path) -> None:
    bench = {"prompt": "Sing.", "chosen": "La.", "rejected": "No.", "subset": "chat", "id": 3}
    first, second = read(tmp_path, bench, {**bench, "subset": "chat-hard"})
    assert isinstance(first, QuestionLine)
    assert isinstance(second, QuestionLine)
    assert ([answer.text for answer in first.facet.answers], first.facet.preferred) == (["La.", "No."], 0)
    assert first.identity != second.identity
    ours = one(tmp_path, {"input": "You are calm.\nSing.", "chosen": "La.", "rejected": "No."})
    assert ours.instruction == "You are calm.\nSing."
    messages = {
        "prompt": "Sing.",
        "chosen": [{"role": "assistant", "content": "La."}],
        "rejected": [{"content": "No."}],
    }
    assert one(tmp_path, messages).facet.answers[0].text == "La."


@pytest.mark.parametrize(
    ("line", "layout", "reason"),
    [
        ({"instruction": " ", "output": "x", "generator": "g"}, "auto", "empty"),
        ({"question_id": 1, "turns": []}, "auto", "empty"),
        ({"question_id": 1, "turns": ["a", ""]}, "mt_bench", "empty"),
        ({"prompt": "x", "chosen": "", "rejected": "y"}, "auto", "missing_field"),
        ({"prompt": {"text": ""}, "continuation": {}}, "auto", "empty"),
        ({"prompt": "", "output": "x"}, "auto", "empty"),
    ],
)
def test_a_line_that_cannot_be_asked_says_why(tmp_path: Path, line: dict[str, Any], layout: str, reason: str) -> None:
    (found,) = read(tmp_path, line, layout=layout)
    assert isinstance(found, BadRecord)
    assert found.reason == reason


def test_prompts_under_system_messages_and_plain_instructions_are_read_as_before(tmp_path: Path) -> None:
    prompt = one(tmp_path, {"prompt": "Sing.", "system": "Be calm.", "output": "La."})
    assert (prompt.facet.system, prompt.facet.response) == ("Be calm.", "La.")
    assert one(tmp_path, {"instruction": "Sing."}).instruction == "Sing."


def test_a_file_that_is_said_to_be_a_bench_and_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="not the layout of the Multifaceted Bench"):
        read(tmp_path, {"prompt": "Sing."}, layout="multifaceted_bench")


def test_records_of_a_data_set_are_read_alike() -> None:
    asked = {"question_id": 1, "category": "a", "turns": ["x", "y"]}
    first, second = read_question_records(
        [Record(0, asked), BadRecord(1, "invalid_json", "", "")], "auto", "/questions/hub"
    )
    assert isinstance(first, QuestionLine)
    assert first.turns == ["y"]
    assert isinstance(second, BadRecord)


def test_a_file_without_reference_answers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    path.write_text('{"question_id": 1}\n')
    with pytest.raises(InputRefused, match="no reference answers"):
        read_references(path, "/questions/references")


@pytest.mark.skipif(
    "MULTIFACET_REFERENCE_DATA" not in os.environ, reason="MULTIFACET_REFERENCE_DATA names no folder of reference data"
)
def test_the_real_files_are_read_whole() -> None:
    folder = Path(os.environ["MULTIFACET_REFERENCE_DATA"]) / "instructions"
    references = read_references(folder / "mt_bench__reference_answer__gpt-4.jsonl", "/questions/references")
    lines: list[QuestionLine] = []
    for name, count in (("koala_test_set", 180), ("user_oriented_instructions", 252), ("mt_bench__question", 80)):
        found = list(read_question_file(folder / f"{name}.jsonl", "auto", "/questions/file", references))
        lines = [line for line in found if isinstance(line, QuestionLine)]
        assert len(lines) == len(found) == count
    assert len({line.category for line in lines}) == 8
    assert all(len(line.turns) == 1 for line in lines)
    exact = [line for line in lines if line.category in {"math", "reasoning", "coding"}]
    assert len(exact) == 30
    assert all(line.facet.response and line.facet.later_references for line in exact)
