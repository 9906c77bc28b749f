"""A psycopg connection that outlives the database's restarts: work is held back during an outage, not lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
import structlog

from shared.metadata.engine import connection_string
from shared.metadata.patience import PATIENCE_SECONDS, PatientConnection
from shared.telemetry.logs import error_place

Result = TypeVar("Result")
_log = structlog.get_logger(__name__)

_LONGEST_PAUSE = 2.0


class DurableConnection:
    """One connection, opened on first use, used by one piece of work at a time."""

    def __init__(self, database_url: str, name: str, patience: float = PATIENCE_SECONDS) -> None:
        self._conninfo = connection_string(database_url)
        self._patience = patience
        self._name = name
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._lock = asyncio.Lock()

    async def run(self, work: Callable[[psycopg.AsyncConnection[Any]], Awaitable[Result]]) -> Result:
        """The result of `work`, which is given a connection in autocommit mode.

        A lost or refused connection, a server that says nothing for longer than `patience`, and any other operational fault
        of the server (no space, deadlock, shutdown) is waited out: `work` runs again on a new connection, for as long as it
        takes. It must therefore be one transaction, and must bear to run twice when the connection broke in its commit.
        """
        async with self._lock:
            failures = 0
            while True:
                try:
                    if self._connection is None:
                        self._connection = await PatientConnection.open(
                            self._conninfo,
                            patience=self._patience,
                            autocommit=True,
                            connect_timeout=5,
                            application_name=f"multifacet-{self._name}",
                        )
                    result = await work(self._connection)
                except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as error:
                    await self._drop()
                    if failures == 0:
                        _log.warning("database_unreachable", connection=self._name, error=error_place(error))
                    failures += 1
                    await asyncio.sleep(min(_LONGEST_PAUSE, 0.05 * 2.0**failures))
                except asyncio.CancelledError:
                    await self._drop()
                    raise
                else:
                    if failures:
                        _log.info("database_reachable_again", connection=self._name, failures=failures)
                    return result

    async def close(self) -> None:
        await self._drop()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
