"""Local copies of immutable objects, by sha256: a page is cut from a file on disk, not from the store."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from shared.artifacts.protocol import ArtifactStore
from shared.scratch import Scratch


class ObjectReference(msgspec.Struct, frozen=True):
    """An object of the store whose bytes are known."""

    key: str
    sha256: str
    size: int


class _Entry:
    __slots__ = ("path", "size", "users")

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.users = 0


class LocalObjects:
    """A cache on disk, at most about `maximum_bytes` big: the copy used longest ago goes first, one in use never.

    Equal downloads at the same time are one download. The folder is made on first use and removed by `close`.
    """

    def __init__(self, store: ArtifactStore, parent: Path | None, maximum_bytes: int = 4 << 30) -> None:
        self._store = store
        self._parent = parent
        self._maximum_bytes = maximum_bytes
        self._scratch: Scratch | None = None
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def local(self, reference: ObjectReference) -> AsyncIterator[Path]:
        """A verified local copy, which stays while the block runs. Raises ObjectNotFound, ArtifactCorrupt."""
        entry = await self._obtain(reference)
        try:
            yield entry.path
        finally:
            entry.users -= 1
            self._evict()

    @asynccontextmanager
    async def all_local(self, references: Sequence[ObjectReference]) -> AsyncIterator[list[Path]]:
        """Local copies of several objects, in their order."""
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.local(reference)) for reference in references]

    async def close(self) -> None:
        if self._scratch is not None:
            await asyncio.to_thread(self._scratch.close)
            self._scratch = None
        self._entries.clear()
        self._bytes = 0

    async def _obtain(self, reference: ObjectReference) -> _Entry:
        lock = self._locks.setdefault(reference.sha256, asyncio.Lock())
        async with lock:
            entry = self._entries.get(reference.sha256)
            if entry is None:
                path = await self._path(reference.sha256)
                await self._store.get_file(reference.key, path, reference.sha256)
                entry = self._entries[reference.sha256] = _Entry(path, reference.size)
                self._bytes += reference.size
            self._entries.move_to_end(reference.sha256)
            entry.users += 1
            return entry

    async def _path(self, sha256: str) -> Path:
        if self._scratch is None:
            scratch = await asyncio.to_thread(Scratch, self._parent, "api")
            if self._scratch is None:
                self._scratch = scratch
            else:
                await asyncio.to_thread(scratch.close)
        return self._scratch.folder / sha256

    def _evict(self) -> None:
        if self._bytes <= self._maximum_bytes:
            return
        for sha256, entry in list(self._entries.items()):
            if self._bytes <= self._maximum_bytes:
                return
            if entry.users == 0:
                del self._entries[sha256]
                self._locks.pop(sha256, None)
                entry.path.unlink(missing_ok=True)
                self._bytes -= entry.size
