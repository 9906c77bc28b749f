"""The artifact store behind one protocol: MinIO (or any S3) and a directory, tested by the same contract."""

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec

from shared.domain.errors import MultifacetError


class ObjectInfo(msgspec.Struct, frozen=True):
    key: str
    size: int
    """Bytes."""
    written_at: datetime
    """By the store's clock, UTC."""


class StoredObject(msgspec.Struct, frozen=True):
    """What a write returns: what the database keeps of an object."""

    key: str
    size: int
    sha256: str


class ObjectNotFound(MultifacetError):
    code = "object_not_found"


class ArtifactCorrupt(MultifacetError):
    """Bytes differ from the sha256 on record."""

    code = "artifact_corrupt"


class ArtifactStore(Protocol):
    """Immutable objects by key. Keys are made by the server only (`shared.artifacts.layout`), `/`-separated.

    Objects appear whole or not at all. All methods run blocking work in threads; none blocks the loop.
    """

    async def put_bytes(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> StoredObject: ...

    async def put_file(self, key: str, path: Path, media_type: str = "application/octet-stream") -> StoredObject: ...

    async def get_bytes(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Raises ObjectNotFound."""
        ...

    async def get_file(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Download to `path`; raises ObjectNotFound, and ArtifactCorrupt where `sha256` is given and differs."""
        ...

    def stream(self, key: str, chunk_bytes: int = 1 << 20) -> AsyncIterator[bytes]: ...

    async def presigned_url(self, key: str, seconds: int) -> str | None:
        """A URL at which anybody may read the object for so long, without a key; None where the store has none."""
        ...

    async def stat(self, key: str) -> ObjectInfo: ...

    def list_objects(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Every object whose key starts so, by key."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; no error where there is none."""
        ...

    async def check(self) -> None:
        """Raise MultifacetError unless the store can be written and read."""
        ...
