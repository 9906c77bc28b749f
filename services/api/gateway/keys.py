"""Keys of live requests and of those that only read, remembered for a few seconds.

A key that was revoked, or a session that has ended, stops working here within `REMEMBERED_SECONDS`, in the process that
was told at once. Wherever something is changed a key is looked up anew with every request.
"""

import asyncio
import time

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.metadata.repositories.api_keys import ApiKeyRepository, LiveKey, hash_of

log = structlog.get_logger(__name__)

REMEMBERED_SECONDS = 5.0
_READ_ANEW_SECONDS = 2.5
"""A key of this age is read anew while the remembered one still counts, so that a busy key never waits."""
_MOST_KEYS = 10_000


class _Remembered(msgspec.Struct):
    key: LiveKey
    read_at: float
    """time.monotonic() before it was asked for."""


class KeyCache:
    """Valid keys by the sha256 of their secret. Unknown ones are not remembered: a new key works at once."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._remembered: dict[str, _Remembered] = {}
        self._reading: dict[str, asyncio.Task[LiveKey | None]] = {}

    async def find(self, secret: str) -> LiveKey | None:
        """The valid key or session with that secret."""
        digest = hash_of(secret)
        found = self._remembered.get(digest)
        if found is not None:
            age = time.monotonic() - found.read_at
            if age < REMEMBERED_SECONDS:
                if age > _READ_ANEW_SECONDS:
                    self._read(digest).add_done_callback(_tell_failure)
                return found.key
            del self._remembered[digest]
        # Shielded: a client that goes away ends its own wait, not that of others with the same key.
        return await asyncio.shield(self._read(digest))

    def forget(self, identifier: str) -> None:
        """Look a key with its sessions, or one session, up anew when it comes next."""
        self._remembered = {
            digest: found
            for digest, found in self._remembered.items()
            if identifier not in {found.key.id, found.key.counted_as}
        }

    def forget_secret(self, secret: str) -> None:
        """As `forget`, by the secret itself."""
        self._remembered.pop(hash_of(secret), None)

    async def close(self) -> None:
        reading = list(self._reading.values())
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

    def _read(self, digest: str) -> "asyncio.Task[LiveKey | None]":
        task = self._reading.get(digest)
        if task is None:
            task = asyncio.create_task(self._ask(digest), name="read-key")
            self._reading[digest] = task
            task.add_done_callback(lambda _: self._reading.pop(digest, None))
        return task

    async def _ask(self, digest: str) -> LiveKey | None:
        asked_at = time.monotonic()
        async with self._sessions() as session:
            key = await ApiKeyRepository(session).find_live(digest)
        self._remembered.pop(digest, None)
        if key is not None:
            if len(self._remembered) >= _MOST_KEYS:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest] = _Remembered(key, asked_at)
        return key


def _tell_failure(task: "asyncio.Task[LiveKey | None]") -> None:
    if not task.cancelled() and isinstance(error := task.exception(), SQLAlchemyError | OSError):
        log.warning("key_not_read", error=type(error).__name__)
