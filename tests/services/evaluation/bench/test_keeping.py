"""What the bench step keeps, what it leaves out with which reason, and in which files it lies."""

from pathlib import Path

import orjson
import pytest

from services.evaluation.bench.keeping import run
from shared.artifacts.tables import iterate_records, read_rows, write_rows
from shared.bench_layout.files import read_bench_file
from shared.domain.benches import BenchRegistration
from shared.domain.errors import StepFailed
from shared.domain.jobs import JobSpec
from shared.domain.rows import Facet, InstructionRow, Preference, Provenance, Rejection, Rubric
from shared.stages.protocol import InputObject, WholeResult
from tests.services.curation.assembly.synthetic import make_context
from tests.support.benches import bench_facet, bench_row, rubric

SPEC = JobSpec.model_validate(
    {
        "questions": {"job": "job_1"},
        "bench": {"name": "my bench"},
        "teacher": {"provider": "simulator", "model": "simulator-large"},
    }
)
WRITTEN = Provenance("rubric", "simulator", "simulator-large", "abc", 7)


def keep(folder: Path, rows: list[InstructionRow]) -> WholeResult:
    inputs = []
    for number, row in enumerate(rows):
        path = folder / f"part-{number:05}.parquet"
        write_rows(path, [row])
        inputs.append(InputObject("rubric", path.name, path, 1, {}))
    return run(make_context(folder, inputs[::-1], stage="bench", spec=SPEC))


def test_complete_items_are_kept_and_the_others_counted_by_reason(tmp_path: Path) -> None:
    level_missing = Rubric("?", ["1", "2", "3", "4"])
    rows = [
        bench_row(
            0,
            bench_facet(0, provenance=[Provenance("compose", "p", "m", "v", 1), WRITTEN]),
            bench_facet(1, rubrics=[rubric()]),
            bench_facet(2, provenance=[WRITTEN]),
            bench_facet(3, rejection=Rejection("rubric", "no_rubric")),
            level="U3",
        ),
        bench_row(1, bench_facet(0, response=None), bench_facet(1, response="."), bench_facet(2, rubrics=[])),
        bench_row(2, bench_facet(0, rubrics=[rubric(), level_missing])),
        bench_row(3, bench_facet(0, rejection=Rejection("compose", "too_long"))),
        bench_row(4, bench_facet(5)),
    ]
    result = keep(tmp_path, rows)
    ledger = result.ledger
    ledger.check()
    assert (ledger.rows_in, ledger.rows_out) == (4, 2)
    assert (ledger.facets_in, ledger.facets_out) == (8, 3)
    assert ledger.reasons == {"bad_rubric": 2, "no_reference": 1, "short_reference": 1, "no_rubrics": 1}
    assert result.summary["left_out"] == ledger.reasons
    assert result.bench == BenchRegistration("my bench", 2, 3, "simulator/simulator-large")

    files = {output.name: output for output in result.outputs}
    assert {name: output.rows for name, output in files.items()} == {
        "part-00000.parquet": 2,
        "bench-rows.parquet": 2,
        "bench.jsonl": 3,
        "bench.parquet": 3,
        "provenance.parquet": 3,
    }
    kept = read_rows(files["bench-rows.parquet"].path)
    assert [(row.row_id, [facet.index for facet in row.facets]) for row in kept] == [
        (rows[0].row_id, [0, 2]),
        (rows[4].row_id, [5]),
    ]
    assert kept[0].facets[0] == rows[0].facets[0]
    lines = [orjson.loads(line) for line in files["bench.jsonl"].path.read_bytes().splitlines()]
    assert lines == list(iterate_records(files["bench.parquet"].path))
    read_back = read_bench_file(files["bench.parquet"].path, "t", "/file")
    assert (read_back.items, read_back.faults) == (3, [])
    assert list(iterate_records(files["provenance.parquet"].path)) == [
        {
            "row": number,
            "row_id": row.row_id,
            "facet_index": index,
            "teacher": teacher,
            "prompt_version": version,
            "seed": seed,
            "level": row.level,
        }
        for number, (row, index, teacher, version, seed) in enumerate(
            [
                (rows[0], 0, "simulator/simulator-large", "abc", 7),
                (rows[0], 2, "simulator/simulator-large", "abc", 7),
                (rows[4], 5, None, None, None),
            ]
        )
    ]


def test_a_facet_without_preferences_or_system_message_is_no_item(tmp_path: Path) -> None:
    plain = Facet(0, response="A good answer.")
    unsaid = bench_facet(1, system=None, preferences=[Preference("d", "s", "p", "q", "")], rubrics=[rubric()])
    result = keep(tmp_path, [bench_row(0, plain, unsaid, bench_facet(2))])
    assert result.ledger.reasons == {"no_preferences": 1, "no_system_message": 1}


def test_a_bench_without_items_is_refused_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="no_rubrics: 2") as failed:
        keep(tmp_path, [bench_row(0, bench_facet(0, rubrics=[]), bench_facet(1, rubrics=[]))])
    assert failed.value.code == "empty_bench"
    with pytest.raises(StepFailed, match="there were none"):
        keep(tmp_path, [bench_row(0, bench_facet(0, rejection=Rejection("rubric", "x")))])
