"""Data sets of a job, paged straight from Parquet: a page reads the row groups that it shows and no others.

A filter is answered from a small index of a file (codes of dimension, subdimension and pole, reasons of rejections), text
by a scan that hands out its first matches while it still runs. Indexes, scans and counts are kept by sha256: objects never
change, so nothing kept can be wrong.
"""

import asyncio
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.api.local_objects import LocalObjects, ObjectReference
from shared.domain.errors import InputRefused
from shared.metadata.tables import Artifact

Positions = npt.NDArray[np.int64]
T = TypeVar("T")

_TEXT_FIELDS = frozenset(
    {"instruction", "prompt", "input", "system", "output", "response", "text", "content", "description", "preference"}
    | {"chosen", "rejected", "detail"}
)
_PREFERENCE_FIELDS = ("dimension", "subdimension", "pole")
_PART_SUFFIX = re.compile(r"-\d{5}(-of-\d{5})?$")


class DataFile(msgspec.Struct, frozen=True):
    """One Parquet file of a data set."""

    reference: ObjectReference
    artifact_id: str
    rows: int


class DataSet(msgspec.Struct, frozen=True):
    """Files that are read as one table. `dataset` is collection, sft, dpo, orpo, rm, a stage's name, or
    `<stage>-rejected`; `split` is train, test, …, or `all` where there are no splits."""

    dataset: str
    split: str
    stage: str
    files: tuple[DataFile, ...]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


class RowFilter(msgspec.Struct, frozen=True):
    """What rows are wanted. Dimension, subdimension and pole must hold for one and the same preference."""

    dimension: str | None = None
    subdimension: str | None = None
    pole: str | None = None
    contains: str | None = None
    reason: str | None = None

    @property
    def empty(self) -> bool:
        return self == RowFilter()


class Page(msgspec.Struct, frozen=True):
    """Rows with their positions in the data set. `matched` counts the rows that pass the filter; while `exact` is False the
    scan still runs and the count grows."""

    rows: list[tuple[int, dict[str, Any]]]
    matched: int
    exact: bool


def data_sets(artifacts: Sequence[Artifact]) -> list[DataSet]:
    """The data sets that a job's artifacts make up."""
    found: dict[tuple[str, str, str], list[Artifact]] = {}
    for artifact in artifacts:
        named = _named(artifact.stage, artifact.name)
        if named is not None and artifact.rows is not None:
            found.setdefault((artifact.stage, *named), []).append(artifact)
    return [
        DataSet(
            dataset,
            split,
            stage,
            tuple(
                DataFile(ObjectReference(item.key, item.sha256, item.size), item.id, item.rows or 0)
                for item in sorted(items, key=lambda item: item.name)
            ),
        )
        for (stage, dataset, split), items in found.items()
    ]


def _named(stage: str, name: str) -> tuple[str, str] | None:
    """(data set, split) of an artifact: `exports/dpo/train.parquet` is (dpo, train)."""
    path = PurePosixPath(name)
    if path.suffix != ".parquet":
        return None
    parents = [part for part in path.parent.parts if part != "exports"]
    stem = _PART_SUFFIX.sub("", path.stem)
    if parents:
        if stem == "provenance" or stem.endswith((".provenance", "-provenance")):
            return f"{parents[-1]}-provenance", stem[: -len("provenance")].rstrip(".-") or "all"
        return parents[-1], stem
    return (stage, "all") if stem == "part" else (f"{stage}-{stem}", "all")


class DatasetReader:
    """Reads pages and counts. All work runs on its own few threads."""

    def __init__(self, objects: LocalObjects, threads: int = 4) -> None:
        self._objects = objects
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="datasets")
        self._scanners = ThreadPoolExecutor(2, thread_name_prefix="dataset-scan")
        self._scans = _Recent[_Scan](256)
        self._indexes = _Recent[_Index](64)
        self._counts = _Recent[dict[str, Any]](256)

    def close(self) -> None:
        for scan in self._scans.values():
            scan.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._scanners.shutdown(wait=False, cancel_futures=True)

    async def page(self, data: DataSet, wanted: RowFilter, offset: int, limit: int) -> Page:
        """Rows `offset` to `offset + limit` of those that pass the filter, in the data set's order.

        Raises InputRefused for a filter on something that this data set does not hold.
        """
        if wanted.empty:
            positions = np.arange(min(offset, data.rows), min(offset + limit, data.rows), dtype=np.int64)
            return Page(await self._rows(data, positions), data.rows, True)
        scan = await self._scan(data, wanted)
        matches, matched, exact = await scan.wait_for(offset + limit)
        rows = await self._rows(data, matches[offset : offset + limit])
        return Page(rows, matched, exact)

    async def hierarchy(self, data: DataSet, top: int) -> dict[str, Any]:
        """Counts of living preferences by dimension, subdimension and keywords, and of rejections by reason.

        Returns {rows, preferences, dimensions: [{name, count, subdimensions: [{name, count, poles: {name: count},
        preferences: [{name, count}], other}]}], reasons: {reason: count}}, each list sorted by count; `other` sums what is
        not among the `top` keywords.
        """
        key = ("hierarchy", top, *(file.reference.sha256 for file in data.files))
        counts = self._counts.get(key)
        if counts is None:
            async with self._objects.all_local([file.reference for file in data.files]) as paths:
                counts = await self._on_thread(_hierarchy, paths, top)
            self._counts.put(key, counts)
        return {"rows": data.rows, **counts}

    async def _rows(self, data: DataSet, positions: Positions) -> list[tuple[int, dict[str, Any]]]:
        if not len(positions):
            return []
        starts = np.cumsum([0] + [file.rows for file in data.files])
        owners = np.searchsorted(starts, positions, side="right") - 1
        result: list[tuple[int, dict[str, Any]]] = []
        for owner in np.unique(owners):
            inside = positions[owners == owner] - starts[owner]
            async with self._objects.local(data.files[owner].reference) as path:
                records = await self._on_thread(_read_positions, path, inside)
            result += zip((inside + starts[owner]).tolist(), records, strict=True)
        return result

    async def _scan(self, data: DataSet, wanted: RowFilter) -> "_Scan":
        keys = [file.reference.sha256 for file in data.files]
        scan = self._scans.get((wanted, *keys))
        if scan is None or scan.failed:
            scan = _Scan(asyncio.get_running_loop())
            self._scans.put((wanted, *keys), scan)
            scan.keeper = asyncio.create_task(self._run(scan, data, keys, wanted))
        return scan

    async def _run(self, scan: "_Scan", data: DataSet, keys: Sequence[str], wanted: RowFilter) -> None:
        try:
            async with self._objects.all_local([file.reference for file in data.files]) as paths:
                matches = self._matches(paths, keys, wanted)
                await asyncio.get_running_loop().run_in_executor(self._scanners, scan.run, matches)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            scan.end(error)

    def _matches(self, paths: Sequence[Path], keys: Sequence[str], wanted: RowFilter) -> Iterator[Positions]:
        start = 0
        for path, key in zip(paths, keys, strict=True):
            with pq.ParquetFile(path) as file:
                total = file.metadata.num_rows
                candidates: Positions | None = None
                if any(
                    value is not None for value in (wanted.dimension, wanted.subdimension, wanted.pole, wanted.reason)
                ):
                    index = self._indexes.get((key,))
                    if index is None:
                        index = _Index.build(file)
                        self._indexes.put((key,), index)
                    candidates = index.matches(wanted)
                if wanted.contains is None:
                    yield (candidates if candidates is not None else np.arange(total, dtype=np.int64)) + start
                else:
                    for found in _containing(file, wanted.contains, candidates):
                        yield found + start
            start += total

    async def _on_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


class _Recent(OrderedDict[tuple[Any, ...], T]):
    """The entries used last. Threads may share one."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._lock = threading.Lock()

    def get(self, key: tuple[Any, ...]) -> T | None:  # type: ignore[override]
        with self._lock:
            if key not in self:
                return None
            self.move_to_end(key)
            return self[key]

    def put(self, key: tuple[Any, ...], value: T) -> None:
        with self._lock:
            self[key] = value
            self.move_to_end(key)
            while len(self) > self._size:
                self.popitem(last=False)


class _Scan:
    """Matches of one filter, found in order by one thread and awaited on the loop while it goes on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._bell = asyncio.Event()
        self._lock = threading.Lock()
        self._pieces: list[Positions] = []
        self._count = 0
        self._done = False
        self._stopped = False
        self._error: Exception | None = None
        self.keeper: asyncio.Task[None] | None = None

    @property
    def failed(self) -> bool:
        return self._error is not None

    def run(self, matches: Iterator[Positions]) -> None:
        """Collect all matches; called on a thread."""
        error: Exception | None = None
        try:
            for piece in matches:
                if self._stopped:
                    return
                if len(piece):
                    with self._lock:
                        self._pieces.append(piece)
                        self._count += len(piece)
                    self._tell()
        except Exception as raised:  # noqa: BLE001 - handed to whoever waits
            error = raised
        finally:
            self.end(error)

    def end(self, error: Exception | None) -> None:
        self._error = error
        self._done = True
        self._tell()

    def stop(self) -> None:
        self._stopped = True

    async def wait_for(self, count: int) -> tuple[Positions, int, bool]:
        """The matches so far, their number, and whether that is all: returns at `count` matches or at the end."""
        while True:
            bell = self._bell
            if self._done or self._count >= count:
                break
            await bell.wait()
        if self._error is not None:
            raise self._error
        with self._lock:
            done = self._done
            if len(self._pieces) > 1:
                self._pieces = [np.concatenate(self._pieces)]
            return self._pieces[0] if self._pieces else np.empty(0, np.int64), self._count, done

    def _tell(self) -> None:
        with suppress(RuntimeError):  # the loop is gone: nobody waits
            self._loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        self._bell.set()
        self._bell = asyncio.Event()


class _Entries(msgspec.Struct, frozen=True):
    """Preferences of a table, flattened: the struct array, each one's row, and whether its facet lives."""

    preferences: pa.StructArray
    rows: Positions
    alive: npt.NDArray[np.bool_]


class _Index:
    """Codes of a file's preferences and reasons, small enough to keep: 10 bytes a preference."""

    def __init__(self) -> None:
        self.names: dict[str, dict[str, int]] = {name: {} for name in _PREFERENCE_FIELDS}
        self.codes: dict[str, npt.NDArray[np.int32]] = {}
        self.rows: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self.reasons: dict[str, Positions] = {}
        self.has_preferences = False

    @classmethod
    def build(cls, file: pq.ParquetFile) -> "_Index":
        """Read only the columns that filters ask for, one row group at a time."""
        index = cls()
        index.has_preferences = bool(_leaves(file, {"dimension"}))
        codes: dict[str, list[npt.NDArray[np.int32]]] = {name: [] for name in _PREFERENCE_FIELDS}
        rows: list[Positions] = []
        reasons: dict[str, list[Positions]] = {}
        for start, table in _groups(file, {*_PREFERENCE_FIELDS, "reason"}):
            entries = _preferences(table)
            if entries is not None:
                rows.append(entries.rows + start)
                fields = {field.name for field in entries.preferences.type}
                for name in _PREFERENCE_FIELDS:
                    values = (
                        entries.preferences.field(name) if name in fields else pa.nulls(len(entries.rows), pa.string())
                    )
                    codes[name].append(_encode(values, index.names[name]))
            found = _reasons(table)
            if found is not None:
                values, owners = found
                for reason in pc.unique(values).to_pylist():
                    if reason is not None:
                        mask = pc.fill_null(pc.equal(values, reason), False).to_numpy(zero_copy_only=False)
                        reasons.setdefault(reason, []).append(np.unique(owners[mask]) + start)
        index.rows = np.concatenate(rows) if rows else index.rows
        index.codes = {name: np.concatenate(parts) if parts else np.empty(0, np.int32) for name, parts in codes.items()}
        index.reasons = {reason: np.concatenate(parts) for reason, parts in reasons.items()}
        return index

    def matches(self, wanted: RowFilter) -> Positions:
        """Rows that pass, sorted. Raises InputRefused where the file has no such thing as is asked for."""
        result: Positions | None = None
        asked = {name: value for name in _PREFERENCE_FIELDS if (value := getattr(wanted, name)) is not None}
        if asked:
            if not self.has_preferences:
                raise InputRefused(
                    "this data set holds no preferences to filter by; use contains, or the data set `collection`",
                    f"/{next(iter(asked))}",
                )
            mask = np.ones(len(self.rows), np.bool_)
            for name, value in asked.items():
                code = self.names[name].get(value)
                mask &= (self.codes[name] == code) if code is not None else False
            result = np.unique(self.rows[mask])
        if wanted.reason is not None:
            found = self.reasons.get(wanted.reason, np.empty(0, np.int64))
            result = found if result is None else np.intersect1d(result, found)
        return result if result is not None else np.empty(0, np.int64)


def _groups(file: pq.ParquetFile, fields: set[str] | frozenset[str] | None) -> Iterator[tuple[int, pa.Table]]:
    """(first row, table) of every row group, with only the leaf columns called so."""
    columns = None if fields is None else _leaves(file, fields)
    start = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if columns is None or columns:
            yield start, file.read_row_group(group, columns=columns).combine_chunks()
        start += rows


def _leaves(file: pq.ParquetFile, fields: set[str] | frozenset[str]) -> list[str]:
    paths = [file.schema.column(number).path for number in range(len(file.schema))]
    return [path for path in paths if path.split(".")[-1] in fields]


def _column(table: pa.Table, name: str) -> Any:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _owners(array: Any) -> Positions:
    owners: Positions = pc.list_parent_indices(array).to_numpy(zero_copy_only=False).astype(np.int64)
    return owners


def _fields(array: Any) -> set[str]:
    return {field.name for field in array.type} if pa.types.is_struct(array.type) else set()


def _preferences(table: pa.Table) -> _Entries | None:
    for name in table.column_names:
        array = _column(table, name)
        if not pa.types.is_list(array.type):
            continue
        inner, rows = array.flatten(), _owners(array)
        if "dimension" in _fields(inner):
            return _Entries(inner, rows, np.ones(len(rows), np.bool_))
        if "preferences" in _fields(inner):
            alive = np.ones(len(rows), np.bool_)
            if "rejection" in _fields(inner):
                alive = pc.is_null(pc.struct_field(inner, ["rejection", "reason"])).to_numpy(zero_copy_only=False)
            sets = inner.field("preferences")
            owners = _owners(sets)
            return _Entries(sets.flatten(), rows[owners], alive[owners])
    return None


def _reasons(table: pa.Table) -> tuple[Any, Positions] | None:
    if "reason" in table.column_names:
        return _column(table, "reason"), np.arange(table.num_rows, dtype=np.int64)
    for name in table.column_names:
        array = _column(table, name)
        if pa.types.is_list(array.type) and "rejection" in _fields(array.flatten()):
            return pc.struct_field(array.flatten(), ["rejection", "reason"]), _owners(array)
    return None


def _encode(values: Any, names: dict[str, int]) -> npt.NDArray[np.int32]:
    """Codes of strings in a dictionary that grows; -1 for null."""
    encoded = pc.dictionary_encode(values)
    translation = np.array(
        [names.setdefault(name, len(names)) for name in encoded.dictionary.to_pylist()] + [-1], np.int32
    )
    local = pc.fill_null(encoded.indices, len(translation) - 1).to_numpy(zero_copy_only=False)
    codes: npt.NDArray[np.int32] = translation[local]
    return codes


def _strings(array: Any, rows: Positions) -> Iterator[tuple[Any, Positions]]:
    """Every string leaf under an array, with the row of each value."""
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        yield array, rows
    elif pa.types.is_list(array.type):
        yield from _strings(array.flatten(), rows[_owners(array)])
    elif pa.types.is_struct(array.type):
        for number in range(array.type.num_fields):
            yield from _strings(array.field(number), rows)


def _containing(file: pq.ParquetFile, text: str, candidates: Positions | None) -> Iterator[Positions]:
    """Rows with the text, in whatever case, in one of their text fields; row groups without candidates are not read."""
    columns = _leaves(file, _TEXT_FIELDS)
    start = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        inside = None if candidates is None else candidates[(candidates >= start) & (candidates < start + count)]
        if columns and (inside is None or len(inside)):
            table = file.read_row_group(group, columns=columns).combine_chunks()
            mask = np.zeros(count, np.bool_)
            for name in table.column_names:
                for values, rows in _strings(_column(table, name), np.arange(count, dtype=np.int64)):
                    hits = pc.fill_null(pc.match_substring(values, text, ignore_case=True), False)
                    mask[rows[hits.to_numpy(zero_copy_only=False)]] = True
            found = np.flatnonzero(mask).astype(np.int64) + start
            yield found if inside is None else np.intersect1d(found, inside)
        start += count


def _read_positions(path: Path, positions: Positions) -> list[dict[str, Any]]:
    """The rows at sorted positions, from the row groups that hold them."""
    result: list[dict[str, Any]] = []
    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            inside = positions[(positions >= start) & (positions < start + count)] - start
            if len(inside):
                table = file.read_row_group(group).take(pa.array(inside))
                result += [_plain(record) for record in table.to_pylist(maps_as_pydicts="strict")]
            start += count
            if start > positions[-1]:
                break
    return result


def _plain(value: Any) -> Any:
    """A record as JSON holds it; a check's parameters, kept as JSON text in the table, come out as an object."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"kind", "parameters"} and isinstance(value["parameters"], str):
            return {"kind": value["kind"], "parameters": orjson.loads(value["parameters"])}
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _hierarchy(paths: Sequence[Path], top: int) -> dict[str, Any]:
    counts: dict[tuple[str, str, str, str], int] = {}
    reasons: dict[str, int] = {}
    for path in paths:
        with pq.ParquetFile(path) as file:
            for _, table in _groups(file, {*_PREFERENCE_FIELDS, "preference", "reason"}):
                entries = _preferences(table)
                if entries is not None:
                    _count(entries, counts)
                found = _reasons(table)
                for item in pc.value_counts(found[0]).to_pylist() if found is not None else ():
                    if item["values"] is not None:
                        reasons[item["values"]] = reasons.get(item["values"], 0) + item["counts"]
    return {
        "preferences": sum(counts.values()),
        "dimensions": _tree(counts, top),
        "reasons": dict(sorted(reasons.items(), key=_by_count)),
    }


def _count(entries: _Entries, counts: dict[tuple[str, str, str, str], int]) -> None:
    living = entries.preferences.filter(pa.array(entries.alive))
    fields = _fields(living)
    names = ("dimension", "subdimension", "pole", "preference")
    blank = pa.array([""] * len(living), pa.string())
    columns = {name: pc.fill_null(living.field(name), "") if name in fields else blank for name in names}
    grouped = pa.table(columns).group_by(list(names), use_threads=False).aggregate([([], "count_all")]).to_pydict()
    for *path, number in zip(*(grouped[name] for name in names), grouped["count_all"], strict=True):
        key = (path[0], path[1], path[2], path[3])
        counts[key] = counts.get(key, 0) + number


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return (-item[1], item[0])


def _tree(counts: dict[tuple[str, str, str, str], int], top: int) -> list[dict[str, Any]]:
    nested: dict[str, dict[str, dict[str, dict[str, int]]]] = {}
    for (dimension, subdimension, pole, preference), number in counts.items():
        leaf = nested.setdefault(dimension, {}).setdefault(subdimension, {"poles": {}, "preferences": {}})
        leaf["poles"][pole] = leaf["poles"].get(pole, 0) + number
        leaf["preferences"][preference] = leaf["preferences"].get(preference, 0) + number
    dimensions = []
    for dimension, subdimensions in nested.items():
        children: list[dict[str, Any]] = []
        for subdimension, leaf in subdimensions.items():
            ranked = sorted(leaf["preferences"].items(), key=_by_count)
            children.append(
                {
                    "name": subdimension,
                    "count": sum(leaf["poles"].values()),
                    "poles": dict(sorted(((name, n) for name, n in leaf["poles"].items() if name), key=_by_count)),
                    "preferences": [{"name": name, "count": number} for name, number in ranked[:top]],
                    "other": sum(number for _, number in ranked[top:]),
                }
            )
        children.sort(key=lambda child: _by_count((child["name"], child["count"])))
        dimensions.append(
            {"name": dimension, "count": sum(child["count"] for child in children), "subdimensions": children}
        )
    return sorted(dimensions, key=lambda item: _by_count((item["name"], item["count"])))
