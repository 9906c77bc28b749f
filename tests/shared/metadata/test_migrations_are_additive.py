"""A schema serves the code of the version before, too: that is what a rolling upgrade and a way back stand on."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from psycopg import sql

from services.cli.embedded.postgres import EmbeddedPostgres
from shared.metadata.engine import connection_string, create_tables, migration_config

REVISIONS = [
    script.revision
    for script in reversed(list(ScriptDirectory.from_config(migration_config("postgresql://")).walk_revisions()))
]

Column = tuple[str, str]
_VALUES = {
    "text": "x", "varchar": "x", "int4": 1, "int8": 1, "float8": 1.0, "bool": False, "jsonb": "{}", "_text": [], "_int4": [],
    "bytea": b"x", "timestamptz": "2026-01-01T00:00:00Z", "date": "2026-01-01",
}  # fmt: skip


@pytest.fixture
def url(postgres_server: EmbeddedPostgres) -> str:
    name = f"additive_{uuid4().hex[:12]}"
    postgres_server.create_database(name)
    return postgres_server.url(name)


def columns(url: str) -> dict[Column, tuple[str, bool, bool]]:
    """(table, column) -> its type, whether it may be null, whether it has a default."""
    with psycopg.connect(connection_string(url)) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name, udt_name, is_nullable = 'YES', column_default IS NOT NULL OR is_identity = 'YES' "
            "FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name) "
            "WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name <> 'alembic_version'"
        ).fetchall()
    return {(table, column): (kind, nullable, default) for table, column, kind, nullable, default in rows}


def _insert(url: str, table: str, found: dict[Column, tuple[str, bool, bool]]) -> None:
    """What the least that code of that schema writes looks like: every column that it must give a value to."""
    needed = {
        column: _VALUES[kind]
        for (name, column), (kind, nullable, default) in found.items()
        if name == table and not nullable and not default
    }
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, needed)),
        sql.SQL(", ").join(sql.Placeholder() for _ in needed),
    )
    with psycopg.connect(connection_string(url)) as connection:
        connection.execute("SET session_replication_role = replica")  # rows here refer to nothing
        connection.execute(statement, list(needed.values()))


def _steps() -> Iterator[Any]:
    for earlier, later in pairwise(REVISIONS):
        yield pytest.param(earlier, later, id=f"{earlier}-to-{later}")


@pytest.mark.parametrize(("earlier", "later"), list(_steps()))
def test_what_the_version_before_reads_and_writes_still_works(url: str, earlier: str, later: str) -> None:
    command.upgrade(migration_config(url), earlier)
    before = columns(url)
    tables = sorted({table for table, _ in before})
    command.upgrade(migration_config(url), later)
    after = columns(url)

    assert {place: kind for place, (kind, _, _) in before.items()} == {
        place: kind for place, (kind, _, _) in after.items() if place in before
    }
    for table in tables:
        _insert(url, table, before)


def test_rows_outlive_every_migration(url: str) -> None:
    command.upgrade(migration_config(url), REVISIONS[0])
    before = columns(url)
    tables = sorted({table for table, _ in before})
    for table in tables:
        _insert(url, table, before)
    create_tables(url)
    with psycopg.connect(connection_string(url)) as connection:
        counts = {table: connection.execute(f'SELECT count(*) FROM "{table}"'.encode()).fetchone() for table in tables}
    assert counts == dict.fromkeys(tables, (1,))
