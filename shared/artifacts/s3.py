"""MinIO (or any S3 server) as artifact store, through the `minio` client."""

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice
from pathlib import Path
from uuid import uuid4

import urllib3
from minio import Minio
from minio.error import S3Error

from shared.artifacts.directory import verify_sha256
from shared.artifacts.protocol import ObjectInfo, ObjectNotFound, StoredObject
from shared.domain.errors import MultifacetError

_PART_BYTES = 16 << 20
_PAGE = 1000
"""Objects that S3 lists in one answer, at most."""
_UNKNOWN_TIME = datetime.max.replace(tzinfo=UTC)
"""Of an object whose time the server does not tell: it never counts as old."""
_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "NotFound", "404"})


class S3Store:
    """An S3 PUT is atomic by itself: the object appears whole or not at all."""

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        *,
        secure: bool = False,
        timeout_seconds: float = 60.0,
    ) -> None:
        self.bucket = bucket
        self.endpoint = endpoint
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=min(5.0, timeout_seconds), read=timeout_seconds),
            maxsize=16,
            retries=urllib3.Retry(total=5, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504)),
        )
        self._client = Minio(
            endpoint=endpoint, access_key=access_key, secret_key=secret_key, secure=secure, http_client=pool
        )

    async def put_bytes(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> StoredObject:
        await asyncio.to_thread(
            self._client.put_object,
            bucket_name=self.bucket,
            object_name=key,
            data=io.BytesIO(data),
            length=len(data),
            content_type=media_type,
        )
        return StoredObject(key, len(data), sha256(data).hexdigest())

    async def put_file(self, key: str, path: Path, media_type: str = "application/octet-stream") -> StoredObject:
        return await asyncio.to_thread(self._put_file, key, path, media_type)

    async def get_bytes(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        return await asyncio.to_thread(self._get_bytes, key, offset, length)

    async def get_file(self, key: str, path: Path, sha256: str | None = None) -> None:
        await asyncio.to_thread(self._get_file, key, path, sha256)

    async def stream(self, key: str, chunk_bytes: int = 1 << 20) -> AsyncIterator[bytes]:
        response = await asyncio.to_thread(self._open, key, 0, None)
        try:
            while chunk := await asyncio.to_thread(response.read, chunk_bytes):
                yield chunk
        finally:
            response.close()
            response.release_conn()

    async def presigned_url(self, key: str, seconds: int) -> str | None:
        return await asyncio.to_thread(
            self._client.presigned_get_object,
            bucket_name=self.bucket,
            object_name=key,
            expires=timedelta(seconds=seconds),
        )

    async def stat(self, key: str) -> ObjectInfo:
        try:
            found = await asyncio.to_thread(self._client.stat_object, bucket_name=self.bucket, object_name=key)
        except S3Error as error:
            raise _translated(error, key) from error
        return ObjectInfo(key, found.size or 0, found.last_modified or _UNKNOWN_TIME)

    async def list_objects(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        # S3 lists by key, in pages that are fetched as they are read.
        found = self._client.list_objects(bucket_name=self.bucket, prefix=prefix, recursive=True)

        def page() -> list[ObjectInfo]:
            return [
                ObjectInfo(item.object_name, item.size or 0, item.last_modified or _UNKNOWN_TIME)
                for item in islice(found, _PAGE)
                if item.object_name
            ]

        while infos := await asyncio.to_thread(page):
            for info in infos:
                yield info

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self._client.remove_object, bucket_name=self.bucket, object_name=key)

    async def check(self) -> None:
        probe = f"probe/{uuid4().hex}"
        try:
            await self.put_bytes(probe, b"multifacet")
            await self.delete(probe)
        except (S3Error, urllib3.exceptions.HTTPError) as error:
            raise MultifacetError(
                f"bucket {self.bucket!r} at {self.endpoint} cannot be written ({type(error).__name__}: {error}); "
                "check MULTIFACET_S3_ENDPOINT, _ACCESS_KEY, _SECRET_KEY and _BUCKET"
            ) from error

    async def ensure_bucket(self) -> bool:
        """Make the bucket where it is missing; returns whether it was made."""

        def make() -> bool:
            if self._client.bucket_exists(bucket_name=self.bucket):
                return False
            self._client.make_bucket(bucket_name=self.bucket)
            return True

        return await asyncio.to_thread(make)

    def _put_file(self, key: str, path: Path, media_type: str) -> StoredObject:
        digest, size = sha256(), 0
        with path.open("rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
        self._client.fput_object(
            bucket_name=self.bucket,
            object_name=key,
            file_path=str(path),
            content_type=media_type,
            part_size=_PART_BYTES,
        )
        return StoredObject(key, size, digest.hexdigest())

    def _open(self, key: str, offset: int, length: int | None) -> urllib3.BaseHTTPResponse:
        try:
            return self._client.get_object(bucket_name=self.bucket, object_name=key, offset=offset, length=length or 0)
        except S3Error as error:
            raise _translated(error, key) from error

    def _get_bytes(self, key: str, offset: int, length: int | None) -> bytes:
        if length == 0:
            return b""
        response = self._open(key, offset, length)
        try:
            return response.read()
        finally:
            response.close()
            response.release_conn()

    def _get_file(self, key: str, path: Path, expected: str | None) -> None:
        response = self._open(key, 0, None)
        try:
            with path.open("wb") as sink:
                while chunk := response.read(1 << 20):
                    sink.write(chunk)
        finally:
            response.close()
            response.release_conn()
        verify_sha256(path, key, expected)


def _translated(error: S3Error, key: str) -> Exception:
    return ObjectNotFound(f"there is no object {key!r}") if error.code in _MISSING else error
