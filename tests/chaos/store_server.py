"""An S3 server over a folder, as a process that can be killed and started again on the same files.

`python -m tests.chaos.store_server PORT FOLDER` serves what the `minio` client uses: buckets, objects (whole, ranges, in parts)
and listings. An object is the file `FOLDER/<bucket>/<key>`, which appears by a rename, so a kill leaves it whole or absent; parts
of unfinished uploads lie in `FOLDER/.parts`. Signatures are not checked: whoever reaches the port may write.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from hashlib import md5, sha256
from pathlib import Path
from urllib.parse import quote, unquote
from uuid import uuid4
from xml.etree import ElementTree

from aiohttp import web

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_LISTED_AT_ONCE = 1000


def _xml(name: str, *children: tuple[str, str] | ElementTree.Element) -> ElementTree.Element:
    element = ElementTree.Element(name)
    for child in children:
        if isinstance(child, tuple):
            ElementTree.SubElement(element, child[0]).text = child[1]
        else:
            element.append(child)
    return element


def _answer(element: ElementTree.Element, status: int = 200) -> web.Response:
    element.set("xmlns", _NAMESPACE)
    return web.Response(body=ElementTree.tostring(element), status=status, content_type="application/xml")


def _error(status: int, code: str, message: str) -> web.Response:
    return _answer(_xml("Error", ("Code", code), ("Message", message)), status)


class _Mismatch(Exception):
    """A body has another sha256 than its request tells."""


class FolderStore:
    """The buckets of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts = folder / ".parts"
        self._parts.mkdir(parents=True, exist_ok=True)

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{bucket}", self.bucket)
        application.router.add_route("*", "/{bucket}/", self.bucket)
        application.router.add_route("*", "/{bucket}/{key:.+}", self.object)
        return application

    async def bucket(self, request: web.Request) -> web.StreamResponse:
        bucket = self._folder / request.match_info["bucket"]
        if request.method == "PUT":
            bucket.mkdir(exist_ok=True)
            return web.Response()
        if not bucket.is_dir():
            return _error(404, "NoSuchBucket", "there is no such bucket")
        if request.method == "HEAD":
            return web.Response()
        if request.method != "GET":
            return _error(405, "MethodNotAllowed", request.method)
        if "location" in request.query:
            return _answer(_xml("LocationConstraint"))
        return await asyncio.to_thread(self._list, bucket, request.query)

    def _list(self, bucket: Path, query: Mapping[str, str]) -> web.Response:
        prefix = query.get("prefix", "")
        after = query.get("continuation-token") or query.get("start-after") or ""
        encoded = query.get("encoding-type") == "url"
        keys = sorted(
            key
            for key in (path.relative_to(bucket).as_posix() for path in bucket.rglob("*") if path.is_file())
            if key.startswith(prefix) and key > after
        )
        page = keys[:_LISTED_AT_ONCE]
        contents = []
        for key in page:
            status = (bucket / key).stat()
            contents.append(
                _xml(
                    "Contents",
                    ("Key", quote(key) if encoded else key),
                    ("LastModified", "2026-01-01T00:00:00.000Z"),
                    ("ETag", f'"{status.st_size}"'),
                    ("Size", str(status.st_size)),
                    ("StorageClass", "STANDARD"),
                )
            )
        more = len(keys) > len(page)
        head = [("Name", bucket.name), ("Prefix", prefix), ("KeyCount", str(len(page)))]
        head += [("MaxKeys", str(_LISTED_AT_ONCE)), ("IsTruncated", str(more).lower())]
        if encoded:
            head.append(("EncodingType", "url"))
        if more:
            head.append(("NextContinuationToken", page[-1]))
        return _answer(_xml("ListBucketResult", *head, *contents))

    async def object(self, request: web.Request) -> web.StreamResponse:
        bucket = self._folder / request.match_info["bucket"]
        path = bucket / unquote(request.match_info["key"])
        if not bucket.is_dir():
            return _error(404, "NoSuchBucket", "there is no such bucket")
        if not path.resolve().is_relative_to(bucket.resolve()):
            return _error(400, "InvalidArgument", "the key leaves the bucket")
        try:
            match request.method:
                case "PUT" if "uploadId" in request.query:
                    return await self._put_part(request)
                case "PUT":
                    return await self._put(request, path)
                case "POST" if "uploads" in request.query:
                    return self._begin(request)
                case "POST" if "uploadId" in request.query:
                    return await self._complete(request, path)
                case "DELETE" if "uploadId" in request.query:
                    shutil.rmtree(self._upload(request), ignore_errors=True)
                    return web.Response(status=204)
                case "DELETE":
                    path.unlink(missing_ok=True)
                    return web.Response(status=204)
                case "GET" | "HEAD" if path.is_file():
                    return web.FileResponse(path, headers={"ETag": f'"{path.stat().st_size}"'})
                case "GET" | "HEAD":
                    return _error(404, "NoSuchKey", "there is no such object")
        except _Mismatch:
            return _error(400, "XAmzContentSHA256Mismatch", "the body is not the one that was signed")
        except OSError as error:
            return _error(507, "XMinioStorageFull" if error.errno == 28 else "InternalError", str(error))
        return _error(405, "MethodNotAllowed", request.method)

    async def _receive(self, request: web.Request, path: Path) -> str:
        """The body in a file that appears at once; its MD5."""
        unfinished = self._parts / f"unfinished-{uuid4().hex}"
        digest, found = md5(usedforsecurity=False), sha256()
        try:
            with unfinished.open("wb") as sink:
                async for chunk in self._chunks(request):
                    digest.update(chunk)
                    found.update(chunk)
                    sink.write(chunk)
                sink.flush()
                os.fsync(sink.fileno())
            told = request.headers.get("x-amz-content-sha256", "")
            if len(told) == 64 and told != found.hexdigest():
                raise _Mismatch  # bytes changed on their way: servers check what is signed
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return digest.hexdigest()

    @staticmethod
    async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
        """The content without the framing of signed streaming uploads."""
        if not request.headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
            async for chunk in request.content.iter_chunked(1 << 18):
                yield chunk
            return
        while size := int((await request.content.readline()).split(b";")[0], 16):
            yield await request.content.readexactly(size)
            await request.content.readline()

    async def _put(self, request: web.Request, path: Path) -> web.Response:
        etag = await self._receive(request, path)
        return web.Response(headers={"ETag": f'"{etag}"'})

    def _upload(self, request: web.Request) -> Path:
        return self._parts / Path(request.query["uploadId"]).name

    def _begin(self, request: web.Request) -> web.Response:
        name = uuid4().hex
        (self._parts / name).mkdir()
        facts = (("Bucket", request.match_info["bucket"]), ("Key", request.match_info["key"]), ("UploadId", name))
        return _answer(_xml("InitiateMultipartUploadResult", *facts))

    async def _put_part(self, request: web.Request) -> web.Response:
        upload = self._upload(request)
        if not upload.is_dir():
            return _error(404, "NoSuchUpload", "there is no such upload")
        etag = await self._receive(request, upload / f"{int(request.query['partNumber']):05d}")
        return web.Response(headers={"ETag": f'"{etag}"'})

    async def _complete(self, request: web.Request, path: Path) -> web.Response:
        await request.read()
        upload = self._upload(request)
        if not upload.is_dir():
            return _error(404, "NoSuchUpload", "there is no such upload")
        unfinished = self._parts / f"unfinished-{uuid4().hex}"
        with unfinished.open("wb") as sink:
            for part in sorted(upload.iterdir()):
                with part.open("rb") as source:
                    shutil.copyfileobj(source, sink)
            sink.flush()
            os.fsync(sink.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.replace(path)
        shutil.rmtree(upload, ignore_errors=True)
        facts = (("Bucket", request.match_info["bucket"]), ("Key", request.match_info["key"]), ("ETag", '"0-1"'))
        return _answer(_xml("CompleteMultipartUploadResult", *facts))


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    web.run_app(FolderStore(folder).application(), host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main()
