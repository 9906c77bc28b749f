"""Alembic's entry: migrations run on a plain psycopg connection, one process at a time."""

import sqlalchemy as sa
from alembic import context
from sqlmodel import SQLModel

import shared.metadata.tables  # noqa: F401  (fills SQLModel.metadata)

MIGRATION_LOCK = 0x6D66_6D69_6772
"""Key of the advisory lock: 'mfmigr' in ASCII."""


def run() -> None:
    engine = sa.create_engine(context.config.attributes["url"], poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            context.configure(connection=connection, target_metadata=SQLModel.metadata, compare_type=True)
            with context.begin_transaction():
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
                context.run_migrations()
    finally:
        engine.dispose()


if context.is_offline_mode():
    raise RuntimeError("migrations need a database connection: offline mode is not supported")
run()
