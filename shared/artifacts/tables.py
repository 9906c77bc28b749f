"""Parquet tables: rows of the pipeline and plain records, zstd, written in row groups that pages can be cut from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from shared.domain.rows import ROW_SCHEMA_VERSION, InstructionRow

ROW_GROUP_ROWS = 500
_RECORDS_AT_ONCE = 64
"""Records that are held as Python objects at once: those of a row take ten times the memory of its columns."""

_CHECK = pa.struct([("kind", pa.string()), ("parameters", pa.string())])
"""A check's parameters differ by kind: kept as JSON text."""

_PREFERENCE = pa.struct(
    [
        ("dimension", pa.string()),
        ("subdimension", pa.string()),
        ("preference", pa.string()),
        ("description", pa.string()),
        ("pole", pa.string()),
        ("seed_name", pa.string()),
        ("check", _CHECK),
        ("intensity", pa.string()),
    ]
)

_PROVENANCE = pa.struct(
    [
        ("stage", pa.string()),
        ("provider", pa.string()),
        ("model", pa.string()),
        ("prompt_version", pa.string()),
        ("seed", pa.int64()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("max_tokens", pa.int64()),
        ("repetition_penalty", pa.float64()),
        ("attempts", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
    ]
)

_ANSWER = pa.struct(
    [
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("seed", pa.int64()),
        ("tokens", pa.int64()),
        ("reward", pa.float64()),
        ("best", pa.bool_()),
        ("fault", pa.string()),
        ("later", pa.list_(pa.string())),
        ("measures", pa.map_(pa.string(), pa.float64())),
    ]
)

_RUBRIC = pa.struct([("criterion", pa.string()), ("levels", pa.list_(pa.string()))])

_JUDGMENT = pa.struct(
    [
        ("answer", pa.int64()),
        ("facet", pa.int64()),
        ("rubric", pa.int64()),
        ("run", pa.int64()),
        ("score", pa.float64()),
        ("feedback", pa.string()),
        ("fault", pa.string()),
    ]
)

_COMPARISON = pa.struct(
    [
        ("run", pa.int64()),
        ("order", pa.int64()),
        ("verdict", pa.string()),
        ("feedback", pa.string()),
        ("fault", pa.string()),
    ]
)

_FACET = pa.struct(
    [
        ("index", pa.int64()),
        ("preferences", pa.list_(_PREFERENCE)),
        ("redrawn", pa.int64()),
        ("profile", pa.int64()),
        ("system", pa.string()),
        ("system_form", pa.string()),
        ("system_role", pa.string()),
        ("response", pa.string()),
        ("finish_reason", pa.string()),
        ("check_results", pa.map_(pa.string(), pa.string())),
        ("moot", pa.list_(pa.int64())),
        ("contradictions", pa.list_(pa.struct([("answer_quote", pa.string()), ("reference_quote", pa.string())]))),
        ("scores", pa.map_(pa.string(), pa.float64())),
        ("answers", pa.list_(_ANSWER)),
        ("preferred", pa.int64()),
        ("rubrics", pa.list_(_RUBRIC)),
        ("checks", pa.list_(_CHECK)),
        ("later_references", pa.list_(pa.string())),
        ("judgments", pa.list_(_JUDGMENT)),
        ("comparisons", pa.list_(_COMPARISON)),
        ("rejection", pa.struct([("stage", pa.string()), ("reason", pa.string()), ("detail", pa.string())])),
        ("provenance", pa.list_(_PROVENANCE)),
    ]
)

_VERDICT = pa.struct(
    [
        ("answer", pa.int64()),
        ("facet", pa.int64()),
        ("preference", pa.int64()),
        ("verdict", pa.string()),
        ("source", pa.string()),
        ("quote", pa.string()),
    ]
)

ROW_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string()),
        pa.field("instruction", pa.string()),
        pa.field("main_source", pa.string()),
        pa.field("original_source", pa.string()),
        pa.field("source_row", pa.int64()),
        pa.field("language", pa.string()),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("category", pa.string()),
        pa.field("turns", pa.list_(pa.string())),
        pa.field("split", pa.string()),
        pa.field("level", pa.string()),
        pa.field("draw", pa.int64()),
        pa.field("facets", pa.list_(_FACET)),
        pa.field("neutral", _FACET),
        pa.field("matrix", pa.list_(_VERDICT)),
    ],
    metadata={"schema_version": ROW_SCHEMA_VERSION},
)

REJECTED_ROW_SCHEMA = pa.schema(
    [
        pa.field("source", pa.int64()),
        pa.field("main_source", pa.string()),
        pa.field("source_row", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("text", pa.string()),
    ],
    metadata={"schema_version": "rejected-row/2"},
)


class TableWriter:
    """Writes records batch by batch: memory holds the columns of one row group. Use as a context manager; `rows` counts."""

    def __init__(self, path: Path, schema: pa.Schema, row_group_rows: int = ROW_GROUP_ROWS) -> None:
        self.rows = 0
        self._schema = schema
        self._row_group_rows = row_group_rows
        self._pending: list[Mapping[str, Any]] = []
        self._batches: list[pa.RecordBatch] = []
        self._batched_rows = 0
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")

    def write(self, record: Mapping[str, Any]) -> None:
        self._pending.append(record)
        self.rows += 1
        if self._batched_rows + len(self._pending) >= self._row_group_rows:
            self._flush()
        elif len(self._pending) >= _RECORDS_AT_ONCE:
            self._convert()

    def _convert(self) -> None:
        if self._pending:
            self._batches.append(pa.RecordBatch.from_pylist(self._pending, schema=self._schema))
            self._batched_rows += len(self._pending)
            self._pending = []

    def _flush(self) -> None:
        self._convert()
        if self._batches:
            self._writer.write_table(pa.Table.from_batches(self._batches), row_group_size=self._row_group_rows)
            self._batches, self._batched_rows = [], 0

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()


def _facets(record: dict[str, Any]) -> list[dict[str, Any]]:
    """All facets of a record, the neutral answer included."""
    facets = list(record["facets"] or ())
    return [*facets, record["neutral"]] if record.get("neutral") else facets


def row_to_record(row: InstructionRow) -> dict[str, Any]:
    """The row as a record of ROW_SCHEMA."""
    record: dict[str, Any] = msgspec.to_builtins(row)
    for facet in _facets(record):
        for check in [*(preference["check"] for preference in facet["preferences"]), *facet["checks"]]:
            if check is not None:
                check["parameters"] = orjson.dumps(check.get("parameters", {}), option=orjson.OPT_SORT_KEYS).decode()
        for answer in facet["answers"]:
            answer["measures"] = list(answer["measures"].items())
        facet["check_results"] = list(facet["check_results"].items())
        facet["scores"] = list(facet["scores"].items())
    return record


def record_to_row(record: dict[str, Any]) -> InstructionRow:
    """The inverse of `row_to_record`; raises msgspec.ValidationError for a record of another schema."""
    for facet in _facets(record):
        for check in [*(preference["check"] for preference in facet["preferences"]), *(facet.get("checks") or ())]:
            if check is not None:
                check["parameters"] = orjson.loads(check["parameters"])
        for answer in facet["answers"] or ():
            answer["measures"] = dict(answer.get("measures") or ())
        facet["check_results"] = dict(facet["check_results"] or ())
        facet["scores"] = dict(facet["scores"] or ())
    return msgspec.convert(record, InstructionRow)


def write_rows(path: Path, rows: Iterable[InstructionRow]) -> int:
    """Write pipeline rows to `path`; returns how many."""
    with TableWriter(path, ROW_SCHEMA) as writer:
        for row in rows:
            writer.write(row_to_record(row))
    return writer.rows


def iterate_rows(path: Path, batch: int = _RECORDS_AT_ONCE) -> Iterator[InstructionRow]:
    """Read pipeline rows with at most `batch` in memory."""
    with pq.ParquetFile(path) as file:
        for records in file.iter_batches(batch_size=batch, use_threads=False):
            for record in records.to_pylist():
                yield record_to_row(record)


def read_rows(path: Path) -> list[InstructionRow]:
    """All rows of one part."""
    return list(iterate_rows(path))


def write_records(path: Path, records: Iterable[Mapping[str, Any]], schema: pa.Schema) -> int:
    """Write plain records of `schema`; returns how many."""
    with TableWriter(path, schema) as writer:
        for record in records:
            writer.write(record)
    return writer.rows


def iterate_records(
    path: Path, columns: Sequence[str] | None = None, batch: int = ROW_GROUP_ROWS
) -> Iterator[dict[str, Any]]:
    """Read records as dicts with at most `batch` in memory."""
    with pq.ParquetFile(path) as file:
        for records in file.iter_batches(
            batch_size=batch, columns=list(columns) if columns else None, use_threads=False
        ):
            yield from records.to_pylist()


def page_of(path: Path, offset: int, limit: int, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Records `offset` to `offset + limit`, reading only the row groups that hold them."""
    with pq.ParquetFile(path) as file:
        start, groups, first = 0, [], None
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if start + rows > offset and start < offset + limit:
                groups.append(group)
                first = start if first is None else first
            start += rows
        if first is None:
            return []
        table = file.read_row_groups(groups, columns=list(columns) if columns else None)
        records: list[dict[str, Any]] = table.slice(offset - first, limit).to_pylist()
        return records


def batched(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of at most `size` items."""
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk
