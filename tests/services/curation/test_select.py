"""What the select step lets through to be asked, and what it leaves out with which reason."""

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.curation.select import run
from shared.artifacts.tables import iterate_records, read_rows, write_records, write_rows
from shared.bench_layout.files import read_bench_file
from shared.domain.benches import item_id
from shared.domain.errors import InputRefused, StepFailed
from shared.domain.evaluations import RobustnessSuite
from shared.domain.jobs import JobSpec
from shared.domain.rows import Facet, InstructionRow, Preference, Rejection
from shared.robustness.suites import suite_rows
from shared.stages.protocol import InputObject, WholeResult
from tests.services.curation.assembly.synthetic import make_context
from tests.support.benches import bench_facet, bench_line, bench_row

PREFERENCE = Preference("style", "length", "brief", "Be brief.", "brief")
COLLECTION = pa.schema([("row_id", pa.string()), ("facet_index", pa.int64())])


def row_of(number: int, *facets: Facet, split: str = "test") -> InstructionRow:
    return InstructionRow(f"{number:016x}", f"instruction {number}", "s", "s", number, split=split, facets=list(facets))


def facet(index: int = 0, system: str | None = "Be brief.", **values: Any) -> Facet:
    return Facet(index, [PREFERENCE], system=system, response="gold", **values)


def select(
    folder: Path,
    rows: list[InstructionRow],
    collection: list[tuple[int, int]] | None = None,
    **questions: Any,
) -> tuple[WholeResult, list[InstructionRow]]:
    inputs = []
    for shard, start in enumerate(range(0, len(rows), 3)):
        path = folder / f"part-{shard:05}.parquet"
        write_rows(path, rows[start : start + 3])
        inputs.append(InputObject("rows", path.name, path, None, {}))
    if collection is not None:
        path = folder / "collection.parquet"
        records = [{"row_id": f"{number:016x}", "facet_index": index} for number, index in collection]
        write_records(path, records, COLLECTION)
        inputs.append(InputObject("collection", "collection/test.parquet", path, None, {}))
    return chosen(folder, inputs, {"job": "job_1", **questions})


def chosen(
    folder: Path, inputs: list[InputObject], questions: dict[str, Any]
) -> tuple[WholeResult, list[InstructionRow]]:
    spec = JobSpec.model_validate(
        {"answer": [{"candidate": {"deployment": "lm"}}], "questions": questions, "seed": 4},
    )
    result = run(make_context(folder, inputs, stage="select", spec=spec))
    result.ledger.check()
    parts = [output for output in result.outputs if output.name.startswith("part-")]
    rows = [row for output in parts for row in read_rows(output.path)]
    assert [output.rows for output in parts] == [len(read_rows(output.path)) for output in parts]
    return result, rows


def upload(folder: Path, content: bytes, questions: dict[str, Any] | None = None) -> tuple[WholeResult, Any]:
    path = folder / "upload"
    path.write_bytes(content)
    item = InputObject("upload", "file_1", path, None, {"name": "mine.jsonl"})
    return chosen(folder, [item], {"file": "file_1", **(questions or {})})


def lines(*records: dict[str, Any]) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


def test_living_facets_of_the_split_go_through_as_they_are(tmp_path: Path) -> None:
    rows = [
        row_of(0, facet(0), facet(1, rejection=Rejection("respond", "empty_response")), facet(2, system=None)),
        row_of(1, facet(), split="train"),
        row_of(2, facet(0, rejection=Rejection("augment", "x"))),
        row_of(3, facet(0), facet(1)),
    ]
    result, out = select(tmp_path, rows)
    assert [(row.row_id, [one.index for one in row.facets]) for row in out] == [
        (rows[0].row_id, [0]),
        (rows[3].row_id, [0, 1]),
    ]
    assert out[1] == rows[3]
    ledger = result.ledger
    assert (ledger.rows_in, ledger.rows_out, ledger.facets_in, ledger.facets_out) == (4, 2, 7, 3)
    assert ledger.reasons == {"rejected_before": 2, "no_system_message": 1, "other_split": 1}
    assert result.summary["left_out"] == dict(sorted(ledger.reasons.items()))


def test_what_the_collection_left_out_is_not_asked(tmp_path: Path) -> None:
    result, out = select(tmp_path, [row_of(0, facet(0), facet(1)), row_of(1, facet(0))], [(0, 1)])
    assert [[one.index for one in row.facets] for row in out] == [[1]]
    assert result.ledger.reasons == {"not_in_collection": 2}


def test_instructions_without_preference_sets_are_questions_by_themselves(tmp_path: Path) -> None:
    _, out = select(tmp_path, [row_of(0), row_of(1)])
    assert [row.facets for row in out] == [[Facet(0)], [Facet(0)]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.integers(1, 30), st.integers(1, 40), st.sampled_from(["test", "train", "all"]))
def test_the_draw_keeps_as_many_as_asked_and_counts_the_rest(tmp_path: Path, count: int, most: int, split: str) -> None:
    rows = [row_of(n, facet(0), facet(1), split="test" if n % 2 else "train") for n in range(count)]
    wanted = sum(split in ("all", row.split) for row in rows)
    if not wanted:
        return
    result, out = select(tmp_path, rows, maximum_rows=most, split=split)
    assert len(out) == min(most, wanted)
    assert [row.source_row for row in out] == sorted(row.source_row for row in out)
    assert result.ledger.reasons.get("not_drawn", 0) == 2 * max(0, wanted - most)
    if most < wanted:
        _, more = select(tmp_path, rows, maximum_rows=most + 1, split=split)
        assert {row.row_id for row in out} < {row.row_id for row in more}


def test_rows_are_cut_into_shards_as_curation_cuts_them(tmp_path: Path) -> None:
    result, _ = select(tmp_path, [row_of(n, facet()) for n in range(40)])
    assert [output.rows for output in result.outputs] == [16, 16, 8]


def test_nothing_to_ask_says_why(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="other_split: 2"):
        select(tmp_path, [row_of(0, facet(0), facet(1), split="train")])


def test_an_upload_in_the_layout_of_an_export_becomes_facets_of_its_prompts(tmp_path: Path) -> None:
    preference = {"dimension": "d", "subdimension": "s", "preference": "p", "description": "Do."}
    result, out = upload(
        tmp_path,
        lines(
            {"main_source": "m", "prompt": "Hi", "system": "A", "output": "gold", "preference_set": [preference]},
            {"main_source": "m", "prompt": "Ho", "system": None},
            {"main_source": "m", "prompt": "Hi", "system": "B"},
            {"main_source": "m", "prompt": "Hi", "system": "A"},
            {"main_source": "m", "prompt": " "},
        )
        + b"{broken\n",
    )
    assert [(row.instruction, row.split, row.main_source) for row in out] == [("Hi", "test", "m"), ("Ho", "test", "m")]
    first = out[0].facets[0]
    assert (first.system, first.response, first.preferences) == ("A", "gold", [Preference("d", "s", "p", "Do.", "")])
    assert [(one.index, one.system) for one in out[0].facets] == [(0, "A"), (1, "B")]
    assert out[1].facets == [Facet(0)]
    assert result.ledger.reasons == {"duplicate": 1, "empty": 1, "invalid_json": 1}
    rejected = next(output for output in result.outputs if output.name == "rejected.parquet")
    assert Counter(record["reason"] for record in iterate_records(rejected.path)) == result.ledger.reasons


def test_a_parquet_export_is_asked_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "export.parquet"
    schema = pa.schema([("prompt", pa.string()), ("system", pa.string()), ("output", pa.string())])
    write_records(path, [{"prompt": "Hi", "system": "A", "output": "x"}], schema)
    _, out = upload(tmp_path, path.read_bytes())
    assert (out[0].instruction, out[0].facets[0].system, out[0].facets[0].response) == ("Hi", "A", "x")


def test_plain_instructions_are_found_by_the_mappings_of_sources(tmp_path: Path) -> None:
    _, out = upload(tmp_path, lines({"instruction": "Explain rain."}, {"instruction": "Explain snow."}))
    assert [(row.instruction, row.facets) for row in out] == [
        ("Explain rain.", [Facet(0)]),
        ("Explain snow.", [Facet(0)]),
    ]


def test_an_upload_without_any_usable_column_is_refused_where_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputRefused) as refused:
        upload(tmp_path, lines({"colour": 7}))
    assert (refused.value.pointer or "").startswith("/questions/file")


def test_a_file_in_the_layout_of_the_bench_brings_references_and_rubrics(tmp_path: Path) -> None:
    four = dict(list(bench_line()["rubrics"][0]["score_descriptions"].items())[:4])
    result, (row, other) = upload(
        tmp_path,
        lines(
            bench_line(),
            bench_line(system="You answer at length."),
            bench_line(),
            bench_line(system="Four.", rubrics=[{"criteria": "?", "score_descriptions": four}]),
            bench_line(prompt="Another?", reference_answer="."),
            bench_line(prompt="Another?", source=""),
        ),
    )
    assert (row.main_source, [facet.index for facet in row.facets]) == ("koala", [0, 1])
    assert (row.facets[0].response, len(row.facets[0].rubrics)) == (bench_line()["reference_answer"], 1)
    assert other.main_source == "mine.jsonl"
    assert result.ledger.reasons == {"duplicate": 1, "bad_rubric": 1, "short_reference": 1}


def of_bench(folder: Path, rows: list[InstructionRow], dropped: list[str], **questions: Any) -> Any:
    path = folder / "bench-rows.parquet"
    write_rows(path, rows)
    item = InputObject("bench", path.name, path, len(rows), {"dropped": dropped})
    return chosen(folder, [item], {"bench": "bench_1", **questions})


def test_a_bench_is_asked_whatever_its_splits_but_for_what_its_review_dropped(tmp_path: Path) -> None:
    rows = [
        bench_row(0, bench_facet(0), bench_facet(2), split="train"),
        bench_row(1, bench_facet(0), bench_facet(1)),
        bench_row(2, bench_facet(0)),
    ]
    dropped = [item_id(rows[0].row_id, 2), item_id(rows[2].row_id, 0), "gone:0"]
    result, out = of_bench(tmp_path, rows, dropped)
    assert [(row.row_id, [facet.index for facet in row.facets]) for row in out] == [
        (rows[0].row_id, [0]),
        (rows[1].row_id, [0, 1]),
    ]
    assert out[0].facets[0] == rows[0].facets[0]
    assert result.ledger.reasons == {"dropped_in_review": 2}
    assert (result.ledger.rows_in, result.ledger.facets_in) == (3, 5)
    drawn, one = of_bench(tmp_path, rows, dropped, maximum_rows=1)
    assert len(one) == 1
    assert drawn.ledger.reasons == {"dropped_in_review": 2, "not_drawn": 3 - len(one[0].facets)}


def test_an_uploaded_bench_is_read_again_with_the_same_items(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(lines(bench_line(), bench_line(system="At length."), bench_line(reference_answer="")))
    (row,) = read_bench_file(path, "mine.jsonl", "/file").rows
    held = InputObject("upload", "file_1", path, None, {"name": "mine.jsonl", "dropped": [item_id(row.row_id, 0)]})
    result, (kept,) = chosen(tmp_path, [held], {"bench": "bench_1"})
    assert kept.facets == row.facets[1:]
    assert result.ledger.reasons == {"no_reference": 1, "dropped_in_review": 1}
    assert {output.name for output in result.outputs} == {"part-00000.parquet", "rejected.parquet"}


def test_a_bench_of_which_everything_was_dropped_is_refused(tmp_path: Path) -> None:
    row = bench_row(0, bench_facet(0))
    with pytest.raises(StepFailed, match="dropped_in_review: 1"):
        of_bench(tmp_path, [row], [item_id(row.row_id, 0)])


@pytest.mark.parametrize("suite", RobustnessSuite)
def test_a_robustness_suite_is_asked_without_inputs_and_goes_through_whole(
    tmp_path: Path, suite: RobustnessSuite
) -> None:
    rows = suite_rows(suite)
    result, out = chosen(tmp_path, [], {"suite": suite.value})
    assert out == rows
    facets = sum(len(row.facets) for row in rows)
    assert (result.ledger.rows_in, result.ledger.facets_in, result.ledger.facets_out) == (len(rows), facets, facets)
    assert result.summary == {"rows": len(rows), "facets": facets, "left_out": {}}


def test_rows_of_a_suite_are_drawn_as_any_others(tmp_path: Path) -> None:
    count = len(suite_rows(RobustnessSuite.FACTS))
    result, out = chosen(tmp_path, [], {"suite": "facts", "maximum_rows": 5})
    assert [len(row.facets) for row in out] == [3] * 5
    assert result.ledger.reasons == {"not_drawn": 3 * (count - 5)}
    _, more = chosen(tmp_path, [], {"suite": "facts", "maximum_rows": 6})
    assert {row.row_id for row in out} < {row.row_id for row in more}
