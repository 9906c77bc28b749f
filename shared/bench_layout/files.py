"""Whole files of the layout: written from the rows of a bench, and read back into rows.

Lines of one prompt are one row, each a facet of it in the order of the lines, so that an item has the same id whoever reads the
file.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import orjson

from shared.artifacts.tables import write_records
from shared.bench_layout.records import (
    BENCH_COLUMNS,
    BENCH_SCHEMA,
    bench_record,
    is_bench,
    read_bench_record,
)
from shared.domain.benches import BenchFault
from shared.domain.errors import InputRefused
from shared.domain.identifiers import row_id_of
from shared.domain.rows import InstructionRow
from shared.sources.readers import BadRecord, detect_format, parquet_columns, read_records

MAXIMUM_LINES = 50_000
"""Of one file: its items are kept in memory where they are asked or shown, and people review them one by one."""


class BenchContents(msgspec.Struct, frozen=True):
    """What a file of the layout holds: rows of items that can be asked, and every line that is none, in their order."""

    rows: list[InstructionRow]
    faults: list[BadRecord]
    """Lines (from 0) with reason and detail; `text` is the prompt, as far as there is one."""

    @property
    def items(self) -> int:
        return sum(len(row.facets) for row in self.rows)


def write_bench_lines(path: Path, rows: Iterable[InstructionRow]) -> int:
    """Write all facets of the rows in the layout as JSON lines; returns how many."""
    count = 0
    with path.open("wb") as lines:
        for row in rows:
            for facet in row.facets:
                lines.write(orjson.dumps(bench_record(row, facet)) + b"\n")
                count += 1
    return count


def write_bench_table(path: Path, rows: Iterable[InstructionRow]) -> int:
    """Write the same as a Parquet table, in the same order."""
    return write_records(path, (bench_record(row, facet) for row in rows for facet in row.facets), BENCH_SCHEMA)


def read_bench_file(path: Path, title: str, pointer: str) -> BenchContents:
    """All lines of a file of the layout (JSONL, JSON, CSV or Parquet); rows are kept in memory. `title` is the source of lines
    that name none.

    A line that stands before, with the same prompt under the same system message, is a fault `duplicate`. Raises InputRefused at
    `pointer` for a file that is empty, has more than MAXIMUM_LINES, cannot be read at all, or has other columns.
    """
    file_format = detect_format(path, "auto", pointer)
    if file_format == "parquet":
        _require_columns(parquet_columns(path, pointer), pointer)
    rows: dict[str, InstructionRow] = {}
    seen: dict[tuple[str, str], int] = {}
    faults: list[BadRecord] = []
    columns: dict[str, None] = {}
    lines = 0
    for record in read_records(path, file_format, pointer):
        lines += 1
        if lines > MAXIMUM_LINES:
            raise InputRefused(
                f"the file has more than {MAXIMUM_LINES:,} lines; split it into several benches", pointer
            )
        if isinstance(record, BadRecord):
            faults.append(record)
            continue
        columns |= dict.fromkeys(record.fields)
        item = read_bench_record(record.fields)
        if isinstance(item, BenchFault):
            prompt = record.fields.get("prompt")
            faults.append(BadRecord(record.row, item.reason, item.detail, prompt if isinstance(prompt, str) else ""))
            continue
        row_id = row_id_of(item.instruction)
        first = seen.setdefault((row_id, item.facet.system or ""), record.row)
        if first != record.row:
            detail = f"line {first + 1} has the same prompt under the same system message"
            faults.append(BadRecord(record.row, "duplicate", detail, item.instruction))
            continue
        row = rows.get(row_id)
        if row is None:
            source = item.source or title
            row = rows[row_id] = InstructionRow(row_id, item.instruction, source, source, record.row, split="test")
        item.facet.index = len(row.facets)
        row.facets.append(item.facet)
    if not lines:
        raise InputRefused("the file has no rows; upload one with at least one row", pointer)
    if columns:
        _require_columns(list(columns), pointer)
    return BenchContents(list(rows.values()), faults)


def _require_columns(columns: list[str], pointer: str) -> None:
    if not is_bench(columns):
        raise InputRefused(
            f"the file is not in the layout of the Multifaceted Bench, whose columns are {', '.join(BENCH_COLUMNS)}; this one's: "
            f"{', '.join(columns) or 'none'}",
            pointer,
        )
