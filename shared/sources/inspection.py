"""What a source holds, found from its first rows: so that a job with an unusable file is refused before it starts."""

from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from shared.domain.errors import InputRefused
from shared.domain.jobs import FieldMapping, Source
from shared.sources.mapping import CompiledMapping, MappedRow, compile_mapping
from shared.sources.readers import (
    BadRecord,
    FileFormat,
    ReadProgress,
    Record,
    count_rows,
    detect_format,
    parquet_columns,
    read_records,
)

SAMPLE_ROWS = 1000
COLUMN_ROWS = 50
SHOWN_ROWS = 3
SHOWN_CHARACTERS = 300


class SourceInspection(BaseModel):
    """A look at the first rows. `rows` is an estimate unless `rows_exact`, after the source's own `limit`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: FileFormat
    mapping: str
    """Name of the mapping in use; `auto: prompt` where a common column name was taken."""
    columns: list[str]
    rows: int
    rows_exact: bool
    average_instruction_characters: float
    sample: list[str]
    """The first instructions, shortened."""
    unusable_rows: dict[str, int]
    """Rows of the sample that would be rejected while reading, by reason."""


def open_source(path: Path, source: Source, pointer: str) -> tuple[FileFormat, list[str], CompiledMapping]:
    """Format, columns and mapping of a file. Raises InputRefused as `inspect_file` does."""
    file_format = detect_format(path, source.format, pointer)
    is_parquet = file_format == "parquet"
    columns = parquet_columns(path, pointer) if is_parquet else _columns_of_first_rows(path, file_format, pointer)
    return file_format, columns, compile_mapping(source.mapping, columns, pointer)


def inspect_file(path: Path, source: Source, pointer: str) -> SourceInspection:
    """Read the first 1,000 rows of a file through the source's mapping.

    Raises InputRefused (with `pointer`, the JSON pointer of the source in the job spec, or one below it) for a file that
    is empty, compressed, not UTF-8 or damaged, for an unknown mapping, where no row of the sample has an instruction, and
    where none fills a source field of a mapping that the user wrote.
    """
    file_format, columns, mapping = open_source(path, source, pointer)
    wanted = min(SAMPLE_ROWS, source.limit or SAMPLE_ROWS)
    good: list[MappedRow] = []
    unusable: dict[str, int] = {}
    first_faults: list[str] = []
    read = 0
    progress = ReadProgress()
    for record in islice(read_records(path, file_format, pointer, mapping.columns, progress), wanted):
        read += 1
        found = _look(record, mapping)
        if isinstance(found, MappedRow):
            good.append(found)
        else:
            reason, detail = found
            unusable[reason] = unusable.get(reason, 0) + 1
            first_faults = first_faults or [f"row {record.row}: {reason}: {detail}"]
    if not read:
        raise InputRefused(f"the file has no rows (columns: {columns}); upload one with at least one row", pointer)
    if not good:
        raise unusable_file(columns, unusable, first_faults[0], mapping, pointer)
    if isinstance(source.mapping, FieldMapping):
        mapping.require_sources(good, columns)
    texts = [row.instruction for row in good]
    rows, exact = _estimate(path, file_format, read, wanted, progress.bytes)
    if source.limit is not None and rows >= source.limit:
        rows, exact = source.limit, exact or read >= source.limit
    return SourceInspection(
        format=file_format,
        mapping=mapping.name,
        columns=columns,
        rows=rows,
        rows_exact=exact,
        average_instruction_characters=sum(map(len, texts)) / len(texts),
        sample=[text[:SHOWN_CHARACTERS] for text in texts[:SHOWN_ROWS]],
        unusable_rows=unusable,
    )


def unusable_file(
    columns: list[str], reasons: dict[str, int], first_fault: str, mapping: CompiledMapping | None, pointer: str
) -> InputRefused:
    """The error for a file none of whose rows gave an instruction. `mapping` is None where no row could be read at all."""
    counts = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    if mapping is not None and set(reasons) <= {"missing_field", "empty"}:
        return InputRefused(
            f"no row has an instruction at {mapping.fields.instruction!r} (mapping {mapping.name}; {counts}); "
            f'columns seen: {columns}; set `mapping` to {{"instruction": "{{column}}"}} with a column that is there',
            f"{pointer}/mapping",
        )
    advice = "save the file as UTF-8" if set(reasons) == {"not_utf8"} else "correct the file, or set its `format`"
    return InputRefused(f"no row can be read ({counts}); first: {first_fault}; {advice}", pointer)


def _look(record: Record | BadRecord, mapping: CompiledMapping) -> MappedRow | tuple[str, str]:
    """What a row gives, or (reason, detail) why it cannot be used."""
    if isinstance(record, BadRecord):
        return record.reason, record.detail
    mapped = mapping.apply(record.fields)
    if isinstance(mapped, MappedRow):
        return mapped if mapped.instruction.strip() else ("empty", "the instruction is empty")
    return "missing_field", mapped.detail


def _columns_of_first_rows(path: Path, file_format: FileFormat, pointer: str) -> list[str]:
    """Union of the columns of the first rows, in order of appearance: rows of JSON need not all have the same.

    Raises InputRefused where none of the first rows can be read, and where there are none.
    """
    columns: dict[str, None] = {}
    good = 0
    reasons: dict[str, int] = {}
    first_fault = ""
    for record in islice(read_records(path, file_format, pointer), SAMPLE_ROWS):
        if isinstance(record, Record):
            columns |= dict.fromkeys(record.fields)
            good += 1
            if good >= COLUMN_ROWS:
                break
        else:
            reasons[record.reason] = reasons.get(record.reason, 0) + 1
            first_fault = first_fault or f"row {record.row}: {record.detail}"
    if not good and reasons:
        raise unusable_file([], reasons, first_fault, None, pointer)
    if not good:
        raise InputRefused("the file has no rows; upload one with at least one row", pointer)
    return list(columns)


def _estimate(path: Path, file_format: FileFormat, read: int, wanted: int, read_bytes: int) -> tuple[int, bool]:
    if file_format == "parquet":
        return count_rows(path, file_format, 0, 0)
    if read < wanted:
        return read, True
    if file_format == "json":
        return sum(1 for _ in read_records(path, file_format, "")), True
    return count_rows(path, file_format, read_bytes, read)
