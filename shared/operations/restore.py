"""Putting a backup into an empty system. Bytes first, records in one transaction at the end: a restore that is cut off has
changed nothing that anybody sees, and can be run again."""

import asyncio
import gzip
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from alembic import command

from shared.artifacts.layout import MUTABLE_NAMES
from shared.artifacts.protocol import ArtifactStore
from shared.metadata.engine import migration_config
from shared.metadata.repositories import whole_database
from shared.metadata.repositories.whole_database import Connection, NamedObject, TableShape
from shared.operations.backup import side_by_side
from shared.operations.backup_format import (
    BackupManifest,
    BackupRefused,
    TableFile,
    object_path,
    require_known_revision,
    verify,
)

_PIECE_BYTES = 1 << 20
_STORE_FOLDERS = ("artifacts/", "uploads/", "checkpoints/")


async def restore(database_url: str, store: ArtifactStore, folder: Path) -> BackupManifest:
    """Verify a backup, then load it into an empty database and store, and bring the schema to this version.

    Raises BackupRefused for a backup that is damaged or newer than this version, for a system that is not empty, and while
    processes of ours are connected to the database.
    """
    manifest, objects = await asyncio.to_thread(verify, folder)
    require_known_revision(database_url, manifest.schema_revision)
    async with whole_database.restoring(database_url) as connection:
        await _require_empty(connection)
        await _require_empty_store(store, objects)
    await side_by_side(objects, partial(_put, store, folder))
    await asyncio.to_thread(_make_schema, database_url, manifest.schema_revision)
    async with whole_database.restoring(database_url) as connection:
        await _load(connection, folder, manifest, objects)
    await asyncio.to_thread(command.upgrade, migration_config(database_url), "head")
    async with whole_database.restoring(database_url) as connection:
        await whole_database.analyze(connection)
    return manifest


async def _require_empty(connection: Connection) -> None:
    others = await whole_database.other_processes(connection)
    if others:
        seen = ", ".join(f"{other.application} ({other.connections})" for other in others)
        raise BackupRefused(f"processes are connected to the database: {seen}; stop api, controller and workers first")
    if await whole_database.schema_revision(connection) is None:
        return
    filled = await whole_database.filled_tables(connection)
    if filled:
        raise BackupRefused(
            f"the database is not empty: there are rows in {', '.join(filled)}; restore into a new database, or drop this "
            "one first"
        )


async def _require_empty_store(store: ArtifactStore, objects: list[NamedObject]) -> None:
    """What a restore that was cut off left is no hindrance: the same keys are written again."""
    expected = {item.key for item in objects}
    for prefix in _STORE_FOLDERS:
        async for info in store.list_objects(prefix):
            if info.key not in expected:
                raise BackupRefused(
                    f"the store is not empty: it holds {info.key}, which the backup does not; restore into a new bucket "
                    "or folder"
                )


async def _put(store: ArtifactStore, folder: Path, item: NamedObject) -> None:
    stored = await store.put_file(item.key, object_path(folder, item.key), item.media_type)
    if stored.sha256 != item.sha256:
        raise BackupRefused(
            f"objects/{item.key} was changed while it was restored; restore again from an unchanged backup"
        )


def _make_schema(database_url: str, revision: str) -> None:
    """An empty schema of the backup's revision."""
    config = migration_config(database_url)
    current = asyncio.run(_current(database_url))
    if current is not None and current != revision:
        command.downgrade(config, "base")
    command.upgrade(config, revision)


async def _current(database_url: str) -> str | None:
    async with whole_database.restoring(database_url) as connection:
        return await whole_database.schema_revision(connection)


async def _load(connection: Connection, folder: Path, manifest: BackupManifest, objects: list[NamedObject]) -> None:
    by_name = {table.name: table for table in manifest.tables}
    async with connection.transaction():
        shapes = await whole_database.tables(connection)
        missing = sorted(set(by_name) - {shape.name for shape in shapes})
        if missing:
            raise BackupRefused(
                f"the backup holds {', '.join(missing)}, which schema {manifest.schema_revision!r} does not have; nothing was "
                "restored"
            )
        await whole_database.empty(connection, shapes)
        for shape in shapes:
            if shape.name in by_name and shape.name not in whole_database.OF_PROCESSES:
                await _load_table(connection, folder, by_name[shape.name])
        await whole_database.set_sequences(connection, manifest.sequences)
        rewritten = [item for item in objects if PurePosixPath(item.key).name in MUTABLE_NAMES]
        await whole_database.correct_artifacts(connection, rewritten)


async def _load_table(connection: Connection, folder: Path, table: TableFile) -> None:
    loaded = await whole_database.copy_in(
        connection, TableShape(table.name, table.columns), _pieces(folder / table.file)
    )
    if loaded != table.rows:
        raise BackupRefused(f"{table.file} gave {loaded} rows instead of {table.rows}; nothing was restored")


def _pieces(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as source:
        while piece := source.read(_PIECE_BYTES):
            yield piece
