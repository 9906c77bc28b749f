"""Migrations: they make exactly the tables of the models, and may run again and side by side."""

import asyncio
import sys
from urllib.parse import quote
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from psycopg.conninfo import conninfo_to_dict
from sqlmodel import SQLModel

from services.cli.embedded.postgres import EmbeddedPostgres
from shared.metadata.engine import connect, connection_string, create_engine, create_tables


@pytest.fixture
def empty_url(postgres_server: EmbeddedPostgres) -> str:
    name = f"empty_{uuid4().hex[:12]}"
    postgres_server.create_database(name)
    return postgres_server.url(name)


async def test_migrations_make_the_tables_of_the_models_even_when_several_processes_migrate(empty_url: str) -> None:
    program = "import sys; from shared.metadata.engine import create_tables; create_tables(sys.argv[1])"
    others = [await asyncio.create_subprocess_exec(sys.executable, "-c", program, empty_url) for _ in range(2)]
    assert [await other.wait() for other in others] == [0, 0]
    create_tables(empty_url)

    engine = sa.create_engine(empty_url)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), SQLModel.metadata)
        tables = set(sa.inspect(connection).get_table_names())
    engine.dispose()
    assert differences == []
    assert {"job", "stage", "step", "attempt", "outbox", "event", "artifact", "worker"} <= tables


async def test_a_database_that_a_newer_version_migrated_is_left_as_it_is(empty_url: str) -> None:
    assert create_tables(empty_url) is None
    async with await connect(empty_url) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = '9999'")
        assert create_tables(empty_url) == "9999"
        found = await (await connection.execute("SELECT version_num FROM alembic_version")).fetchone()
    assert found == ("9999",)


async def test_errors_of_queries_do_not_quote_their_parameters(empty_url: str) -> None:
    engine = create_engine(empty_url)
    with pytest.raises(sa.exc.ProgrammingError) as raised:
        async with engine.connect() as connection:
            await connection.execute(sa.text("SELECT :text FROM nowhere"), {"text": "a prompt"})
    await engine.dispose()
    assert "a prompt" not in str(raised.value)


async def test_a_dedicated_connection_commits_by_itself(empty_url: str) -> None:
    async with await connect(empty_url) as connection:
        assert connection.autocommit


@pytest.mark.parametrize("password", ["plain", "a b", "50%@home/:", "it's \\ back"])
def test_a_password_of_any_characters_reaches_both_kinds_of_connections(password: str) -> None:
    url = f"postgresql+psycopg://me:{quote(password, safe='')}@db:5433/multifacet?sslmode=require"
    plain = conninfo_to_dict(connection_string(url))
    assert plain == {
        "host": "db",
        "port": "5433",
        "user": "me",
        "password": password,
        "dbname": "multifacet",
        "sslmode": "require",
    }
    assert create_engine(url).url.password == password


def test_a_folder_of_a_socket_stays_whole() -> None:
    found = conninfo_to_dict(connection_string("postgresql+psycopg://postgres@/multifacet?host=/var/lib/a folder"))
    assert (found["host"], found["user"]) == ("/var/lib/a folder", "postgres")
