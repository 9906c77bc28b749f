"""A look at a file before a job starts: what is in it, or why it cannot be used and what to set."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.domain.errors import InputRefused
from shared.domain.jobs import Source
from shared.sources.bundled import bundled_file, bundled_names
from shared.sources.inspection import inspect_file
from shared.sources.readers import BadRecord, read_records

POINTER = "/sources/2"


def lines(tmp_path: Path, rows: list[dict[str, object]]) -> Path:
    path = tmp_path / "file.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_small_file_is_counted_exactly(tmp_path: Path) -> None:
    seen = inspect_file(lines(tmp_path, [{"prompt": "abcd"}, {"prompt": "ab"}, {"id": 1}]), Source(file="f"), POINTER)
    assert (seen.rows, seen.rows_exact, seen.average_instruction_characters) == (3, True, 3.0)
    assert seen.columns == ["prompt", "id"]
    assert seen.sample == ["abcd", "ab"]
    assert seen.unusable_rows == {"missing_field": 1}


def test_a_long_file_is_estimated(tmp_path: Path) -> None:
    seen = inspect_file(
        lines(tmp_path, [{"prompt": f"number {n:05d}"} for n in range(5000)]), Source(file="f"), POINTER
    )
    assert not seen.rows_exact
    assert seen.rows == pytest.approx(5000, rel=0.02)


@pytest.mark.parametrize("data", ['"open,1\n' + "good,2\n" * 30, 'good,1\n"two\nlines",2\n\nshort\n"open'])
def test_a_csv_file_is_counted_as_it_is_read(tmp_path: Path, data: str) -> None:
    path = tmp_path / "file.csv"
    path.write_text("prompt,n\n" + data)
    read = list(read_records(path, "csv", POINTER))
    seen = inspect_file(path, Source(file="f"), POINTER)
    assert (seen.rows, seen.rows_exact) == (len(read), True)
    assert sum(seen.unusable_rows.values()) == sum(isinstance(record, BadRecord) for record in read)


def test_the_estimate_knows_rows_of_several_lines_and_an_open_quote(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text("prompt,n\n" + "".join(f'"number {n:05d}\nin\nfour\nlines",1\n' for n in range(5000)))
    assert inspect_file(path, Source(file="f"), POINTER).rows == pytest.approx(5000, rel=0.02)
    path.write_text("prompt,n\n" + '"open,1\n' + "".join(f"number {n:05d},1\n" for n in range(5000)))
    assert inspect_file(path, Source(file="f"), POINTER).rows == pytest.approx(5001, rel=0.02)


def test_the_limit_of_the_source_counts(tmp_path: Path) -> None:
    path = lines(tmp_path, [{"prompt": f"number {n}"} for n in range(30)])
    seen = inspect_file(path, Source(file="f", limit=7), POINTER)
    assert (seen.rows, seen.rows_exact) == (7, True)


def test_parquet_is_counted_by_its_footer(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"prompt": ["x"] * 3000}), path)
    seen = inspect_file(path, Source(file="f"), POINTER)
    assert (seen.rows, seen.rows_exact, seen.format) == (3000, True, "parquet")


def test_a_missing_column_shows_the_columns_and_what_to_set(tmp_path: Path) -> None:
    source = Source.model_validate({"file": "f", "mapping": {"instruction": "{instruktion}"}})
    with pytest.raises(InputRefused, match=r"instruktion.*columns seen: \['instruction'\]; set `mapping`") as caught:
        inspect_file(lines(tmp_path, [{"instruction": "x"}]), source, POINTER)
    assert caught.value.pointer == "/sources/2/mapping"


@pytest.mark.parametrize("field", ["main_source", "original_source"])
@pytest.mark.parametrize("template", ["{dataset}", "$.dataset", "$..dataset", "{set} of {dataset}", "{empty}", ""])
def test_a_source_field_that_no_row_fills_is_refused_at_its_place(tmp_path: Path, field: str, template: str) -> None:
    path = lines(tmp_path, [{"q": "x", "set": "s", "empty": None}] * 3)
    source = Source.model_validate({"file": "f", "mapping": {"instruction": "{q}", field: template}})
    with pytest.raises(InputRefused, match=r"columns seen: \['q', 'set', 'empty'\]; name one that is there") as caught:
        inspect_file(path, source, POINTER)
    assert caught.value.pointer == f"/sources/2/mapping/{field}"


@pytest.mark.parametrize("template", ["{set}", "$.set", "a name of mine", "{dataset?}", "{{{set}}}", "{rare}"])
def test_a_source_field_that_some_row_fills_or_may_lack_is_accepted(tmp_path: Path, template: str) -> None:
    path = lines(tmp_path, [{"q": "x", "set": "s"}, {"q": "y", "set": "s", "rare": "r"}])
    source = Source.model_validate({"file": "f", "mapping": {"instruction": "{q}", "original_source": template}})
    assert inspect_file(path, source, POINTER).rows == 2


def test_a_missing_parquet_column_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"prompt": ["x"]}), path)
    with pytest.raises(InputRefused, match=r"columns seen: \['prompt'\]"):
        inspect_file(path, Source.model_validate({"file": "f", "mapping": {"instruction": "{question}"}}), POINTER)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        ('{"prompt": "größe"}\n'.encode("latin-1"), "save the file as UTF-8"),
        (b"prompt\n", "no rows"),
        (b'{"prompt": ""}\n', "no row has an instruction"),
        (b"{broken\n{also broken\n", "no row can be read"),
        (b"PAR1 but no table", "cannot be read"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(InputRefused, match=message) as caught:
        inspect_file(path, Source(file="f"), POINTER)
    assert (caught.value.pointer or "").startswith(POINTER)


def test_the_demo_set_has_a_hundred_instructions() -> None:
    seen = inspect_file(bundled_file("demo", POINTER), Source(bundled="demo"), POINTER)
    assert (seen.rows, seen.rows_exact, seen.unusable_rows) == (100, True, {})


def test_an_unknown_bundled_set_is_refused() -> None:
    assert bundled_names() == ["acceptance", "demo"]
    with pytest.raises(InputRefused, match="set one of: acceptance, demo") as caught:
        bundled_file("../demo", POINTER)
    assert caught.value.pointer == "/sources/2/bundled"
