"""Files of answers: which columns say what was asked, under which system message, and what was answered."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from shared.domain.identifiers import row_id_of
from shared.sources.readers import BadRecord, detect_format, read_records

PROMPT_COLUMNS = ("prompt", "instruction", "question")
ANSWER_COLUMNS = ("output", "answer", "response", "completion")
ITEM_COLUMN, SYSTEM_COLUMN, SAMPLE_COLUMN = "item", "system", "sample"


class FileAnswer(msgspec.Struct, frozen=True):
    """One line. What was asked is told by `item` (`<row id>:<facet index>`), or by the prompt's row id and the system message."""

    line: int
    text: str
    later: list[str]
    """Of a conversation: what was answered to its later turns, where the answer is a list of texts."""
    item: str | None
    row_id: str | None
    system: str | None
    """None where the line says nothing of it; a blank one says nothing too."""
    sample: str | None
    """What tells several answers to one question apart, where the line says it."""


def read_answers(path: Path, pointer: str) -> Iterator[FileAnswer | BadRecord]:
    """The lines of a JSONL, JSON, CSV or Parquet file. Lines without an answer (`empty`), or that do not say what was asked
    (`missing_field`), and those that cannot be read are BadRecords. Raises InputRefused for a file that is none of these."""
    for record in read_records(path, detect_format(path, "auto", pointer), pointer):
        yield record if isinstance(record, BadRecord) else _answer(record.row, record.fields)


def _answer(line: int, fields: dict[str, Any]) -> FileAnswer | BadRecord:
    turns = _turns(fields)
    item, prompt = fields.get(ITEM_COLUMN), _first(fields, PROMPT_COLUMNS)
    if not isinstance(item, str) and prompt is None:
        wanted = " or ".join((ITEM_COLUMN, *PROMPT_COLUMNS))
        return BadRecord(line, "missing_field", f"no column {wanted} says what was asked", "")
    if not turns or not turns[0].strip():
        return BadRecord(line, "empty", f"no column {' or '.join(ANSWER_COLUMNS)} holds an answer", prompt or "")
    system, sample = fields.get(SYSTEM_COLUMN), fields.get(SAMPLE_COLUMN)
    return FileAnswer(
        line,
        turns[0],
        turns[1:],
        item if isinstance(item, str) else None,
        None if prompt is None else row_id_of(prompt),
        system if isinstance(system, str) and system.strip() else None,
        None if sample is None or sample == "" else str(sample),
    )


def _turns(fields: dict[str, Any]) -> list[str]:
    """The answer as a list of one text, or of one per turn; empty where there is none."""
    for name in ANSWER_COLUMNS:
        value = fields.get(name)
        if isinstance(value, str):
            return [value]
        if isinstance(value, list) and value and all(isinstance(turn, str) for turn in value):
            return value
    return []


def _first(fields: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((value for name in names if isinstance(value := fields.get(name), str)), None)
