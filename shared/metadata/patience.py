"""A psycopg connection whose server must answer in time, and which gives up its locks where the client is gone.

A network that drops everything without a word, a server that is frozen and a host that vanished look alike from either side:
nothing comes. TCP finds that out by itself after two hours, or never where a proxy or a frozen process still acknowledges. So
both sides have a limit here: the client takes a silent server for lost, and the server ends what a silent client left open.
"""

from typing import Any, Self, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import _WaitTimeout

Result = TypeVar("Result")

PATIENCE_SECONDS = 30.0
"""Half of the default lease: whoever holds a row's lock and vanishes has given it up before its lease is over."""

_CHECK_INTERVAL_SECONDS = 60.0
"""psycopg wakes up a waiting connection ten times a second, so that Ctrl-C is heard between; asyncio needs no such thing, and
connections that only listen would keep an idle machine awake."""
_KEEPALIVE: dict[str, Any] = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


class PatientConnection(psycopg.AsyncConnection[Any]):
    """Each answer must come within `patience` seconds, else the connection is closed and psycopg.OperationalError raised.

    A transaction that the client leaves open for longer without a statement is ended by the server, which frees its locks.
    What waits with a time of its own (`notifies(timeout=…)`) has that; without one it would end after `patience` too.
    """

    patience = PATIENCE_SECONDS

    @classmethod
    async def open(cls, conninfo: str = "", *, patience: float = PATIENCE_SECONDS, **options: Any) -> Self:
        """Connect; `options` as of psycopg's own `connect`."""
        connection = await cls.connect(
            conninfo, **_KEEPALIVE, tcp_user_timeout=round(patience * 1000), **{**options, "autocommit": True}
        )
        connection.patience = patience
        limits = {
            "idle_in_transaction_session_timeout": f"{patience:.3f}s",
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": f"{patience:.3f}s",
        }
        try:
            # As a statement, not as options of the connection: poolers between refuse those.
            chosen = ", ".join(["set_config(%s, %s, false)"] * len(limits))
            await connection.execute(f"SELECT {chosen}".encode(), [part for pair in limits.items() for part in pair])
            await connection.set_autocommit(bool(options.get("autocommit", False)))
        except BaseException:
            await connection.close()
            raise
        return connection

    async def wait(
        self, gen: PQGen[Result], interval: float = _CHECK_INTERVAL_SECONDS, timeout: float | None = None
    ) -> Result:
        if timeout is not None:
            return await super().wait(gen, interval, timeout)
        try:
            return await super().wait(gen, interval, self.patience)
        except _WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"PostgreSQL did not answer within {self.patience:g} s; the connection was given up"
            ) from None
