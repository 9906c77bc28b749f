"""Reading a file of verdicts: every line is used, or counted with the reason why not."""

from collections.abc import Iterator
from pathlib import Path

from shared.domain.errors import InputRefused
from shared.sources.readers import BadRecord, Record, detect_format, parquet_columns, read_records
from shared.verdict_files.layouts import Layout, layout_named, layout_of
from shared.verdict_files.verdicts import LeftOut, Line, LineRefused, Texts, Verdict, VerdictFile

ARENA_HARD_BASELINE = "gpt-4-0314"
"""Of Arena-Hard Auto v0.1, whose files do not name it."""


def read_verdicts(
    path: Path, layout: str | None = None, *, baseline: str | None = None, texts: Texts = "none"
) -> VerdictFile:
    """All verdicts of a JSON, JSONL, CSV or Parquet file.

    `layout`: one of `LAYOUTS`; by default that which the columns fit. `baseline`: the model that Arena-Hard's files do not name.
    `texts`: what is wanted of the answers, where the file has them. A second line with the same verdict's place (item, annotator,
    models, order) is left out as `duplicate`.

    Raises InputRefused for a file that is not there, cannot be read at all, holds no readable line, or has no known layout.
    """
    if not path.is_file():
        raise InputRefused(f"{path} is no file; give a JSON, JSONL, CSV or Parquet file of verdicts")
    columns = _columns(path)
    chosen = layout_named(layout, columns, str(path)) if layout else layout_of(columns, str(path))
    seen: set[tuple[str, ...]] = set()
    verdicts: list[Verdict] = []
    counted: dict[str, LeftOut] = {}
    missing: dict[str, LeftOut] = {}
    lines = used = 0
    for record in _records(path, chosen):
        lines += 1
        place = f"line {record.row + 1}"
        try:
            if isinstance(record, BadRecord):
                raise LineRefused(record.reason, record.detail)
            found = _parsed(chosen, record, Line(record.row, record.fields, baseline or ARENA_HARD_BASELINE, texts))
            _require_new(found, seen)
        except LineRefused as refused:
            _count(counted, refused.reason, f"{place}: {refused}")
            continue
        used += 1
        verdicts += found
        for verdict in found:
            if verdict.missing:
                _count(missing, verdict.missing, f"{place}, {verdict.annotator}")
    return VerdictFile(path.name, chosen.name, lines, used, tuple(verdicts), counted, missing)


def _parsed(layout: Layout, record: Record, line: Line) -> list[Verdict]:
    absent = [name for name in layout.needed if name not in record.fields]
    if absent:
        raise LineRefused("missing_column", f"there is no `{absent[0]}`")
    return list(layout.parse(line))


def _require_new(found: list[Verdict], seen: set[tuple[str, ...]]) -> None:
    keys = [_key(verdict) for verdict in found]
    for verdict, key in zip(found, keys, strict=True):
        if key in seen:
            raise LineRefused("duplicate", f"{verdict.annotator} has a verdict on {verdict.item[:60]!r} already")
    seen.update(keys)


def _key(verdict: Verdict) -> tuple[str, ...]:
    battle = verdict.battle
    models = () if battle is None else (battle.first, battle.second, str(battle.order))
    return (verdict.item, verdict.annotator, *models)


def _count(into: dict[str, LeftOut], reason: str, example: str) -> None:
    known = into.get(reason)
    into[reason] = LeftOut(1, example) if known is None else LeftOut(known.lines + 1, known.example)


def _columns(path: Path) -> list[str]:
    """Columns of a Parquet file, else those of the first line that can be read."""
    file_format = detect_format(path, "auto", str(path))
    if file_format == "parquet":
        return parquet_columns(path, str(path))
    for record in read_records(path, file_format, str(path)):
        if isinstance(record, Record):
            return list(record.fields)
    raise InputRefused(f"{path} holds no line that can be read; give a JSON, JSONL, CSV or Parquet file of verdicts")


def _records(path: Path, layout: Layout) -> Iterator[Record | BadRecord]:
    file_format = detect_format(path, "auto", str(path))
    wanted = layout.columns(parquet_columns(path, str(path))) if file_format == "parquet" else None
    return read_records(path, file_format, str(path), wanted)
