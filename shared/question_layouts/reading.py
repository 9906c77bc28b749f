"""Whole files and Hub data sets of questions, told apart by their columns or read as they are said to be laid out."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from shared.bench_layout.records import BenchItem, is_bench, read_bench_record
from shared.domain.errors import InputRefused
from shared.domain.jobs import Source
from shared.domain.rows import Facet
from shared.question_layouts.benchmarks import BENCHMARKS, References, benchmark_of
from shared.question_layouts.lines import QuestionLine, preferences_of, text_of
from shared.sources.inspection import open_source
from shared.sources.mapping import MappedRow, compile_mapping
from shared.sources.readers import BadRecord, Record, detect_format, read_records

BENCH_LAYOUT = "multifaceted_bench"
_LOOKED_AT = 50

Lines = Iterator[QuestionLine | BadRecord]
Read = Callable[[Record], "QuestionLine | BadRecord"]


def read_question_file(path: Path, layout: str, pointer: str, references: References | None = None) -> Lines:
    """The questions of a JSONL, JSON, CSV or Parquet file. Raises InputRefused for a file that cannot be used so."""
    file_format = detect_format(path, "auto", pointer)

    def plain() -> Read:
        _, _, mapping = open_source(path, Source(file=path.name), pointer)
        return lambda record: _plain(record, mapping.apply(record.fields))

    return _read(read_records(path, file_format, pointer), layout, pointer, references or {}, plain)


def read_question_records(records: Iterable[Record | BadRecord], layout: str, pointer: str) -> Lines:
    """The same of records that were read already, such as those of a Hub data set."""
    ahead = iter(records)
    first = list(islice(ahead, _LOOKED_AT))
    columns = list(dict.fromkeys(name for record in first if isinstance(record, Record) for name in record.fields))

    def plain() -> Read:
        mapping = compile_mapping("auto", columns, pointer)
        return lambda record: _plain(record, mapping.apply(record.fields))

    return _read(chain(first, ahead), layout, pointer, {}, plain)


def read_references(path: Path, pointer: str) -> dict[str, list[str]]:
    """Reference answers by question id, from a file as FastChat publishes them: `question_id`, `choices[0].turns`. Raises
    InputRefused where no line is one."""
    found: dict[str, list[str]] = {}
    for record in read_records(path, detect_format(path, "auto", pointer), pointer):
        if isinstance(record, BadRecord):
            continue
        choices = record.fields.get("choices")
        turns = (
            choices[0].get("turns") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
        )
        if isinstance(turns, list):
            found[str(record.fields.get("question_id"))] = [text_of(turn) for turn in turns]
    if not found:
        raise InputRefused(
            "the file holds no reference answers: each line needs question_id and choices with turns; leave it out, or upload "
            "one that has them",
            pointer,
        )
    return found


def _read(
    records: Iterable[Record | BadRecord],
    layout: str,
    pointer: str,
    references: References,
    plain: Callable[[], Read],
) -> Lines:
    read: Read | None = None
    for record in records:
        if isinstance(record, BadRecord):
            yield record
            continue
        if read is None:
            read = _reader(record.fields, layout, pointer, references, plain)
        yield read(record)


def _reader(
    fields: dict[str, Any], layout: str, pointer: str, references: References, plain: Callable[[], Read]
) -> Read:
    """How all lines are read, by the first one that can be."""
    if layout == BENCH_LAYOUT or (layout == "auto" and is_bench(list(fields))):
        if not is_bench(list(fields)):
            raise InputRefused(
                f"the file has columns {', '.join(fields)}, which is not the layout of the Multifaceted Bench; set "
                "questions.layout to auto, or upload a bench",
                pointer,
            )
        return _bench
    named = benchmark_of(fields) if layout == "auto" else layout
    if named in BENCHMARKS:
        reader = BENCHMARKS[named]
        return lambda record: reader(record.row, record.fields, references)
    if "prompt" in fields:
        return _prompt
    return plain()


def _bench(record: Record) -> QuestionLine | BadRecord:
    item = read_bench_record(record.fields)
    if isinstance(item, BenchItem):
        return QuestionLine(record.row, item.instruction, item.facet, item.source)
    return BadRecord(record.row, item.reason, item.detail, text_of(record.fields.get("prompt")))


def _prompt(record: Record) -> QuestionLine | BadRecord:
    fields = record.fields
    prompt, system = fields.get("prompt"), fields.get("system")
    if not isinstance(prompt, str) or not prompt.strip():
        return BadRecord(record.row, "empty", "prompt is empty or no text", "")
    if system is not None and not isinstance(system, str):
        return BadRecord(record.row, "missing_field", "system is no text", prompt)
    facet = Facet(
        0,
        preferences=preferences_of(fields.get("preference_set")),
        system=system or None,
        response=text_of(fields.get("output")) or None,
    )
    return QuestionLine(
        record.row, prompt, facet, text_of(fields.get("main_source")), text_of(fields.get("original_source"))
    )


def _plain(record: Record, mapped: object) -> QuestionLine | BadRecord:
    if not isinstance(mapped, MappedRow):
        return BadRecord(record.row, "missing_field", str(getattr(mapped, "detail", "")), "")
    if not mapped.instruction.strip():
        return BadRecord(record.row, "empty", "the instruction is empty", "")
    return QuestionLine(
        record.row, mapped.instruction, Facet(0), mapped.main_source or "", mapped.original_source or ""
    )
