"""One server over the process's aiohttp session: replies and streams with their failures told in our errors."""

import asyncio
import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp
import msgspec

from shared.llm.servers.errors import GenerationFailed, GenerationIncomplete, ModelServerError, ServerUnavailable
from shared.llm.servers.events import EventParser
from shared.llm.servers.failures import LONGEST_ERROR_BODY, error_of_reply
from shared.llm.servers.protocol import ServerAddress

LARGEST_REPLY = 64 * 1024 * 1024
"""Bytes of a reply that is no stream. Prompt log-probabilities of 32k tokens are about 4 MB."""

_DRAIN_SECONDS = 0.2


def name_of(address: ServerAddress) -> str:
    """What messages call a server: kind, host and port, and never a key."""
    parts = urlsplit(address.base_url)
    port = f":{parts.port}" if parts.port is not None else ""
    return f"the {address.kind.value} server at {parts.hostname}{port}"


class Reply(msgspec.Struct, frozen=True):
    """A 200 that is no stream."""

    body: bytes
    headers: Mapping[str, str]


class HttpServer:
    """GET and POST at one address. Redirects are not followed: only configured addresses are ever spoken to."""

    def __init__(self, session: aiohttp.ClientSession, address: ServerAddress, connect_seconds: float) -> None:
        self.name = name_of(address)
        self._session = session
        self._base_url = address.base_url
        # Time-outs but that for connecting are the calls' (calls.py), the same for every kind of server.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds)
        # Bodies are taken as they are: a small compressed one could become a large one.
        self._headers = {"Accept-Encoding": "identity"}
        if address.api_key is not None:
            self._headers["Authorization"] = f"Bearer {address.api_key}"
        self._post_headers = self._headers | {"Content-Type": "application/json"}

    async def get(self, path: str, *, of_root: bool = False) -> bytes:
        """The body of a 200. `of_root`: the path begins at the host, not at the base URL."""
        base = self._base_url
        if of_root:
            parts = urlsplit(base)
            base = f"{parts.scheme}://{parts.netloc}"
        async with _Exchange(self, "GET", base + path, None) as response:
            return await self._whole(response)

    async def post(self, path: str, body: bytes) -> Reply:
        """A 200. Raises the errors of `shared.llm.servers.errors`."""
        async with _Exchange(self, "POST", self._base_url + path, body) as response:
            return Reply(await self._whole(response), response.headers)

    def stream(self, path: str, body: bytes) -> "EventStream":
        """The events of a 200: enter it, then read."""
        return EventStream(self, _Exchange(self, "POST", self._base_url + path, body))

    async def request(self, method: str, url: str, body: bytes | None) -> aiohttp.ClientResponse:
        """A response whose status is 200. Raises the error of any other one."""
        try:
            response = await self._session.request(
                method,
                url,
                data=body,
                headers=self._headers if body is None else self._post_headers,
                allow_redirects=False,
                timeout=self._timeout,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise self.broken(error) from error
        if response.status == 200:
            if response.headers.get("Content-Encoding", "identity") == "identity":
                return response
            response.close()
            raise GenerationFailed(f"{self.name} compresses its answer, which it was asked not to; switch that off")
        try:
            said = await self._start_of(response)
        finally:
            response.close()
        raise error_of_reply(response.status, response.headers, said, self.name)

    def broken(self, error: Exception) -> ModelServerError:
        """What it means that a connection failed. The message has no more of the error than its name: URLs may hold secrets."""
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            return ServerUnavailable(f"{self.name} cannot be reached: {why}")
        if isinstance(error, aiohttp.InvalidURL):
            return ServerUnavailable(f"{self.name} has no valid address; configure http://host:port")
        return GenerationIncomplete(
            f"the connection to {self.name} broke before the answer's end ({type(error).__name__})"
        )

    async def _start_of(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            content = bytearray()
            while len(content) < LONGEST_ERROR_BODY and (chunk := await response.content.readany()):
                content += chunk
            return bytes(content[:LONGEST_ERROR_BODY])
        except (aiohttp.ClientError, OSError):
            return b""  # the status alone tells enough

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        chunks = []
        size = 0
        try:
            while chunk := await response.content.readany():
                size += len(chunk)
                if size > LARGEST_REPLY:
                    raise GenerationFailed(
                        f"{self.name} sent more than {LARGEST_REPLY} bytes in one answer, which none has"
                    )
                chunks.append(chunk)
        except (aiohttp.ClientError, OSError) as error:
            raise self.broken(error) from error
        return b"".join(chunks)


class _Exchange:
    """A request and its response; leaving it early closes the connection at once, upon which servers stop generating."""

    def __init__(self, server: HttpServer, method: str, url: str, body: bytes | None) -> None:
        self._server = server
        self._method = method
        self._url = url
        self._body = body
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> aiohttp.ClientResponse:
        self._response = await self._server.request(self._method, self._url, self._body)
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._response is None:
            return
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class EventStream:
    """A streamed answer, read by what has arrived: one `read` gives all events of a chunk."""

    def __init__(self, server: HttpServer, exchange: _Exchange) -> None:
        self._server = server
        self._exchange = exchange
        self._parser = EventParser()
        self._content: aiohttp.StreamReader | None = None

    async def __aenter__(self) -> Self:
        self._content = (await self._exchange.__aenter__()).content
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._exchange.__aexit__(kind, error, traceback)

    async def read(self) -> list[bytes]:
        """The data of the next events; empty at the end of the stream.

        Raises:
            GenerationIncomplete: the connection broke.
            GenerationFailed: an event is longer than any answer.
        """
        if self._content is None:
            raise RuntimeError("the stream was not entered")
        try:
            while chunk := await self._content.readany():
                if events := self._parser.feed(chunk):
                    return events
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise self._server.broken(error) from error
        return self._parser.end()

    async def drain(self) -> None:
        """Read what is left after an answer's end, which is nothing but the end of the body: the connection can be used again."""
        if self._content is None or self._content.at_eof():
            return
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._content.readany()
