"""A directory as artifact store, for the embedded mode: the same keys as files below one folder."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from shared.artifacts.protocol import ArtifactCorrupt, ObjectInfo, ObjectNotFound, StoredObject
from shared.domain.errors import MultifacetError

_CHUNK_BYTES = 1 << 20
_UNFINISHED_SECONDS = 86_400.0
"""Nobody writes to an object for so long without a pause."""


class DirectoryStore:
    """Objects are written apart and renamed into their place, so that a reader sees a whole object or none. What a process that
    was killed left unfinished is removed by whoever opens the store a day later.

    A file system keeps no media types: `media_type` is taken for the protocol's sake.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._unfinished = self.root / ".unfinished"
        self._forget_unfinished()

    async def put_bytes(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> StoredObject:  # noqa: ARG002
        return await asyncio.to_thread(self._put_bytes, key, data)

    async def put_file(self, key: str, path: Path, media_type: str = "application/octet-stream") -> StoredObject:  # noqa: ARG002
        return await asyncio.to_thread(self._put_file, key, path)

    async def get_bytes(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        return await asyncio.to_thread(self._get_bytes, key, offset, length)

    async def get_file(self, key: str, path: Path, sha256: str | None = None) -> None:
        await asyncio.to_thread(self._get_file, key, path, sha256)

    async def stream(self, key: str, chunk_bytes: int = _CHUNK_BYTES) -> AsyncIterator[bytes]:
        source = self._existing(key)
        with await asyncio.to_thread(source.open, "rb") as handle:
            while chunk := await asyncio.to_thread(handle.read, chunk_bytes):
                yield chunk

    async def presigned_url(self, key: str, seconds: int) -> str | None:  # noqa: ARG002
        """None: a folder has no server of its own."""
        return None

    async def stat(self, key: str) -> ObjectInfo:
        return await asyncio.to_thread(_info, key, self._existing(key))

    async def list_objects(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        for info in await asyncio.to_thread(self._list, prefix):
            yield info

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self._path(key).unlink, missing_ok=True)

    async def check(self) -> None:
        probe = f".probe-{uuid4().hex}"
        try:
            await self.put_bytes(probe, b"multifacet")
            await self.delete(probe)
        except OSError as error:
            raise MultifacetError(
                f"the artifact folder {self.root} cannot be written ({error}); set MULTIFACET_ARTIFACT_DIRECTORY"
            ) from error

    def _path(self, key: str) -> Path:
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root) or path == self.root:
            raise ObjectNotFound(f"{key!r} is no object key")
        return path

    def _existing(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise ObjectNotFound(f"there is no object {key!r}")
        return path

    def _new(self, key: str) -> tuple[Path, Path]:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._unfinished.mkdir(exist_ok=True)
        return target, self._unfinished / f".{uuid4().hex}"

    def _forget_unfinished(self) -> None:
        oldest = time.time() - _UNFINISHED_SECONDS
        for path in self._unfinished.glob(".*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def _put_bytes(self, key: str, data: bytes) -> StoredObject:
        target, temporary = self._new(key)
        try:
            with temporary.open("wb") as sink:
                sink.write(data)
                sink.flush()
                os.fsync(sink.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return StoredObject(key, len(data), sha256(data).hexdigest())

    def _put_file(self, key: str, path: Path) -> StoredObject:
        target, temporary = self._new(key)
        digest, size = sha256(), 0
        try:
            with path.open("rb") as source, temporary.open("wb") as sink:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    sink.write(chunk)
                sink.flush()
                os.fsync(sink.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return StoredObject(key, size, digest.hexdigest())

    def _get_bytes(self, key: str, offset: int, length: int | None) -> bytes:
        with self._existing(key).open("rb") as handle:
            handle.seek(offset)
            return handle.read() if length is None else handle.read(length)

    def _get_file(self, key: str, path: Path, expected: str | None) -> None:
        shutil.copyfile(self._existing(key), path)
        verify_sha256(path, key, expected)

    def _list(self, prefix: str) -> list[ObjectInfo]:
        start = self.root / prefix.rpartition("/")[0]
        if not start.is_dir():
            return []
        found = []
        for path in start.rglob("*"):
            key = path.relative_to(self.root).as_posix()
            if key.startswith(prefix) and not path.name.startswith("."):
                with suppress(FileNotFoundError):  # removed since the folder was read
                    if path.is_file():
                        found.append(_info(key, path))
        return sorted(found, key=lambda info: info.key)


def _info(key: str, path: Path) -> ObjectInfo:
    found = path.stat()
    return ObjectInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def verify_sha256(path: Path, key: str, expected: str | None) -> None:
    """Raise ArtifactCorrupt (and remove the file) where `expected` is given and the file's sha256 differs."""
    if expected is None:
        return
    digest = sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        path.unlink(missing_ok=True)
        raise ArtifactCorrupt(
            f"{key!r} has sha256 {digest.hexdigest()}, on record is {expected}: the object was changed"
        )
