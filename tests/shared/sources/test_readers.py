"""Readers give every row of a file, or say for each one why not; only an unusable file is refused."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import InputRefused
from shared.sources import readers
from shared.sources.readers import BadRecord, Record, detect_format, read_records

POINTER = "/sources/0"


def rows_of(path: Path, declared: str = "auto") -> list[Record | BadRecord]:
    return list(read_records(path, detect_format(path, declared, POINTER), POINTER))


def written(tmp_path: Path, data: bytes | str) -> Path:
    path = tmp_path / "file"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('{"a": 1}\n', "jsonl"),
        ('\ufeff{"a": 1}\n', "jsonl"),
        ('\n [{"a": 1}]', "json"),
        ("a,b\n1,2\n", "csv"),
    ],
)
def test_the_format_is_found_in_the_content(tmp_path: Path, data: str, expected: str) -> None:
    assert detect_format(written(tmp_path, data), "auto", POINTER) == expected


def test_parquet_is_found_by_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "table"
    pq.write_table(pa.table({"prompt": ["x"]}), path)
    assert detect_format(path, "auto", POINTER) == "parquet"
    with pytest.raises(InputRefused, match="the file is Parquet but `format` says csv"):
        detect_format(path, "csv", POINTER)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b" \n\t ", "white space"),
        (b"\x1f\x8b\x08 compressed", "compressed"),
        ("a,b\n".encode("utf-16"), "UTF-16"),
        ("prompt\nabc\n".encode("utf-16-le"), "zero bytes"),
    ],
)
def test_unusable_files_are_refused_with_what_was_seen(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InputRefused, match=message) as caught:
        detect_format(written(tmp_path, data), "auto", POINTER)
    assert caught.value.pointer == POINTER


def test_no_row_of_jsonl_disappears(tmp_path: Path) -> None:
    good = b'{"prompt": "one"}\n'
    data = good + b"not json\n" + b"\n" + b'{"prompt": "caf\xe9"}\n' + b"[1]\n" + b'{"prompt": "two"}'
    records = rows_of(written(tmp_path, data), "jsonl")
    assert [record.row for record in records] == [0, 1, 2, 3, 4]
    assert [record.reason if isinstance(record, BadRecord) else "" for record in records] == [
        "", "invalid_json", "not_utf8", "invalid_json", "",
    ]  # fmt: skip
    assert isinstance(records[4], Record)
    assert records[4].fields == {"prompt": "two"}


@pytest.mark.parametrize("ending", [b"\n", b""])
def test_an_oversized_line_is_one_bad_row_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: bytes
) -> None:
    monkeypatch.setattr(readers, "LINE_LIMIT_BYTES", 100)
    long = json.dumps({"prompt": "x" * 350}).encode()
    first, second = rows_of(written(tmp_path, long + b'\n{"prompt": "next"}' + ending))
    assert isinstance(first, BadRecord)
    assert first.reason == "oversized_line"
    assert f"{len(long) + 1} bytes" in first.detail
    assert isinstance(second, Record)
    [only] = rows_of(written(tmp_path, long + ending))
    assert isinstance(only, BadRecord)


def test_the_real_line_limit_is_ten_megabytes(tmp_path: Path) -> None:
    line = b'{"prompt": "' + b"x" * 10_000_000 + b'"}\n'
    records = rows_of(written(tmp_path, line + b'{"prompt": "small"}\n'))
    assert [type(record) for record in records] == [BadRecord, Record]


def test_a_json_array_is_read_like_lines(tmp_path: Path) -> None:
    records = rows_of(written(tmp_path, '[{"query": "a"}, 3, {"query": "b"}]'))
    assert [type(record) for record in records] == [Record, BadRecord, Record]


def test_a_broken_json_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="begins like a JSON array"):
        rows_of(written(tmp_path, '[{"query": "a"}'))


def test_csv_faults_are_rows(tmp_path: Path) -> None:
    data = b'prompt,source\n"a, b\nc",x\nonly one\n\ncaf\xe9,y\nlast,z\n'
    records = rows_of(written(tmp_path, data))
    assert [record.reason if isinstance(record, BadRecord) else "" for record in records] == [
        "", "invalid_csv", "not_utf8", "",
    ]  # fmt: skip
    assert isinstance(records[0], Record)
    assert records[0].fields == {"prompt": "a, b\nc", "source": "x"}


def test_csv_oversized_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LINE_LIMIT_BYTES", 100)
    records = rows_of(written(tmp_path, "prompt\n" + "x" * 300 + "\nnext\n"))
    assert [getattr(record, "reason", "") for record in records] == ["oversized_line", ""]


def test_an_unclosed_quote_costs_its_own_line_only(tmp_path: Path) -> None:
    before, after = "".join(f"before {n},x\n" for n in range(50)), "".join(f"after {n},y\n" for n in range(200))
    records = rows_of(written(tmp_path, f'prompt,source\n{before}"An unclosed question,50\n{after}'))
    assert [record.row for record in records] == list(range(251))
    [bad] = [record for record in records if isinstance(record, BadRecord)]
    assert (bad.row, bad.reason, bad.text) == (50, "invalid_csv", '"An unclosed question,50')
    assert bad.detail.startswith("line 52: a quote is opened and not closed")
    assert isinstance(records[250], Record)
    assert records[250].fields == {"prompt": "after 199", "source": "y"}


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        ('"two" bad,2\n', ['"two" bad,2']),
        ("only one\n", ["only one"]),
        ('""\n', ['""']),
        ('"two\nlines"\n', ['"two\nlines"']),
        ('"a\n"b\n"c', ['"a', '"b', '"c']),
        ('caf\xe9,"open\n', ['caf?,"open']),
        ('"' + "x" * 500 + "\n", ['"' + "x" * 199]),
    ],
)
def test_every_csv_fault_carries_its_text(tmp_path: Path, rows: str, texts: list[str]) -> None:
    records = rows_of(written(tmp_path, ("prompt,source\n" + rows).encode("latin-1")))
    assert [(getattr(record, "reason", ""), getattr(record, "text", "")) for record in records] == [
        ("invalid_csv", text) for text in texts
    ]


def test_a_header_with_an_open_quote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"no readable header line.*not closed"):
        rows_of(written(tmp_path, '"prompt,source\na,b\n'))


def test_an_oversized_line_in_a_quoted_field_is_one_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LINE_LIMIT_BYTES", 100)
    records = rows_of(written(tmp_path, 'prompt,n\n"one\n' + "x" * 300 + '\nmore",1\nnext,2\n'))
    assert [getattr(record, "reason", "") for record in records] == ["oversized_line", ""]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_separator_is_found(tmp_path: Path, delimiter: str) -> None:
    [record] = rows_of(written(tmp_path, delimiter.join(["prompt", "source"]) + "\n" + delimiter.join("ab") + "\n"))
    assert isinstance(record, Record)
    assert record.fields == {"prompt": "a", "source": "b"}


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="names a column twice"):
        rows_of(written(tmp_path, "a,a\n1,2\n"))


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="cannot be read"):
        rows_of(written(tmp_path, b"PAR1 and then nothing of the kind"))


def test_parquet_reads_only_the_wanted_columns(tmp_path: Path) -> None:
    path = tmp_path / "table"
    pq.write_table(pa.table({"prompt": ["x", "y"], "answers": [["long"], []]}), path)
    records = list(read_records(path, "parquet", POINTER, {"prompt"}))
    assert [record.fields for record in records if isinstance(record, Record)] == [{"prompt": "x"}, {"prompt": "y"}]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(st.lists(TEXT.filter(lambda text: "\x00" not in text), min_size=1, max_size=20))
def test_csv_and_jsonl_give_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("round")
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerows([["prompt"], *[[text] for text in texts]])
    table = folder / "table.csv"
    table.write_bytes(buffer.getvalue().encode())
    lines = folder / "lines.jsonl"
    lines.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    for path in (table, lines):
        records = rows_of(path)
        assert [record.fields["prompt"] for record in records if isinstance(record, Record)] == texts


@given(st.binary(max_size=300))
def test_no_bytes_make_a_reader_fail(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(data)
    try:
        records = rows_of(path)
    except InputRefused:
        return
    assert [record.row for record in records] == list(range(len(records)))
