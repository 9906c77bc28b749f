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
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec
import numpy as np

from services.api.local_objects import LocalObjects, ObjectReference
from services.api.row_scans import Scan
from services.api.row_tables import (
    PREFERENCE_FIELDS,
    Positions,
    PreferenceIndex,
    TableShape,
    containing,
    hierarchy,
    open_table,
    rows_at,
)
from shared.metadata.tables import Artifact

T = TypeVar("T")

SCANNERS = 2
WAIT_SECONDS = 5.0
_SHAPES_BYTES = 64 << 20
_INDEXES_BYTES = 128 << 20
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
        self._scanners = ThreadPoolExecutor(SCANNERS, thread_name_prefix="dataset-scan")
        self._scans_under_way = 0
        # A filter goes through all files of a data set in order: a cache that holds fewer of them holds none when it is needed.
        self._shapes = Recent[TableShape](_SHAPES_BYTES, lambda shape: shape.bytes)
        self._indexes = Recent[PreferenceIndex](_INDEXES_BYTES, lambda index: index.bytes)
        self._scans = Recent[Scan](256)
        self._counts = Recent[dict[str, Any]](256)

    def close(self) -> None:
        for scan in self._scans.values():
            scan.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._scanners.shutdown(wait=False, cancel_futures=True)

    async def page(
        self, data: DataSet, wanted: RowFilter, offset: int, limit: int, wait_seconds: float = WAIT_SECONDS
    ) -> Page:
        """Rows `offset` to `offset + limit` of those that pass the filter, in the data set's order.

        A search that has not filled the page after `wait_seconds` gives what it found; it goes on meanwhile, and the same
        call again gives more. Raises InputRefused for a filter on something that this data set does not hold.
        """
        if wanted.empty:
            positions = np.arange(min(offset, data.rows), min(offset + limit, data.rows), dtype=np.int64)
            return Page(await self._rows(data, positions), data.rows, True)
        matches, matched, exact = await self._scan(data, wanted).wait_for(offset + limit, wait_seconds)
        rows = await self._rows(data, matches[offset : offset + limit])
        return Page(rows, matched, exact)

    async def hierarchy(self, data: DataSet, top: int) -> dict[str, Any]:
        """Counts of living preferences by dimension, subdimension and keywords, and of rejections by reason.

        Returns {rows, preferences, dimensions: [{name, count, subdimensions: [{name, count, poles: {name: count},
        preferences: [{name, count}], other}]}], reasons: {reason: count}}, each list sorted by count; `other` sums what is
        not among the `top` keywords.
        """
        known = self.known_hierarchy(data, top)
        if known is not None:
            return known
        async with self._objects.all_local([file.reference for file in data.files]) as paths:
            counts = await self._on_thread(lambda: hierarchy(self._shaped(data, paths), top))
        self._counts.put(_hierarchy_key(data, top), counts)
        return {"rows": data.rows, **counts}

    def known_hierarchy(self, data: DataSet, top: int) -> dict[str, Any] | None:
        """What `hierarchy` gives, if it was counted lately; else None. Counting a large data set takes seconds."""
        counts = self._counts.get(_hierarchy_key(data, top))
        return None if counts is None else {"rows": data.rows, **counts}

    async def _rows(self, data: DataSet, positions: Positions) -> list[tuple[int, dict[str, Any]]]:
        starts = np.cumsum([0] + [file.rows for file in data.files])
        owners = np.searchsorted(starts, positions, side="right") - 1
        result: list[tuple[int, dict[str, Any]]] = []
        for owner in np.unique(owners):
            inside = positions[owners == owner] - starts[owner]
            reference = data.files[owner].reference
            async with self._objects.local(reference) as path:
                records = await self._on_thread(partial(self._read, path, reference.sha256, inside))
            result += zip((inside + starts[owner]).tolist(), records, strict=True)
        return result

    def _read(self, path: Path, sha256: str, positions: Positions) -> list[dict[str, Any]]:
        return rows_at(path, self._shape(path, sha256), positions)

    def _scan(self, data: DataSet, wanted: RowFilter) -> Scan:
        key = (wanted, *(file.reference.sha256 for file in data.files))
        scan = self._scans.get(key)
        if scan is None or scan.failed:
            scan = Scan(asyncio.get_running_loop())
            self._scans.put(key, scan)
        if not scan.done and not scan.running:
            scan.task = asyncio.create_task(self._run(scan, data, wanted))
        return scan

    async def _run(self, scan: Scan, data: DataSet, wanted: RowFilter) -> None:
        self._scans_under_way += 1
        try:
            async with self._objects.all_local([file.reference for file in data.files]) as paths:
                source = partial(self._matches, data, paths, wanted)
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._scanners, scan.run, source, self._crowded)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            scan.fail(error)
        finally:
            self._scans_under_way -= 1

    def _crowded(self) -> bool:
        return self._scans_under_way > SCANNERS

    def _matches(self, data: DataSet, paths: Sequence[Path], wanted: RowFilter, passed: int) -> Iterator[Positions]:
        start = 0
        asked = {name: value for name in PREFERENCE_FIELDS if (value := getattr(wanted, name)) is not None}
        for file, path in zip(data.files, paths, strict=True):
            sha256 = file.reference.sha256
            units = 1 if wanted.contains is None else self._shape(path, sha256).groups
            if passed >= units:
                passed -= units
            else:
                candidates: Positions | None = None
                if asked or wanted.reason is not None:
                    candidates = self._index(path, sha256).matches(asked, wanted.reason)
                if wanted.contains is not None:
                    with open_table(path, self._shape(path, sha256)) as table:
                        for found in containing(table, wanted.contains, candidates, passed):
                            yield found + start
                elif candidates is not None:
                    yield candidates + start
                passed = 0
            start += file.rows

    def _index(self, path: Path, sha256: str) -> PreferenceIndex:
        index = self._indexes.get((sha256,))
        if index is None:
            with open_table(path, self._shape(path, sha256)) as table:
                index = PreferenceIndex.build(table)
            self._indexes.put((sha256,), index)
        return index

    def _shape(self, path: Path, sha256: str) -> TableShape:
        shape = self._shapes.get((sha256,))
        if shape is None:
            shape = TableShape.of(path)
            self._shapes.put((sha256,), shape)
        return shape

    def _shaped(self, data: DataSet, paths: Sequence[Path]) -> list[tuple[Path, TableShape]]:
        return [(path, self._shape(path, file.reference.sha256)) for file, path in zip(data.files, paths, strict=True)]

    async def _on_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)


class Recent(OrderedDict[tuple[Any, ...], T]):
    """The entries used last, together at most `size` of what `weigh` gives (1 each unless told). Threads may share one."""

    def __init__(self, size: int, weigh: Callable[[T], int] = lambda _: 1) -> None:
        super().__init__()
        self._size = size
        self._weigh = weigh
        self._weight = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[Any, ...]) -> T | None:  # type: ignore[override]
        with self._lock:
            if key not in self:
                return None
            self.move_to_end(key)
            return self[key]

    def put(self, key: tuple[Any, ...], value: T) -> None:
        with self._lock:
            if key in self:
                self._weight -= self._weigh(self.pop(key))
            self[key] = value
            self._weight += self._weigh(value)
            while self._weight > self._size and len(self) > 1:
                self._weight -= self._weigh(self.popitem(last=False)[1])


def _hierarchy_key(data: DataSet, top: int) -> tuple[object, ...]:
    return ("hierarchy", top, *(file.reference.sha256 for file in data.files))
