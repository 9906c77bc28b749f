"""One Parquet file as the explorer reads it: rows at positions, an index of preferences, text search, counts.

Everything here is synchronous and runs on threads. The metadata of a file (a big one has tens of thousands of column
chunks) is parsed once and handed in again by `OpenTable`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.domain.errors import InputRefused

Positions = npt.NDArray[np.int64]

_TEXT_FIELDS = frozenset(
    {"instruction", "prompt", "input", "system", "output", "response", "text", "content", "description", "preference"}
    | {"chosen", "rejected", "detail"}
)
_LEVELS = ("dimension", "subdimension", "preference")
BATCH_ROWS = 20_000
"""Rows whose short columns are read at once for an index or for counts."""

PREFERENCE_FIELDS = ("dimension", "subdimension", "pole")


class TableShape(msgspec.Struct, frozen=True):
    """What is known of a file once its footer was read."""

    metadata: pq.FileMetaData
    starts: Positions
    """First row of every row group, and the number of rows at the end."""

    @classmethod
    def of(cls, path: Path) -> "TableShape":
        metadata = pq.read_metadata(path)
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return cls(metadata, np.cumsum([0, *counts], dtype=np.int64))

    @property
    def groups(self) -> int:
        return len(self.starts) - 1

    @property
    def bytes(self) -> int:
        """As the file holds it; in memory it is a small multiple."""
        return int(self.metadata.serialized_size)


class OpenTable:
    """A file while it is being read."""

    def __init__(self, file: pq.ParquetFile, shape: TableShape) -> None:
        self._file = file
        self.shape = shape

    def leaves(self, fields: set[str] | frozenset[str]) -> list[str]:
        """Paths of the leaf columns that are called so."""
        schema = self._file.schema
        paths = [schema.column(number).path for number in range(len(schema))]
        return [path for path in paths if path.split(".")[-1] in fields]

    def group(self, number: int, columns: list[str] | None = None) -> pa.Table:
        """A row group as one chunk per column."""
        return self._file.read_row_group(number, columns=columns, use_threads=False).combine_chunks()

    def projected(self, fields: set[str] | frozenset[str]) -> Iterator[tuple[int, pa.Table]]:
        """(first row, table) of row groups, some BATCH_ROWS rows at a time, with only the leaf columns called so."""
        columns = self.leaves(fields)
        first = 0
        while columns and first < self.shape.groups:
            start = int(self.shape.starts[first])
            last = int(np.searchsorted(self.shape.starts, start + BATCH_ROWS, side="right")) - 1
            last = min(max(last, first + 1), self.shape.groups)
            table = self._file.read_row_groups(list(range(first, last)), columns=columns, use_threads=False)
            yield start, table.combine_chunks()
            first = last


@contextmanager
def open_table(path: Path, shape: TableShape) -> Iterator[OpenTable]:
    with pq.ParquetFile(path, metadata=shape.metadata) as file:
        yield OpenTable(file, shape)


def rows_at(path: Path, shape: TableShape, positions: Positions) -> list[dict[str, Any]]:
    """The rows at sorted positions, from the row groups that hold them."""
    owners = np.searchsorted(shape.starts, positions, side="right") - 1
    result: list[dict[str, Any]] = []
    with open_table(path, shape) as table:
        for owner in np.unique(owners):
            inside = positions[owners == owner] - shape.starts[owner]
            records = table.group(int(owner)).take(pa.array(inside)).to_pylist(maps_as_pydicts="strict")
            result += [_plain(record) for record in records]
    return result


def containing(table: OpenTable, text: str, candidates: Positions | None, first_group: int = 0) -> Iterator[Positions]:
    """Rows with the text, in whatever case, in one of their text fields: one array per row group from `first_group` on.
    Row groups without candidates are not read."""
    columns = table.leaves(_TEXT_FIELDS)
    for group in range(first_group, table.shape.groups):
        start, end = int(table.shape.starts[group]), int(table.shape.starts[group + 1])
        inside = None if candidates is None else candidates[(candidates >= start) & (candidates < end)]
        if not columns or (inside is not None and not len(inside)):
            yield np.empty(0, np.int64)
            continue
        data = table.group(group, columns)
        mask = np.zeros(end - start, np.bool_)
        for name in data.column_names:
            for values, rows in _strings(_column(data, name), np.arange(end - start, dtype=np.int64)):
                hits = pc.fill_null(pc.match_substring(values, text, ignore_case=True), False)
                mask[rows[hits.to_numpy(zero_copy_only=False)]] = True
        found = np.flatnonzero(mask).astype(np.int64) + start
        yield found if inside is None else np.intersect1d(found, inside)


class _Entries(msgspec.Struct, frozen=True):
    """Preferences of a table, flattened: columns by name, each entry's row, and whether its facet lives."""

    columns: dict[str, Any]
    rows: Positions
    alive: npt.NDArray[np.bool_]

    def column(self, name: str) -> Any:
        found = self.columns.get(name)
        return pa.nulls(len(self.rows), pa.string()) if found is None else found


class PreferenceIndex:
    """Codes of a file's preferences and reasons, small enough to keep: 10 bytes a preference."""

    def __init__(self) -> None:
        self.names: dict[str, dict[str, int]] = {name: {} for name in PREFERENCE_FIELDS}
        self.codes: dict[str, npt.NDArray[np.int32]] = {}
        self.rows: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self.reasons: dict[str, Positions] = {}
        self.has_preferences = False

    @classmethod
    def build(cls, file: OpenTable) -> "PreferenceIndex":
        """Read only the columns that filters ask for, one row group at a time."""
        index = cls()
        index.has_preferences = bool(file.leaves({"dimension"}))
        codes: dict[str, list[npt.NDArray[np.int32]]] = {name: [] for name in PREFERENCE_FIELDS}
        rows: list[Positions] = []
        reasons: dict[str, list[Positions]] = {}
        for start, table in file.projected({*PREFERENCE_FIELDS, "reason"}):
            entries = _preferences(table)
            if entries is not None:
                rows.append(entries.rows + start)
                for name in PREFERENCE_FIELDS:
                    codes[name].append(_encode(entries.column(name), index.names[name]))
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

    @property
    def bytes(self) -> int:
        arrays: list[npt.NDArray[Any]] = [self.rows, *self.codes.values(), *self.reasons.values()]
        return sum(array.nbytes for array in arrays) + 1024

    def matches(self, asked: Mapping[str, str], reason: str | None) -> Positions:
        """Rows that pass, sorted: `asked` holds dimension, subdimension and pole as wanted.

        Raises InputRefused where the file has no preferences.
        """
        result: Positions | None = None
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
        if reason is not None:
            found = self.reasons.get(reason, np.empty(0, np.int64))
            result = found if result is None else np.intersect1d(result, found)
        return result if result is not None else np.empty(0, np.int64)


def _column(table: pa.Table, name: str) -> Any:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _owners(array: Any) -> Positions:
    owners: Positions = pc.list_parent_indices(array).to_numpy(zero_copy_only=False).astype(np.int64)
    return owners


def _fields(array: Any) -> set[str]:
    return {field.name for field in array.type} if pa.types.is_struct(array.type) else set()


def _preferences(table: pa.Table) -> _Entries | None:
    """The preferences of a table in one of its two layouts: facets with `preferences`, or lists of entries with a
    `dimension`. Several such lists of equal lengths describe the same entries (`preference_set` and
    `preference_details`): their columns are put together."""
    columns: dict[str, Any] = {}
    rows: Positions | None = None
    for name in table.column_names:
        array = _column(table, name)
        if not pa.types.is_list(array.type):
            continue
        inner, owners = array.flatten(), _owners(array)
        if "preferences" in _fields(inner):
            alive = np.ones(len(owners), np.bool_)
            if "rejection" in _fields(inner):
                alive = pc.is_null(pc.struct_field(inner, ["rejection", "reason"])).to_numpy(zero_copy_only=False)
            sets = inner.field("preferences")
            facets = _owners(sets)
            return _Entries(_columns(sets.flatten()), owners[facets], alive[facets])
        if "dimension" in _fields(inner) and (rows is None or np.array_equal(rows, owners)):
            rows = owners
            columns = {**_columns(inner), **columns}
    return None if rows is None else _Entries(columns, rows, np.ones(len(rows), np.bool_))


def _columns(entries: Any) -> dict[str, Any]:
    return {name: entries.field(name) for name in _fields(entries)}


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


def hierarchy(files: Sequence[tuple[Path, TableShape]], top: int) -> dict[str, Any]:
    """Counts of living preferences as a tree, and of rejections by reason; see `DatasetReader.hierarchy`."""
    counted: list[pa.Table] = []
    reasons: dict[str, int] = {}
    for path, shape in files:
        with open_table(path, shape) as file:
            for _, table in file.projected({*PREFERENCE_FIELDS, "preference", "reason"}):
                entries = _preferences(table)
                if entries is not None:
                    counted.append(_counts(entries))
                found = _reasons(table)
                for item in pc.value_counts(found[0]).to_pylist() if found is not None else ():
                    if item["values"] is not None:
                        reasons[item["values"]] = reasons.get(item["values"], 0) + item["counts"]
    total = _sum(pa.concat_tables(counted), [*_LEVELS, "pole"]) if counted else None
    return {
        "preferences": 0 if total is None else pc.sum(total["count"]).as_py() or 0,
        "dimensions": [] if total is None else _tree(total, top),
        "reasons": dict(sorted(reasons.items(), key=_by_count)),
    }


def _counts(entries: _Entries) -> pa.Table:
    alive = pa.array(entries.alive)
    names = [*_LEVELS, "pole"]
    columns = {name: pc.fill_null(entries.column(name), "").filter(alive) for name in names}
    ones = pa.array(np.ones(int(entries.alive.sum()), np.int64))
    return _sum(pa.table({**columns, "count": ones}), names)


def _sum(table: pa.Table, names: list[str]) -> pa.Table:
    """Counts summed over rows that are equal in `names`."""
    summed = table.group_by(names, use_threads=False).aggregate([("count", "sum")])
    return summed.select([*names, "count_sum"]).rename_columns([*names, "count"])


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return (-item[1], item[0])


def _tree(total: pa.Table, top: int) -> list[dict[str, Any]]:
    dimensions: dict[str, dict[str, dict[str, Any]]] = {}
    poles = _sum(total, ["dimension", "subdimension", "pole"])
    for dimension, subdimension, pole, count in _tuples(poles, "pole"):
        leaf = dimensions.setdefault(dimension, {}).setdefault(
            subdimension, {"name": subdimension, "count": 0, "poles": {}, "preferences": [], "other": 0}
        )
        leaf["count"] += count
        if pole:
            leaf["poles"][pole] = count
    for dimension, subdimension, preference, count in _tuples(_sum(total, list(_LEVELS)), "preference"):
        leaf = dimensions[dimension][subdimension]
        if len(leaf["preferences"]) < top:
            leaf["preferences"].append({"name": preference, "count": count})
        else:
            leaf["other"] += count
    result = []
    for dimension, leaves in dimensions.items():
        children = sorted(leaves.values(), key=lambda leaf: (-leaf["count"], leaf["name"]))
        count = sum(leaf["count"] for leaf in children)
        result.append({"name": dimension, "count": count, "subdimensions": children})
    return sorted(result, key=lambda item: (-item["count"], item["name"]))


def _tuples(table: pa.Table, leaf: str) -> Iterator[tuple[str, str, str, int]]:
    """(dimension, subdimension, leaf, count), the most frequent first, ties by name."""
    ordered = table.sort_by([("count", "descending"), (leaf, "ascending")])
    columns = [ordered[name].to_pylist() for name in ("dimension", "subdimension", leaf, "count")]
    yield from zip(*columns, strict=True)
