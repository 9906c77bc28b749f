"""The asynchronous store for code without a loop: the loop runs in a thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from shared.artifacts.protocol import ArtifactStore, ObjectInfo, StoredObject

Result = TypeVar("Result")


class BlockingStore:
    """An ArtifactStore whose calls return when they are done. May be used from several threads at once."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="artifact-store", daemon=True)
        self._thread.start()

    def put_file(self, key: str, path: Path) -> StoredObject:
        return self._call(self._store.put_file(key, path))

    def put_bytes(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> StoredObject:
        return self._call(self._store.put_bytes(key, data, media_type))

    def get_bytes(self, key: str) -> bytes:
        """Raises ObjectNotFound."""
        return self._call(self._store.get_bytes(key))

    def get_file(self, key: str, path: Path, sha256: str) -> None:
        """Raises ObjectNotFound, and ArtifactCorrupt where the sha256 differs."""
        self._call(self._store.get_file(key, path, sha256))

    def list_objects(self, prefix: str) -> list[ObjectInfo]:
        async def collect() -> list[ObjectInfo]:
            return [info async for info in self._store.list_objects(prefix)]

        return self._call(collect())

    def delete(self, key: str) -> None:
        self._call(self._store.delete(key))

    def close(self) -> None:
        """End the loop's thread. Calls in other threads that are still open never return."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
