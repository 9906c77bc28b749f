"""Connections to PostgreSQL: one driver (psycopg 3) for queries, LISTEN, COPY and Alembic."""

from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from shared.domain.errors import MultifacetError
from shared.metadata.patience import PATIENCE_SECONDS, PatientConnection

if TYPE_CHECKING:
    from alembic.config import Config

WAKE_CHANNEL = "multifacet_wake"
"""Wakes the controller before its next tick."""

EVENTS_CHANNEL = "multifacet_events"
"""Payload `<job id>:<sequence>`: a job has a new event."""

STOP_CHANNEL = "multifacet_stop"
"""Payload `<job id>`: workers ask at once whether their attempts of that job shall stop; or `<worker id>`: that worker shall
leave."""

LEADER_LOCK = 0x6D66_6C65_6164
"""Key of the advisory lock that the leading controller holds: 'mflead' in ASCII."""


class DatabaseUrlRefused(MultifacetError):
    """The URL of the database is none. It is not repeated: it may hold a password."""

    code = "database_url_refused"


def parse_url(url: str) -> URL:
    """The parts of a SQLAlchemy URL. Raises DatabaseUrlRefused."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DatabaseUrlRefused(
            "MULTIFACET_DATABASE_URL cannot be read as a URL; give postgresql+psycopg://user:password@host:port/database, "
            "with special characters of the password written as %xx"
        ) from error


def create_engine(
    url: str, pool_size: int = 5, application_name: str = "multifacet", patience: float = PATIENCE_SECONDS
) -> AsyncEngine:
    """An async engine. `url` is a SQLAlchemy URL; any PostgreSQL driver named in it is replaced by psycopg 3. An answer that
    takes longer than `patience` seconds counts as a lost connection, see `shared.metadata.patience`."""
    return create_async_engine(
        parse_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "async_creator_fn": PatientConnection.open,
            "patience": patience,
            "connect_timeout": 10,
            "application_name": application_name,
        },
    )


def session_factory(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions whose objects stay readable after commit."""
    return async_sessionmaker(engine, expire_on_commit=False)


def connection_string(url: str) -> str:
    """The libpq form of a SQLAlchemy URL, for plain psycopg connections: `host=… dbname=…`. A URL again would not do, since
    SQLAlchemy leaves spaces of a password in it, which libpq refuses."""
    parsed = parse_url(url)
    more = {name: value if isinstance(value, str) else ",".join(value) for name, value in parsed.query.items()}
    return make_conninfo(**{**parsed.translate_connect_args(username="user", database="dbname"), **more})


async def connect(
    url: str, application_name: str = "multifacet", patience: float = PATIENCE_SECONDS
) -> PatientConnection:
    """A dedicated connection in autocommit mode (LISTEN, advisory locks)."""
    return await PatientConnection.open(
        connection_string(url),
        patience=patience,
        autocommit=True,
        connect_timeout=10,
        application_name=application_name,
    )


async def hear(connection: PatientConnection, seconds: float) -> list[psycopg.Notify]:
    """What was notified within `seconds`, as soon as there is something. Raises psycopg.OperationalError where the server is
    gone: a connection that only listens would never find out."""
    heard = [notification async for notification in connection.notifies(timeout=seconds, stop_after=1)]
    if not heard:
        await connection.execute("SELECT 1")
    return heard


def migration_config(url: str) -> "Config":
    """Alembic's configuration for the migrations that the package carries."""
    from alembic.config import Config  # only migrations need it, and workers start often

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["url"] = parse_url(url).set(drivername="postgresql+psycopg")
    return config


def create_tables(url: str) -> str | None:
    """Bring the database to the newest schema: run the Alembic migrations up to head. Safe to run again and by several
    processes at once (an advisory lock lets one through at a time).

    A database that a newer version has migrated is left as it is, and its revision is returned: migrations only add, so that
    version's schema serves this one, too.
    """
    from alembic import command

    config = migration_config(url)
    newer = _unknown_revision(config)
    if newer is None:
        command.upgrade(config, "head")
    return newer


def _unknown_revision(config: "Config") -> str | None:
    """The revision of the database where the migrations of this version do not have it."""
    import sqlalchemy as sa
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    engine = sa.create_engine(config.attributes["url"], poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    return None if current is None or current in known else current
