"""What is read as an item of a bench, and what is refused with which reason."""

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.artifacts.tables import iterate_records
from shared.bench_layout.files import MAXIMUM_LINES, read_bench_file, write_bench_lines, write_bench_table
from shared.bench_layout.records import BENCH_COLUMNS, BenchItem, bench_record, read_bench_record
from shared.domain.benches import BenchFault, why_incomplete
from shared.domain.errors import InputRefused
from shared.domain.identifiers import row_id_of
from shared.domain.rows import Facet, InstructionRow, Preference, Rubric
from tests.support.benches import REFERENCE, bench_facet, bench_line, bench_row

LEVELS = {str(score): f"level {score}" for score in range(1, 6)}

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
preferences = st.builds(
    Preference, dimension=words, subdimension=words, preference=words, description=words, pole=st.just("")
)


@st.composite
def facets(draw: st.DrawFn, index: int) -> Facet:
    wanted = draw(st.lists(preferences, min_size=1, max_size=4))
    rubrics = [Rubric(draw(words), [f"{score} {draw(words)}" for score in range(1, 6)]) for _ in wanted]
    return Facet(index, wanted, system=f"{index} {draw(words)}", response=f"{REFERENCE} {draw(words)}", rubrics=rubrics)


@st.composite
def rows(draw: st.DrawFn) -> list[InstructionRow]:
    instructions = draw(st.lists(words, min_size=1, max_size=3, unique=True))
    return [
        InstructionRow(
            row_id_of(instruction),
            instruction,
            source := draw(words),
            source,
            number,
            split="test",
            facets=[draw(facets(index)) for index in range(draw(st.integers(1, 3)))],
        )
        for number, instruction in enumerate(instructions)
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(made=rows(), suffix=st.sampled_from(["jsonl", "parquet"]))
def test_what_is_written_is_read_back_as_it_was(tmp_path: Path, made: list[InstructionRow], suffix: str) -> None:
    path = tmp_path / f"bench.{suffix}"
    write = write_bench_lines if suffix == "jsonl" else write_bench_table
    assert write(path, made) == sum(len(row.facets) for row in made)
    contents = read_bench_file(path, "a title", "/file")
    assert contents.faults == []
    line = 0
    for row in made:  # a row knows the line that it began at
        row.source_row, line = line, line + len(row.facets)
    assert contents.rows == made


def test_the_columns_are_those_of_the_released_bench(tmp_path: Path) -> None:
    row = bench_row(0, bench_facet())
    write_bench_lines(tmp_path / "b.jsonl", [row])
    write_bench_table(tmp_path / "b.parquet", [row])
    (line,) = map(orjson.loads, (tmp_path / "b.jsonl").read_bytes().splitlines())
    assert (
        tuple(line) == BENCH_COLUMNS == ("source", "preference_set", "system", "prompt", "reference_answer", "rubrics")
    )
    assert tuple(line["preference_set"][0]) == ("dimension", "subdimension", "preference", "description")
    assert tuple(line["rubrics"][0]) == ("criteria", "score_descriptions")
    assert tuple(line["rubrics"][0]["score_descriptions"]) == ("1", "2", "3", "4", "5")
    assert list(iterate_records(tmp_path / "b.parquet")) == [line] == [bench_record(row, row.facets[0])]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prompt": "  "}, "empty"),
        ({"prompt": None}, "empty"),
        ({"system": ""}, "no_system_message"),
        ({"system": 7}, "no_system_message"),
        ({"preference_set": []}, "no_preferences"),
        ({"preference_set": "style"}, "bad_preferences"),
        ({"preference_set": ["brief"]}, "bad_preferences"),
        ({"preference_set": [{"dimension": "style"}]}, "bad_preferences"),
        ({"rubrics": None}, "no_rubrics"),
        ({"rubrics": {"criteria": "?"}}, "bad_rubric"),
        ({"rubrics": ["?"]}, "bad_rubric"),
        ({"rubrics": [{"criteria": "?"}]}, "bad_rubric"),
        ({"rubrics": [{"criteria": "?", "score_descriptions": {**LEVELS, "6": "more"}}]}, "bad_rubric"),
        ({"rubrics": [{"criteria": "?", "score_descriptions": dict(list(LEVELS.items())[:4])}]}, "bad_rubric"),
        (
            {"rubrics": [{"criteria": "?", "score_descriptions": {f"score{n}": d for n, d in LEVELS.items()}}]},
            "bad_rubric",
        ),
        ({"rubrics": [{"criteria": " ", "score_descriptions": LEVELS}]}, "bad_rubric"),
        ({"rubrics": [{"criteria": "?", "score_descriptions": {**LEVELS, "3": ""}}]}, "bad_rubric"),
        ({"rubrics": [{"criteria": "?", "score_descriptions": {**LEVELS, "3": "Level  2"}}]}, "bad_rubric"),
        ({"rubrics": [{"criteria": "?", "score_descriptions": LEVELS}] * 2}, "bad_rubric"),
        ({"reference_answer": None}, "no_reference"),
        ({"reference_answer": "4"}, "short_reference"),
        ({"reference_answer": "  a b c  "}, "short_reference"),
    ],
)
def test_a_line_that_cannot_be_graded_is_refused_with_a_reason(changes: dict[str, Any], reason: str) -> None:
    found = read_bench_record(bench_line(**changes))
    assert isinstance(found, BenchFault)
    assert found.reason == reason
    assert found.detail


def test_nested_columns_may_be_json_text_or_a_parquet_map(tmp_path: Path) -> None:
    line = bench_line()
    as_text = {name: orjson.dumps(value).decode() if isinstance(value, list) else value for name, value in line.items()}
    plain = read_bench_record(line)
    assert isinstance(plain, BenchItem)
    assert read_bench_record(as_text) == plain
    rubric = pa.struct([("criteria", pa.string()), ("score_descriptions", pa.map_(pa.string(), pa.string()))])
    held = [{"criteria": "Is it brief?", "score_descriptions": list(LEVELS.items())}]
    table = pa.Table.from_pylist([line | {"rubrics": None}]).drop_columns("rubrics")
    table = table.append_column("rubrics", pa.array([held], pa.list_(rubric)))
    pq.write_table(table, tmp_path / "map.parquet")
    (row,) = read_bench_file(tmp_path / "map.parquet", "t", "/file").rows
    assert row.facets == [plain.facet]


def test_lines_of_one_prompt_are_one_row_and_every_fault_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    lines = [
        bench_line(),
        bench_line(system="You answer at length.", source=""),
        bench_line(reference_answer=""),
        bench_line(),
        bench_line(prompt="Another?", source=None),
    ]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines) + b"{oops\n")
    contents = read_bench_file(path, "mine.jsonl", "/file")
    assert [(row.instruction, row.main_source, len(row.facets)) for row in contents.rows] == [
        ("Why is the sky blue?", "koala", 2),
        ("Another?", "mine.jsonl", 1),
    ]
    assert [facet.index for facet in contents.rows[0].facets] == [0, 1]
    assert contents.items == 3
    assert [(fault.row, fault.reason) for fault in contents.faults] == [
        (2, "no_reference"),
        (3, "duplicate"),
        (5, "invalid_json"),
    ]
    assert "line 1 " in contents.faults[1].detail


@pytest.mark.parametrize("content", [b"", b'{"prompt": "a"}\n', b"[]"])
def test_a_file_of_another_layout_is_refused_whole(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(InputRefused) as refused:
        read_bench_file(path, "other", "/file")
    assert refused.value.pointer == "/file"
    pq.write_table(pa.table({"prompt": ["a"]}), path)
    with pytest.raises(InputRefused, match="columns"):
        read_bench_file(path, "other", "/file")


def test_a_file_of_more_lines_than_people_review_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_bytes(b"{}\n" * (MAXIMUM_LINES + 1))
    with pytest.raises(InputRefused, match="50,000"):
        read_bench_file(path, "long", "/file")


def test_a_complete_item_lacks_nothing() -> None:
    assert why_incomplete(bench_facet()) is None
