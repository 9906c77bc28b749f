"""Reading a data set for an audit: its layout, its files, and a sample of whole instructions that fits into memory."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from shared.domain.errors import InputRefused
from shared.domain.identifiers import seed_of
from shared.sources.readers import BadRecord, detect_format, parquet_columns, read_records

MOST_ROWS = 10_000
"""Rows kept; of a larger set whole instructions are drawn by hash, the same ones each time."""

Layout = Literal["collection", "sft", "pairs", "reward"]

LAYOUTS: dict[Layout, tuple[str, ...]] = {
    "collection": ("preference_set", "preference_details", "system", "prompt", "output", "provenance"),
    "sft": ("preference_set", "system", "prompt", "output"),
    "pairs": ("system", "prompt", "chosen", "rejected"),
    "reward": ("input", "chosen", "rejected"),
}
"""Columns that a layout is known by, the most special first: our own collection, Multifaceted-Collection, its -DPO and
-ORPO sets, its -RM set."""

_READ = {
    "collection": ("preference_set", "preference_details", "system", "prompt", "output", "provenance", "scores", "teacher",
                   "moot_preferences", "split", "split_level"),
    "sft": ("preference_set", "system", "prompt", "output"),
    "pairs": ("system", "prompt", "chosen", "rejected"),
    "reward": ("input", "chosen", "rejected"),
}  # fmt: skip
_SPACE = 2**63


class Entry(msgspec.Struct, frozen=True):
    """One preference of a row's set; `pole` where the layout has it."""

    dimension: str
    subdimension: str
    preference: str
    description: str
    pole: str | None = None
    moot: bool | None = None
    """Whether a judge or program found that every answer follows it anyway; None where the layout does not say."""


class AuditRow(msgspec.Struct, frozen=True):
    """One row, whatever its layout: what a layout has not is None. `cluster` is the instruction's key."""

    cluster: str
    prompt: str
    system: str | None = None
    entries: tuple[Entry, ...] | None = None
    output: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    verified: bool | None = None
    """Whether a check result or a judge's score stands beside the answer."""
    provenance: bool | None = None
    split: str | None = None
    level: str | None = None
    """What the row shows that training has not: a value of SplitLevel."""


class AuditData(msgspec.Struct):
    """A data set as the measures see it: `rows` of `available`, whole instructions. `train` and `test` are its files."""

    name: str
    layout: Layout
    rows: list[AuditRow]
    available: int
    unreadable: int
    train: tuple[Path, ...]
    test: tuple[Path, ...]
    provenance_beside: bool = False
    simulated: bool = False
    benchmarks: tuple[Path, ...] = ()

    @property
    def sampled(self) -> bool:
        return len(self.rows) < self.available

    @property
    def instructions(self) -> int:
        return len({row.cluster for row in self.rows})


def load_data(path: Path, benchmarks: Sequence[Path] = (), *, most: int = MOST_ROWS) -> AuditData:
    """The data set in a JSONL, JSON or Parquet file, or in a folder with `train*` and `test*` files.

    Memory holds 1.25 `most` rows, more only for one instruction that has more. Raises InputRefused for a missing or empty path,
    files of two layouts, and a layout that is not known: the message names the columns seen and those of each known layout.
    """
    train, test = _files(path)
    layouts = {file: _layout_of(file) for file in (*train, *test)}
    layout = layouts[(train or test)[0]]
    for file, other in layouts.items():
        if other != layout:
            raise InputRefused(f"{file} has the layout {other}, the others {layout}: audit one layout at a time")
    sample = _Sample(most)
    unreadable = 0
    simulated = False
    for file in (*train, *test):
        for fields in _records(file, _READ[layout]):
            row = None if fields is None else _row(layout, fields)
            if row is None or fields is None:
                unreadable += 1
                continue
            simulated = simulated or fields.get("teacher") == "simulator"
            sample.add(row)
    if not sample.seen:
        raise InputRefused(f"{path} holds no readable row in the layout {layout}; {unreadable} rows could not be read")
    beside = (path if path.is_dir() else path.parent) / "provenance.parquet"
    return AuditData(
        name=path.name or str(path),
        layout=layout,
        rows=sample.rows(),
        available=sample.seen,
        unreadable=unreadable,
        train=train,
        test=test,
        provenance_beside=beside.is_file(),
        simulated=simulated or (beside.is_file() and _simulated(beside)),
        benchmarks=tuple(benchmarks),
    )


def prompts_of(data: AuditData, files: Sequence[Path]) -> Iterator[str]:
    """The instruction of every row of some of the set's files, in order; of the reward layout the input's last line."""
    column = "input" if data.layout == "reward" else "prompt"
    for file in files:
        for fields in _records(file, (column,)):
            if fields is None or not isinstance(fields.get(column), str):
                continue
            yield _last_line(fields[column]) if data.layout == "reward" else fields[column]


def _simulated(provenance: Path) -> bool:
    """Whether any row of a provenance file names the simulator as its teacher."""
    return any(
        fields is not None and fields.get("teacher") == "simulator" for fields in _records(provenance, ("teacher",))
    )


def layout_of_columns(columns: Sequence[str]) -> Layout | None:
    """The layout with those columns, None for an unknown one. More columns than a layout needs do no harm."""
    for layout, needed in LAYOUTS.items():
        if set(needed) <= set(columns):
            return layout
    return None


class _Sample:
    """Rows of instructions whose hash lies below a limit, which falls whenever too many rows are kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = _SPACE
        self._kept: list[tuple[int, AuditRow]] = []
        self.seen = 0

    def add(self, row: AuditRow) -> None:
        self.seen += 1
        place = seed_of("audit-sample", row.cluster)
        if place >= self._limit:
            return
        self._kept.append((place, row))
        # A quarter more are let in before they are thinned out, so that thinning is rare.
        if len(self._kept) > 1.25 * self._most:
            self._thin()

    def rows(self) -> list[AuditRow]:
        if len(self._kept) > self._most:
            self._thin()
        return [row for _, row in self._kept]

    def _thin(self) -> None:
        places = sorted(place for place, _ in self._kept)
        limit = places[self._most]
        # One instruction with more rows than fit is kept whole: a limit of its own place would leave nothing.
        self._limit = limit if limit > places[0] else places[0] + 1
        self._kept = [(place, row) for place, row in self._kept if place < self._limit]


def _files(path: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    if not path.exists():
        raise InputRefused(f"{path} does not exist; give a JSONL or Parquet file, or a folder of an export")
    if path.is_file():
        return ((), (path,)) if path.stem.lower().startswith("test") else ((path,), ())
    for suffix in ("parquet", "jsonl"):
        found = sorted(file for file in path.glob(f"*.{suffix}") if file.stem != "provenance" and file.stat().st_size)
        if not found:
            continue
        test = tuple(file for file in found if file.stem.startswith(("test", "validation")))
        train = tuple(file for file in found if file not in test)
        return train, test
    inside = sorted(entry.name for entry in path.iterdir())[:12]
    raise InputRefused(
        f"{path} holds no .parquet or .jsonl file (seen: {', '.join(inside) or 'nothing'}); give a file, or a folder such "
        "as exports/sft with train.parquet and test.parquet"
    )


def _layout_of(file: Path) -> Layout:
    columns = _columns(file)
    layout = layout_of_columns(columns)
    if layout is None:
        known = "; ".join(f"{name}: {', '.join(needed)}" for name, needed in LAYOUTS.items())
        raise InputRefused(f"{file} has the columns {', '.join(columns) or 'none'}; known layouts need {known}")
    return layout


def _columns(file: Path) -> list[str]:
    if detect_format(file, "auto", str(file)) == "parquet":
        return parquet_columns(file, str(file))
    for fields in _records(file, None):
        if fields is not None:
            return list(fields)
    return []


def _records(file: Path, columns: Sequence[str] | None) -> Iterator[dict[str, Any] | None]:
    """Fields of each row, None for one that could not be read."""
    file_format = detect_format(file, "auto", str(file))
    if file_format == "csv":
        raise InputRefused(f"{file} is no JSONL and no Parquet; the released layouts nest lists, which CSV cannot hold")
    wanted = columns
    if columns is not None and file_format == "parquet":
        wanted = [name for name in parquet_columns(file, str(file)) if name in columns]
    for record in read_records(file, file_format, str(file), wanted):
        yield None if isinstance(record, BadRecord) else record.fields


def _row(layout: Layout, fields: Mapping[str, Any]) -> AuditRow | None:
    """The row, None where a text is missing or no text."""
    if layout == "reward":
        whole, chosen, rejected = (fields.get(name) for name in ("input", "chosen", "rejected"))
        if not (isinstance(whole, str) and isinstance(chosen, str) and isinstance(rejected, str)):
            return None
        instruction = _last_line(whole)
        return AuditRow(instruction, instruction, chosen=chosen, rejected=rejected)
    prompt, system = fields.get("prompt"), fields.get("system")
    if not isinstance(prompt, str) or not isinstance(system, str):
        return None
    if layout == "pairs":
        chosen, rejected = _answer(fields.get("chosen")), _answer(fields.get("rejected"))
        if chosen is None or rejected is None:
            return None
        return AuditRow(prompt, prompt, system, chosen=chosen, rejected=rejected)
    output = fields.get("output")
    if not isinstance(output, str):
        return None
    details = fields.get("preference_details")
    entries = _entries(fields.get("preference_set"), details, fields.get("moot_preferences"))
    if layout == "sft":
        return AuditRow(prompt, prompt, system, entries, output)
    results = any(isinstance(detail, Mapping) and detail.get("check_result") for detail in details or ())
    return AuditRow(
        prompt,
        prompt,
        system,
        entries,
        output,
        verified=bool(results or fields.get("scores")),
        provenance=bool(fields.get("provenance")),
        split=_text(fields.get("split")),
        level=_text(fields.get("split_level")),
    )


def _last_line(text: str) -> str:
    """System message and instruction of a reward input cannot be told apart where either has several lines; the last line
    is the instruction's in any case, and siblings share it."""
    return text.rstrip().rpartition("\n")[2].strip()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _entries(given: Any, details: Any, moot: Any) -> tuple[Entry, ...]:
    found = []
    for position, item in enumerate(given if isinstance(given, list) else ()):
        if not isinstance(item, Mapping):
            continue
        texts = {name: str(item.get(name) or "") for name in ("dimension", "subdimension", "preference", "description")}
        detail = details[position] if isinstance(details, list) and position < len(details) else None
        pole = detail.get("pole") if isinstance(detail, Mapping) else None
        found.append(
            Entry(**texts, pole=str(pole) if pole else None, moot=position in moot if isinstance(moot, list) else None)
        )
    return tuple(found)


def _answer(turns: Any) -> str | None:
    """The last assistant turn of a conversation, or a plain text."""
    if isinstance(turns, str):
        return turns
    for turn in reversed(turns) if isinstance(turns, list) else ():
        if isinstance(turn, Mapping) and turn.get("role") == "assistant" and isinstance(turn.get("content"), str):
            return str(turn["content"])
    return None
