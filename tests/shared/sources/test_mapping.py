"""A mapping finds the instruction in any layout; the ready ones do so in the layouts that they are named after."""

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.domain.errors import InputRefused
from shared.domain.jobs import FieldMapping, Source
from shared.sources.inspection import inspect_file, open_source
from shared.sources.mapping import (
    CompiledMapping,
    MappedRow,
    MissingField,
    compile_mapping,
    first_user_turn,
    ready_mappings,
)
from shared.sources.readers import Record, read_records


def mapped(instruction: str, row: dict[str, Any]) -> str | None:
    result = CompiledMapping("given", FieldMapping(instruction=instruction), "/sources/0/mapping").apply(row)
    return result.instruction if isinstance(result, MappedRow) else None


def conversation(*turns: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"content": turn, "role": roles[position % 2]} for position, turn in enumerate(turns)]


ARENA = {
    "question_id": "58210e39b3fd4441a2bd4a518bb44c2d",
    "model_a": "chatglm-6b",
    "model_b": "koala-13b",
    "winner": "model_b",
    "judge": "arena_user_14",
    "conversation_a": conversation("Why do bells ring on Sunday?", "To call people.", "And on Monday?", "Less."),
    "conversation_b": conversation("Why do bells ring on Sunday?", "It is a habit.", "And on Monday?", "Hardly."),
    "turn": 2,
    "anony": True,
    "language": "English",
    "tstamp": 1682351591.1322,
    "openai_moderation": {"categories": {"hate": False}, "category_scores": {"hate": 0.1}, "flagged": False},
    "toxic_chat_tag": {"roberta-large": {"flagged": False, "probability": 0.01}},
}
NECTAR = {
    "prompt": "\n\nHuman: How do I fold a map?\n\nA paper one.\n\nAssistant: So.\n\nHuman: And a sail?\n\nAssistant: ",
    "answers": [
        {"answer": "Flake it.", "model": "gpt-4", "rank": 1.0},
        {"answer": "Roll it.", "model": "llama", "rank": 2.0},
    ],
    "turns": 2,
    "num_responses": 7,
    "source": ["sharegpt", "lmsys-chat-1m"],
    "good_natured": True,
}
OPENHERMES = {
    "source": "airoboros2.2",
    "category": "orca",
    "prompt": "Which river flows through Vienna?",
    "candidates_completions": ["The Danube.", "The Rhine."],
    "candidate_policies": ["teknium/OpenHermes-2.5", "mistralai/Mixtral-8x7B-Instruct-v0.1"],
    "ranks": [1, 2],
    "rank_str": "0>1",
    "chosen_policy": "teknium/OpenHermes-2.5",
    "chosen": conversation("Which river flows through Vienna?", "The Danube."),
    "rejected_policy": "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "rejected": conversation("Which river flows through Vienna?", "The Rhine."),
}
ULTRAFEEDBACK = {
    "source": "evol_instruct",
    "prompt": "Name a metal that is liquid at room temperature.",
    "prompt_id": "0a1b2c",
    "chosen": conversation("Name a metal that is liquid at room temperature.", "Mercury."),
    "chosen-rating": 5.0,
    "chosen-model": "gpt-4",
    "rejected": conversation("Name a metal that is liquid at room temperature.", "Iron."),
    "rejected-rating": 1.0,
    "rejected-model": "alpaca-7b",
    "messages": conversation("Name a metal that is liquid at room temperature.", "Mercury."),
    "score_chosen": 9.0,
    "score_rejected": 1.0,
}
DSP = {
    "query": "Compose a rhyme about rain.",
    "responses": {
        "academy": "Rain…",
        "business": "Rain…",
        "entertainment": "Rain!",
        "literature": "O rain",
        "normal": "Rain.",
    },
}
SELF_INSTRUCT = {
    "id": "user_oriented_task_7",
    "motivation_app": "Merriam-Webster",
    "instruction": "Find a synonym.",
    "instances": [{"input": "quick", "output": "fast"}],
}
MT_BENCH = {"question_id": 81, "category": "writing", "turns": ["Describe a harbour.", "Now in one sentence."]}
ALPACA = {"instruction": "Sort the words.", "input": "pear, apple", "output": "apple, pear"}
KOALA = {"id": "koala_0", "prompt": "Why is the sea salty?"}

LAYOUTS = [
    ("chatbot_arena_conversations", ARENA, "Why do bells ring on Sunday?", "chatbot_arena_conversations", None),
    ("nectar", NECTAR, "How do I fold a map?\n\nA paper one.", "Nectar", "sharegpt, lmsys-chat-1m"),
    (
        "openhermes_preferences",
        OPENHERMES,
        "Which river flows through Vienna?",
        "OpenHermesPreferences",
        "airoboros2.2",
    ),
    (
        "ultrafeedback_binarized_cleaned",
        ULTRAFEEDBACK,
        "Name a metal that is liquid at room temperature.",
        "UltraFeedback-binarized-cleaned",
        "evol_instruct",
    ),
    ("domain_specific_preference", DSP, "Compose a rhyme about rain.", "domain_specific_preference", None),
    ("self_instruct", SELF_INSTRUCT, "Find a synonym.\n\nquick", "self_instruct", "Merriam-Webster"),
    ("mt_bench", MT_BENCH, "Describe a harbour.", "mt_bench", "writing"),
    ("alpaca", ALPACA, "Sort the words.\n\npear, apple", "alpaca", None),
]


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize(("name", "row", "instruction", "main", "original"), LAYOUTS, ids=[item[0] for item in LAYOUTS])
def test_ready_mappings_fit_their_layouts_and_auto_finds_them(
    tmp_path: Path, kind: str, name: str, row: dict[str, Any], instruction: str, main: str, original: str | None
) -> None:
    path = tmp_path / "file"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps([row]) if kind == "json" else json.dumps(row))
    for mapping in ("auto", name):
        source = Source(file="f", mapping=mapping)
        file_format, _, compiled = open_source(path, source, "/sources/0")
        [record] = read_records(path, file_format, "/sources/0", compiled.columns)
        assert isinstance(record, Record)
        assert compiled.name == name
        assert compiled.apply(record.fields) == MappedRow(instruction, main, original)
        assert inspect_file(path, source, "/sources/0").mapping == name


def test_every_automatic_ready_mapping_has_a_layout_test() -> None:
    assert set(ready_mappings()) == {item[0] for item in LAYOUTS} | {"koala"}


def test_koala_by_name() -> None:
    mapping = compile_mapping("koala", ["id", "prompt"], "/sources/0")
    assert mapping.apply(KOALA) == MappedRow("Why is the sea salty?", "koala", None)


def test_an_empty_optional_slot_leaves_nothing_but_space() -> None:
    row = {**SELF_INSTRUCT, "instances": [{"input": "", "output": ""}]}
    result = compile_mapping("self_instruct", list(row), "/sources/0").apply(row)
    assert isinstance(result, MappedRow)
    assert result.instruction.strip() == "Find a synonym."


@pytest.mark.parametrize(
    ("template", "row", "expected"),
    [
        ("{a}", {"a": "x"}, "x"),
        ("{a} and {b.c}", {"a": "x", "b": {"c": "y"}}, "x and y"),
        ("{a.1}", {"a": ["x", "y"]}, "y"),
        ("{a.b}", {"a.b": "dotted name"}, "dotted name"),
        ("{{{a}}}", {"a": "x"}, "{x}"),
        ("$.a[0].b", {"a": [{"b": "x"}]}, "x"),
        ("$..b", {"a": [{"b": "x"}]}, "x"),
        ('$.turns[?(@.role=="user")].content', {"turns": conversation("x", "y")}, "x"),
        ("{n}", {"n": 7}, "7"),
        ("{m}", {"m": [{"from": "system", "value": "s"}, {"from": "human", "value": "x"}]}, "x"),
        ("{m}", {"m": {"content": [{"type": "text", "text": "x"}, {"type": "image"}]}}, "x"),
    ],
)
def test_templates_and_paths(template: str, row: dict[str, Any], expected: str) -> None:
    assert mapped(template, row) == expected


@pytest.mark.parametrize(
    ("template", "row"),
    [
        ("{a}", {"b": "x"}),
        ("{a}", {"a": None}),
        ("{a.5}", {"a": ["x"]}),
        ("{a} {b}", {"a": "x"}),
        ("$.a.b", {"a": {}}),
        ("{a}", {"a": [{"role": "assistant", "content": "only the assistant"}]}),
        ("{a}", {"a": []}),
    ],
)
def test_a_row_without_the_field_says_so(template: str, row: dict[str, Any]) -> None:
    result = CompiledMapping("given", FieldMapping(instruction=template), "").apply(row)
    assert isinstance(result, MissingField)
    assert template in result.detail


@pytest.mark.parametrize("template", ["{a", "a}", "{}", "{ ? }", "no slot at all", "$.["])
def test_unreadable_templates_are_refused_at_their_pointer(template: str) -> None:
    with pytest.raises(InputRefused) as caught:
        CompiledMapping("given", FieldMapping(instruction=template), "/sources/3/mapping")
    assert caught.value.pointer == "/sources/3/mapping/instruction"


def test_an_instruction_without_a_slot_is_refused_whatever_the_sources_name() -> None:
    fields = FieldMapping(instruction="fixed text here", main_source="{q}", original_source="$..q")
    with pytest.raises(InputRefused, match="every row would be the same") as caught:
        CompiledMapping("given", fields, "/sources/3/mapping")
    assert caught.value.pointer == "/sources/3/mapping/instruction"


def test_an_unknown_mapping_names_those_that_exist() -> None:
    with pytest.raises(InputRefused, match=r"no ready mapping 'nektar'.*nectar") as caught:
        compile_mapping("nektar", ["prompt"], "/sources/0")
    assert caught.value.pointer == "/sources/0/mapping"


def test_auto_without_a_known_column_shows_the_columns() -> None:
    with pytest.raises(InputRefused, match=r"\['title', 'body'\]"):
        compile_mapping("auto", ["title", "body"], "/sources/0")


def test_auto_says_which_common_column_it_took() -> None:
    mapping = compile_mapping("auto", ["id", "question", "source"], "/sources/0")
    assert mapping.name == "auto: question"
    assert mapping.apply({"question": "x", "source": "s"}) == MappedRow("x", None, "s")


def test_only_the_columns_in_use_are_named() -> None:
    fields = FieldMapping(instruction="{a.b} {c}", original_source="$.d.e")
    assert CompiledMapping("given", fields, "").columns == frozenset({"a", "a.b", "c", "d"})
    assert CompiledMapping("given", FieldMapping(instruction="$..x"), "").columns is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Human: in the middle of a text", "Human: in the middle of a text"),
        ("\n\nHuman: a\n\nb\n\nAssistant: c", "a\n\nb"),
        (["first", "second"], "first"),
        (datetime.date(2031, 7, 4), "2031-07-04"),
        (None, None),
        (b"bytes", None),
    ],
)
def test_first_user_turn(value: Any, expected: str | None) -> None:
    assert first_user_turn(value) == expected
