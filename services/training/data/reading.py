"""Reads the rows of a file that are trained on, in the file's order, one batch in memory at a time."""

from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from services.training.data.examples import POINTER, Example, RowFault, example_of, used_columns
from shared.domain.identifiers import seed_of
from shared.domain.training import Method, TrainParameters
from shared.sources.readers import FileFormat, Record, detect_format, parquet_columns, read_records

_LOOKED_AT_ROWS = 100
"""Rows of a file without a schema whose fields together are its columns."""


class DataFile(msgspec.Struct, frozen=True):
    """A file of rows: where it lies, how it is written, what of it is read."""

    path: Path
    file_format: FileFormat
    present: tuple[str, ...]
    columns: tuple[str, ...]


class ReadRow(msgspec.Struct, frozen=True):
    """A row by its number in the file: an example, or why there is none (`fault`)."""

    row: int
    example: Example | None
    fault: str | None = None


def open_data(path: Path, method: Method, file: str) -> DataFile | None:
    """Look at a Parquet, JSONL, JSON or CSV file; None where it has no row. `file` says in messages which it is.

    Raises InputRefused for a file that cannot be read as a whole, or lacks columns of the method.
    """
    if path.stat().st_size == 0:
        return None
    file_format = detect_format(path, "auto", POINTER)
    first = list(islice(read_records(path, file_format, POINTER), _LOOKED_AT_ROWS))
    if not first:
        return None
    if file_format == "parquet":
        present = tuple(parquet_columns(path, POINTER))
    else:
        present = tuple(dict.fromkeys(name for record in first if isinstance(record, Record) for name in record.fields))
    return DataFile(path, file_format, present, used_columns(method, present, file))


def draw_rows(data: DataFile, parameters: TrainParameters) -> tuple[int, frozenset[int] | None]:
    """(number of rows in the file, numbers of those trained on; None: all), by the seed of the training.

    With `one_message_per_instruction` one row of each distinct prompt; of these at most `maximum_rows`.
    """
    by_prompt: dict[bytes | int, list[int]] = {}
    total = 0
    for record in read_records(data.path, data.file_format, POINTER, columns=("prompt", "input")):
        total += 1
        if parameters.one_message_per_instruction:
            prompt = record.fields.get("prompt") if isinstance(record, Record) else None
            # A row without a readable prompt stands alone, so that it is counted as what it is.
            by_prompt.setdefault(_digest(prompt) if isinstance(prompt, str) else record.row, []).append(record.row)
    generator = np.random.default_rng(seed_of("rows that are trained on", parameters.seed))
    rows: list[int] | None = None
    if parameters.one_message_per_instruction:
        rows = [group[int(generator.integers(len(group)))] for group in by_prompt.values()]
    if parameters.maximum_rows is not None and parameters.maximum_rows < (total if rows is None else len(rows)):
        among = np.arange(total) if rows is None else np.array(rows)
        rows = generator.permutation(among)[: parameters.maximum_rows].tolist()
    return total, None if rows is None else frozenset(rows)


def read_rows(data: DataFile, method: Method, drawn: frozenset[int] | None) -> Iterator[ReadRow]:
    """The drawn rows in the file's order. A row that cannot be read comes with its fault, never as an exception."""
    for record in read_records(data.path, data.file_format, POINTER, columns=data.columns):
        if drawn is not None and record.row not in drawn:
            continue
        if not isinstance(record, Record):
            yield ReadRow(record.row, None, "unreadable")
            continue
        if any(name not in record.fields for name in data.columns if name != "system"):
            yield ReadRow(record.row, None, "wrong_form")
            continue
        try:
            yield ReadRow(record.row, example_of(record.fields, method, data.columns))
        except RowFault as fault:
            yield ReadRow(record.row, None, fault.reason)


def _digest(text: str) -> bytes:
    """Hundreds of thousands of prompts are held at once; their hashes are enough to tell them apart."""
    return blake2b(text.encode(), digest_size=16).digest()
