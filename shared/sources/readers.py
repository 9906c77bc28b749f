"""Rows of JSONL, JSON, CSV and Parquet files, one at a time. What cannot be read is a `BadRecord`, never an exception.

Only a file that is unusable as a whole (empty, another encoding, no Parquet at all) raises `InputRefused`. Memory holds
one line, one CSV record or one Parquet batch; a JSON array is the exception and therefore limited in size.
"""

import csv
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import msgspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from shared.domain.errors import InputRefused
from shared.sources.csv_records import CsvLine, CsvRecord, CsvRecords

LINE_LIMIT_BYTES = 10_000_000
JSON_ARRAY_LIMIT_BYTES = 512_000_000
PARQUET_BATCH_ROWS = 1000
SHOWN_CHARACTERS = 200

FileFormat = Literal["jsonl", "json", "csv", "parquet"]

csv.field_size_limit(LINE_LIMIT_BYTES)


class Record(msgspec.Struct, frozen=True):
    """One row as plain Python values. `row` counts from 0; blank lines are no rows."""

    row: int
    fields: dict[str, Any]


class BadRecord(msgspec.Struct, frozen=True):
    """A row that could not be read. `reason`: invalid_json, invalid_csv, not_utf8 or oversized_line."""

    row: int
    reason: str
    detail: str
    text: str


class ReadProgress(msgspec.Struct):
    """How far a reader of lines has come: `bytes` up to the end of the row that it gave last."""

    bytes: int = 0


def detect_format(path: Path, declared: str, pointer: str) -> FileFormat:
    """Format of a file by its first bytes, or by `declared` where that is not `auto`.

    Raises InputRefused for an empty file, for compressed and UTF-16 files, and for one that is not what it was declared.
    """
    with path.open("rb") as file:
        head = file.read(65_536)
    where = f"{pointer}/format"
    if not head:
        raise InputRefused("the file is empty (0 bytes); upload one with at least one row", pointer)
    if head.startswith(b"PAR1"):
        if declared not in ("auto", "parquet"):
            raise InputRefused(f"the file is Parquet but `format` says {declared}; set it to parquet or auto", where)
        return "parquet"
    if declared == "parquet":
        raise InputRefused("`format` says parquet but the file does not begin with PAR1; set the format it has", where)
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh")):
        raise InputRefused(
            "the file is compressed; unpack it and upload the JSONL, CSV or Parquet file inside", pointer
        )
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputRefused("the file is UTF-16; save it as UTF-8 and upload it again", pointer)
    if head.count(0) > len(head) // 10:
        raise InputRefused(
            "a tenth of the file is zero bytes: it is no UTF-8 text; upload JSONL, CSV or Parquet", pointer
        )
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        raise InputRefused("the file holds nothing but white space; upload one with at least one row", pointer)
    if declared == "csv":
        return "csv"
    if start.startswith(b"["):
        return "json"
    return "jsonl" if declared == "jsonl" or start.startswith(b"{") else "csv"


def read_records(
    path: Path,
    file_format: FileFormat,
    pointer: str,
    columns: Collection[str] | None = None,
    progress: ReadProgress | None = None,
) -> Iterator[Record | BadRecord]:
    """Rows of the file in order. `columns` (top-level names) prunes what is read from Parquet; None reads all.

    `progress` is kept up to date for JSONL and CSV; the other formats are not read by the line.
    Raises InputRefused where the whole file cannot be used; `pointer` names its source in the job spec.
    """
    progress = progress or ReadProgress()
    match file_format:
        case "jsonl":
            yield from _read_jsonl(path, progress)
        case "json":
            yield from _read_json(path, pointer)
        case "csv":
            yield from _read_csv(path, pointer, progress)
        case "parquet":
            yield from _read_parquet(path, pointer, columns)


def count_rows(path: Path, file_format: FileFormat, read_bytes: int, read_rows: int) -> tuple[int, bool]:
    """(rows, exact) of a file: from Parquet's footer, else extrapolated from the first `read_rows` in `read_bytes`."""
    if file_format == "parquet":
        with pq.ParquetFile(path) as file:
            return int(file.metadata.num_rows), True
    size = path.stat().st_size
    if read_bytes >= size or read_bytes == 0:
        return read_rows, True
    return max(read_rows, math.ceil(read_rows * size / read_bytes)), False


def parquet_columns(path: Path, pointer: str) -> list[str]:
    """Top-level column names; raises InputRefused for a file that is no readable Parquet."""
    try:
        with pq.ParquetFile(path) as file:
            return list(file.schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise InputRefused(f"the Parquet file cannot be read: {error}; write it again", pointer) from error


def _shown(data: bytes) -> str:
    return data[: SHOWN_CHARACTERS * 4].decode("utf-8", errors="replace")[:SHOWN_CHARACTERS]


def _lines(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """(line, its full length): a line over the limit comes cut, and the rest of it is skipped without being kept."""
    first = True
    while line := file.readline(LINE_LIMIT_BYTES + 1):
        length = len(line)
        end = line
        while len(end) > LINE_LIMIT_BYTES and not end.endswith(b"\n"):
            end = file.readline(LINE_LIMIT_BYTES + 1)
            length += len(end)
            if not end:
                break
        if first:
            line, first = line.removeprefix(b"\xef\xbb\xbf"), False
        yield line, length


def _oversized(row: int, line: bytes, length: int) -> BadRecord:
    detail = f"the line has {length:,} bytes, the limit is {LINE_LIMIT_BYTES:,}"
    return BadRecord(row, "oversized_line", detail, _shown(line))


def _read_jsonl(path: Path, progress: ReadProgress) -> Iterator[Record | BadRecord]:
    row = 0
    with path.open("rb") as file:
        for line, length in _lines(file):
            progress.bytes += length
            if length > LINE_LIMIT_BYTES:
                yield _oversized(row, line, length)
            elif not line.strip():
                continue
            else:
                yield _json_record(row, line)
            row += 1


def _json_record(row: int, line: bytes) -> Record | BadRecord:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            line.decode()
        except UnicodeDecodeError as fault:
            detail = f"byte 0x{line[fault.start]:02x} at position {fault.start} of the line is not UTF-8"
            return BadRecord(row, "not_utf8", detail, _shown(line))
        return BadRecord(row, "invalid_json", str(error), _shown(line))
    if not isinstance(value, dict):
        return BadRecord(row, "invalid_json", f"an object is needed, seen {type(value).__name__}", _shown(line))
    return Record(row, value)


def _read_json(path: Path, pointer: str) -> Iterator[Record | BadRecord]:
    size = path.stat().st_size
    if size > JSON_ARRAY_LIMIT_BYTES:
        raise InputRefused(
            f"the file is one JSON array of {size:,} bytes, over the limit of {JSON_ARRAY_LIMIT_BYTES:,}; "
            "write one object per line (JSONL), which has no limit",
            pointer,
        )
    try:
        values = orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise InputRefused(f"the file begins like a JSON array but is none: {error}; correct it", pointer) from error
    for row, value in enumerate(values):
        if isinstance(value, dict):
            yield Record(row, value)
        else:
            detail = f"an object is needed, seen {type(value).__name__}"
            yield BadRecord(row, "invalid_json", detail, str(value)[:SHOWN_CHARACTERS])


def _csv_lines(file: IO[bytes]) -> Iterator[CsvLine]:
    for number, (line, length) in enumerate(_lines(file), start=1):
        if length > LINE_LIMIT_BYTES:
            yield CsvLine(number, "\n", length, cut=line)
        else:
            yield CsvLine(number, line.decode("utf-8", errors="surrogateescape"), length)


def _read_csv(path: Path, pointer: str, progress: ReadProgress) -> Iterator[Record | BadRecord]:
    with path.open("rb") as file:
        records = CsvRecords(_csv_lines(file), _delimiter(path), LINE_LIMIT_BYTES)
        header = _csv_header(next(records, None), pointer, progress)
        row = 0
        for record in records:
            progress.bytes += sum(line.length for line in record.lines)
            if record.fault is None and not record.values and record.lines[0].cut is None:
                continue
            yield _csv_row(row, header, record)
            row += 1


def _csv_header(record: CsvRecord | None, pointer: str, progress: ReadProgress) -> list[str]:
    fault = "the file has no line" if record is None else record.fault
    if record is None or fault is not None:
        raise InputRefused(f"the CSV file has no readable header line ({fault}); write column names", pointer)
    progress.bytes += sum(line.length for line in record.lines)
    header = [name.strip() for name in record.values]
    if not _is_utf8(header):
        raise InputRefused("the header line of the CSV file is not UTF-8; save the file as UTF-8", pointer)
    if len(set(header)) != len(header):
        raise InputRefused(f"the CSV file names a column twice: {header}; give each its own name", pointer)
    return header


def _csv_row(row: int, header: list[str], record: CsvRecord) -> Record | BadRecord:
    for line in record.lines:
        if line.cut is not None:
            return _oversized(row, line.cut, line.length)
    first, last = record.lines[0].number, record.lines[-1].number
    place, has = (f"line {first}", "has") if first == last else (f"lines {first} to {last}", "have")
    if record.fault is not None:
        return BadRecord(row, "invalid_csv", f"{place}: {record.fault}", _raw(record))
    if len(record.values) != len(header):
        detail = f"{place} {has} {len(record.values)} fields, the header {len(header)}"
        return BadRecord(row, "invalid_csv", detail, _raw(record))
    if not _is_utf8(record.values):
        return BadRecord(row, "not_utf8", f"{place}: not UTF-8", _raw(record))
    return Record(row, dict(zip(header, record.values, strict=True)))


def _raw(record: CsvRecord) -> str:
    """The lines of a record as they stand in the file, shortened and without what cannot be encoded."""
    text = "".join(line.text for line in record.lines).rstrip("\r\n")
    return text[:SHOWN_CHARACTERS].encode("utf-8", errors="replace").decode()


def _delimiter(path: Path) -> str:
    """The separator that stands most often in the header line; a comma where none does."""
    with path.open("rb") as file:
        header = file.readline(LINE_LIMIT_BYTES).decode("utf-8", errors="replace")
    return max((",", ";", "\t", "|"), key=header.count)


def _is_utf8(values: list[str]) -> bool:
    return not any("\udc80" <= character <= "\udcff" for value in values for character in value if character > "\ud7ff")


def _read_parquet(path: Path, pointer: str, columns: Collection[str] | None) -> Iterator[Record | BadRecord]:
    present = parquet_columns(path, pointer)
    wanted = None if columns is None else [name for name in present if name in columns]
    row = 0
    try:
        # Buffered ahead, by default, the columns of the whole file would lie in memory.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=wanted):
                for fields in batch.to_pylist():
                    yield Record(row, fields)
                    row += 1
    except (pa.ArrowException, OSError) as error:
        raise InputRefused(f"the Parquet file is damaged after row {row}: {error}; write it again", pointer) from error
