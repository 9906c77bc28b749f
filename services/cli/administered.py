"""Which system an operator's command works on: what the settings name, else the one of this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from services.cli.embedded.postgres import EmbeddedPostgres
from services.cli.embedded.state import StateFolder
from shared.metadata.engine import connection_string
from shared.settings import Settings, get_settings
from shared.settings.start_up import starting


@contextmanager
def administered_settings(state: StateFolder | None = None) -> Iterator[Settings]:
    """Settings whose database answers while the block runs: MULTIFACET_DATABASE_URL where it is set; else the database of the
    one-machine system, which is started for the block where the system does not run.

    Raises CannotStart for settings that cannot be used and a database that does not answer, and MultifacetError where the state
    folder cannot be.
    """
    if os.environ.get("MULTIFACET_DATABASE_URL"):
        with starting():
            settings = get_settings()
            psycopg.connect(connection_string(settings.database_url), connect_timeout=10).close()
        yield settings
        return
    state = state or StateFolder()
    record = state.record()
    if record is not None:
        yield _of_machine(record.database_url, state.root)
        return
    with state.locked():
        server = EmbeddedPostgres(state.root / "postgres", state.logs / "postgres.log")
        server.start()
        try:
            yield _of_machine(server.url(), state.root)
        finally:
            server.stop()


def _of_machine(database_url: str, root: Path) -> Settings:
    """Retention and the rest are set by the environment there, too."""
    with starting():
        settings = get_settings()
    return settings.model_copy(
        update={
            "database_url": database_url,
            "artifact_store": "directory",
            "artifact_directory": root / "artifacts",
        }
    )
