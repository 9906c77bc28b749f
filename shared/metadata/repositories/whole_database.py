"""The whole database as text, table by table, and back: what a backup holds.

PostgreSQL's own COPY is read through an ordinary connection, in the text format that every version reads. No program of the
server is needed, so that a backup can be made from any of the system's containers.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from graphlib import TopologicalSorter

import msgspec
import psycopg
from psycopg import sql
from sqlmodel import SQLModel

import shared.metadata.tables  # noqa: F401  (fills SQLModel.metadata)
from shared.metadata.engine import connect
from shared.metadata.repositories.retention import NO_REMOVAL_LOCK

FILLED_BY_ITSELF = frozenset(
    {"project", "api_key", "key_usage", "worker", "worker_group", "model_server", "gpu_slot", "outbox"}
)
"""Tables that a system that nobody has used yet may have rows in."""

OF_PROCESSES = frozenset({"worker", "worker_group"})
"""Tables that say which processes there are: those of the system that was backed up say nothing of the one that is restored."""

_PATIENCE_SECONDS = 3600.0
"""One statement may copy, check or count a whole table."""

Connection = psycopg.AsyncConnection


class TableShape(msgspec.Struct, frozen=True):
    name: str
    columns: tuple[str, ...]
    """Those that are stored: no generated ones."""


class NamedObject(msgspec.Struct, frozen=True):
    """An object of the store that a record names."""

    key: str
    sha256: str
    size: int
    media_type: str


class OtherProcess(msgspec.Struct, frozen=True):
    application: str
    connections: int


@asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[Connection]:
    """A connection on which nothing named is removed from the store while the block runs. `begin_snapshot` opens the view."""
    async with await connect(url, "multifacet-backup", _PATIENCE_SECONDS) as connection:
        await connection.execute(f"SELECT pg_advisory_lock_shared({NO_REMOVAL_LOCK})")
        yield connection


@asynccontextmanager
async def restoring(url: str) -> AsyncIterator[Connection]:
    """A connection for loading a backup."""
    async with await connect(url, "multifacet-restore", _PATIENCE_SECONDS) as connection:
        yield connection


async def begin_snapshot(connection: Connection) -> None:
    """From now on the connection sees the database as it is now, until `end_snapshot`."""
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


async def end_snapshot(connection: Connection) -> None:
    await connection.execute("COMMIT")


async def taken_at(connection: Connection) -> str:
    """The database's time in UTC, ISO 8601."""
    return str(await _value(connection, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"))


async def schema_revision(connection: Connection) -> str | None:
    """The Alembic revision; None of a database without our tables."""
    if await _value(connection, "SELECT to_regclass('alembic_version')") is None:
        return None
    found = await _value(connection, "SELECT version_num FROM alembic_version")
    return None if found is None else str(found)


async def tables(connection: Connection) -> list[TableShape]:
    """Our tables that are there, those that others refer to first."""
    shapes = await connection.execute(
        """
        SELECT class.relname, array_agg(attribute.attname::text ORDER BY attribute.attnum)
        FROM pg_class AS class JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid
        WHERE class.relkind = 'r' AND class.relnamespace = current_schema()::regnamespace AND class.relname <> 'alembic_version'
          AND attribute.attnum > 0 AND NOT attribute.attisdropped AND attribute.attgenerated = ''
        GROUP BY class.relname
        """
    )
    found = {
        name: TableShape(name, tuple(columns))
        for name, columns in await shapes.fetchall()
        if name in SQLModel.metadata.tables
    }
    references = await connection.execute(
        """
        SELECT child.relname, parent.relname FROM pg_constraint AS reference
        JOIN pg_class AS child ON child.oid = reference.conrelid JOIN pg_class AS parent ON parent.oid = reference.confrelid
        WHERE reference.contype = 'f' AND child.relnamespace = current_schema()::regnamespace
        """
    )
    order: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(sorted(found), ()))
    for child, parent in await references.fetchall():
        if child != parent and child in found and parent in found:
            order.add(child, parent)
    return [found[name] for name in order.static_order()]


async def copy_out(connection: Connection, table: TableShape) -> AsyncIterator[bytes]:
    """A table's rows in COPY's text format, in pieces."""
    statement = sql.SQL("COPY {} ({}) TO STDOUT").format(sql.Identifier(table.name), _columns(table))
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        async for piece in copy:
            yield bytes(piece)


async def copy_in(connection: Connection, table: TableShape, pieces: Iterable[bytes]) -> int:
    """Store rows that `copy_out` gave; returns how many."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), _columns(table))
    async with connection.cursor() as cursor:
        async with cursor.copy(statement) as copy:
            for piece in pieces:
                await copy.write(piece)
        return cursor.rowcount


async def count(connection: Connection, table: TableShape) -> int:
    statement = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.name))
    found = await (await connection.execute(statement)).fetchone()
    return int(found[0]) if found else 0


async def sequences(connection: Connection) -> dict[str, int]:
    """The last number that each sequence gave, by its name; 0 where it gave none."""
    rows = await connection.execute(
        "SELECT sequencename, coalesce(last_value, 0) FROM pg_sequences WHERE schemaname = current_schema() ORDER BY 1"
    )
    return {name: int(last) for name, last in await rows.fetchall()}


async def set_sequences(connection: Connection, values: Mapping[str, int]) -> None:
    """Let sequences go on after these numbers."""
    for name, last in values.items():
        await connection.execute("SELECT setval(%s::regclass, %s, %s)", (f'"{name}"', max(last, 1), last > 0))


async def named_objects(connection: Connection, shapes: Iterable[TableShape]) -> list[NamedObject]:
    """Every object that an artifact or an upload says is in the store, by key. `shapes`: the tables of this database, which may
    be of an earlier version."""
    marks_removed = any(table.name == "artifact" and "removed_at" in table.columns for table in shapes)
    rows = await connection.execute(
        sql.SQL(
            """
            SELECT key, sha256, size, media_type FROM artifact {}
            UNION ALL SELECT key, sha256, size, 'application/octet-stream' FROM uploaded_file ORDER BY 1
            """
        ).format(sql.SQL("WHERE removed_at IS NULL" if marks_removed else ""))
    )
    return [NamedObject(*row) for row in await rows.fetchall()]


async def filled_tables(connection: Connection) -> list[str]:
    """Tables with rows that only a system that was used has."""
    return [
        table.name
        for table in await tables(connection)
        if table.name not in FILLED_BY_ITSELF and await count(connection, table)
    ]


async def other_processes(connection: Connection) -> list[OtherProcess]:
    """Our processes that are connected to this database."""
    rows = await connection.execute(
        """
        SELECT application_name, count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'multifacet%'
        GROUP BY 1 ORDER BY 1
        """
    )
    return [OtherProcess(*row) for row in await rows.fetchall()]


async def empty(connection: Connection, shapes: Sequence[TableShape]) -> None:
    names = sql.SQL(", ").join(sql.Identifier(table.name) for table in shapes)
    await connection.execute(sql.SQL("TRUNCATE {}").format(names))


async def correct_artifacts(connection: Connection, objects: Iterable[NamedObject]) -> None:
    """Let records say what the bytes are: of objects that may be written again, the bytes may be newer than the snapshot."""
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "UPDATE artifact SET sha256 = %s, size = %s WHERE key = %s AND sha256 <> %s",
            [(item.sha256, item.size, item.key, item.sha256) for item in objects],
        )


async def analyze(connection: Connection) -> None:
    """Let the planner know what was loaded."""
    await connection.execute("ANALYZE")


def _columns(table: TableShape) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) for name in table.columns)


async def _value(connection: Connection, statement: str) -> object:
    row = await (await connection.execute(statement)).fetchone()
    return None if row is None else row[0]
