"""A backup of the whole system while it works: the database as it is at one moment, then every object that it names.

Objects never change and are not removed while a backup is made, so what the snapshot names is there however long copying takes.
The two files of a job that are written again (README.md, index.json) are taken as they are. Of trainings that have not ended the
complete checkpoints come along. Not in a backup: settings and secrets, Redis (which holds nothing that is not made again), and
log-probabilities of reference models, which are computed again.
"""

import asyncio
import gzip
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec
import orjson

from shared.artifacts.layout import MUTABLE_NAMES
from shared.artifacts.protocol import ArtifactCorrupt, ArtifactStore, ObjectNotFound
from shared.metadata.repositories import whole_database
from shared.metadata.repositories.whole_database import Connection, NamedObject, TableShape
from shared.operations.backup_format import (
    MANIFEST,
    OBJECTS,
    BackupManifest,
    BackupRefused,
    Lost,
    TableFile,
    file_sha256,
    object_path,
    require_known_revision,
)

T = TypeVar("T")

AT_ONCE = 8
"""Objects that are copied side by side."""

_GZIP_LEVEL = 3
_CHECKPOINT_MANIFEST = "manifest.json"


async def back_up(database_url: str, store: ArtifactStore, folder: Path) -> BackupManifest:
    """Write a backup into a folder that is empty or not there yet.

    What the store does not have as recorded is told in `lost`: the rest of the backup is whole. Raises BackupRefused for a folder
    that holds something, for a database without tables, and for one of a newer version.
    """
    _make_room(folder)
    async with whole_database.snapshot(database_url) as connection:
        await whole_database.begin_snapshot(connection)
        revision = await whole_database.schema_revision(connection)
        if revision is None:
            raise BackupRefused(
                "the database has no tables: there is nothing to back up; check MULTIFACET_DATABASE_URL"
            )
        require_known_revision(database_url, revision)
        taken_at = await whole_database.taken_at(connection)
        shapes = await whole_database.tables(connection)
        dumps = [await _dump(connection, table, folder) for table in shapes]
        sequences = await whole_database.sequences(connection)
        named = await whole_database.named_objects(connection, shapes)
        await whole_database.end_snapshot(connection)
        # Read again only now: the server ends a transaction that says nothing for long.
        tables = [await asyncio.to_thread(_described, dump, folder) for dump in dumps]
        found = await side_by_side(named, partial(_copy, store, folder))
        checkpoints, torn = await _copy_checkpoints(store, folder)
    objects = sorted(
        [*(item for item in found if isinstance(item, NamedObject)), *checkpoints], key=lambda item: item.key
    )
    lines = b"".join(msgspec.json.encode(item) + b"\n" for item in objects)
    (folder / OBJECTS).write_bytes(lines)
    manifest = BackupManifest(
        taken_at=taken_at,
        schema_revision=revision,
        tables=tuple(tables),
        sequences=sequences,
        objects=len(objects),
        objects_sha256=sha256(lines).hexdigest(),
        bytes=sum(item.size for item in objects),
        lost=(*(item for item in found if isinstance(item, Lost)), *torn),
    )
    unfinished = folder / f".{MANIFEST}"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    unfinished.replace(folder / MANIFEST)
    return manifest


async def side_by_side(items: Sequence[NamedObject], work: Callable[[NamedObject], Awaitable[T]]) -> list[T]:
    """What `work` makes of each item, in their order; a few at once."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: NamedObject) -> T:
        async with gate:
            return await work(item)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in items]
    return [task.result() for task in tasks]


def _make_room(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BackupRefused(f"{folder} holds something already; name a folder that is empty or not there yet")
    (folder / "database").mkdir(parents=True)
    (folder / "objects").mkdir()


async def _dump(connection: Connection, table: TableShape, folder: Path) -> tuple[TableShape, int]:
    """Write a table's rows; returns how many there are."""
    rows = 0
    with gzip.open(_dump_path(folder, table), "wb", compresslevel=_GZIP_LEVEL) as sink:
        async for piece in whole_database.copy_out(connection, table):
            rows += piece.count(b"\n")  # a line break within a value is written as \n
            sink.write(piece)
    return table, rows


def _dump_path(folder: Path, table: TableShape) -> Path:
    return folder / "database" / f"{table.name}.gz"


def _described(dump: tuple[TableShape, int], folder: Path) -> TableFile:
    table, rows = dump
    return TableFile(table.name, table.columns, rows, file_sha256(_dump_path(folder, table)))


async def _copy(store: ArtifactStore, folder: Path, item: NamedObject) -> NamedObject | Lost:
    path = object_path(folder, item.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if PurePosixPath(item.key).name in MUTABLE_NAMES:
            return await _copy_as_it_is(store, item.key, path, item.media_type)
        await store.get_file(item.key, path, item.sha256)
    except (ObjectNotFound, ArtifactCorrupt) as error:
        path.unlink(missing_ok=True)
        return Lost(item.key, str(error))
    return item


async def _copy_as_it_is(store: ArtifactStore, key: str, path: Path, media_type: str) -> NamedObject:
    await store.get_file(key, path)
    digest, size = await asyncio.to_thread(_measured, path)
    return NamedObject(key, digest, size, media_type)


def _measured(path: Path) -> tuple[str, int]:
    return file_sha256(path), path.stat().st_size


async def _copy_checkpoints(store: ArtifactStore, folder: Path) -> tuple[list[NamedObject], list[Lost]]:
    """The complete checkpoints. One that is pruned meanwhile is left out: a newer one took its place; one with other bytes than
    its manifest says is told."""
    folders: defaultdict[str, list[str]] = defaultdict(list)
    async for info in store.list_objects("checkpoints/"):
        # checkpoints/<project>/<job>/<stage>/<checkpoint>/<file>
        if len(parts := info.key.split("/")) > 5:
            folders["/".join(parts[:5])].append(info.key)
    kept: list[NamedObject] = []
    lost: list[Lost] = []
    for checkpoint, keys in folders.items():
        manifest = f"{checkpoint}/{_CHECKPOINT_MANIFEST}"
        if manifest not in keys:
            continue  # its upload is under way or was cut off
        copied: list[NamedObject] = []
        try:
            # Its manifest last: whoever prunes takes it out first.
            for key in sorted(keys, key=lambda key: key == manifest):
                path = object_path(folder, key)
                path.parent.mkdir(parents=True, exist_ok=True)
                copied.append(await _copy_as_it_is(store, key, path, "application/octet-stream"))
        except ObjectNotFound:
            copied = []
        else:
            if fault := _checkpoint_fault(checkpoint, copied, object_path(folder, manifest)):
                lost.append(Lost(checkpoint, fault))
                copied = []
        if not copied:
            for key in keys:
                object_path(folder, key).unlink(missing_ok=True)
        kept += copied
    return kept, lost


def _checkpoint_fault(checkpoint: str, copied: Sequence[NamedObject], manifest: Path) -> str | None:
    """What is wrong with a copied checkpoint, by the sha256 that its own manifest gives; None for a whole one."""
    digests = {item.key: item.sha256 for item in copied}
    try:
        files = {
            f"{checkpoint}/{file['name']}": file["sha256"] for file in orjson.loads(manifest.read_bytes())["files"]
        }
    except (ValueError, KeyError, TypeError) as error:
        return f"its manifest cannot be read ({type(error).__name__})"
    wrong = sorted(key for key, digest in files.items() if digests.get(key) != digest)
    return f"{', '.join(wrong)}: missing, or not as its manifest says" if wrong else None
