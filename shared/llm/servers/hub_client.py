"""`huggingface_hub`'s async client with HTTP that is ours: no redirects, no environment, bounded replies, our errors.

The client itself would follow redirects, take proxies and a Hub token from the environment, keep every streamed response open
until it is closed itself, and read error bodies of any size. So each call has a client of its own (which closes its response
with it) over a transport that does the rest.
"""

from collections.abc import AsyncIterator
from contextvars import ContextVar

import httpx2
from huggingface_hub import AsyncInferenceClient

from shared.llm.servers.errors import GenerationFailed, GenerationIncomplete, ModelServerError, ServerUnavailable
from shared.llm.servers.events import LONGEST_LINE
from shared.llm.servers.failures import LONGEST_ERROR_BODY, error_of_reply
from shared.llm.servers.http import LARGEST_REPLY, name_of
from shared.llm.servers.protocol import ServerAddress

_LINE_SEPARATORS = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
"""U+0085, U+2028 and U+2029: TGI writes them into JSON as they are, and httpx2 takes each for the end of a line."""
_BEGINNINGS = (b"\xe2\x80", b"\xe2", b"\xc2")


REPLY_HEADERS: ContextVar[dict[str, str] | None] = ContextVar("REPLY_HEADERS", default=None)
"""Where a caller wants the headers of its reply, which the client does not give: a dictionary to put them into."""


def new_pool() -> httpx2.AsyncHTTPTransport:
    """The connections that all servers behind the client share. How many are open is bounded by the calls."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=60.0)
    return httpx2.AsyncHTTPTransport(trust_env=False, limits=limits, retries=0)


class HubClient(AsyncInferenceClient):
    """One call's client. Use it as a context: leaving it closes the response, and with a stream under way its connection."""

    def __init__(self, base_url: str, http: httpx2.AsyncClient) -> None:
        super().__init__(base_url=base_url)
        self._http = http

    async def _get_async_client(self) -> httpx2.AsyncClient:
        # The one place where the client takes its HTTP from; the tests of redirects and limits fail where that changes.
        return self._http


class HubTransport(httpx2.AsyncBaseTransport):
    """The way to one server over the shared pool. Closing it leaves the pool open."""

    def __init__(self, pool: httpx2.AsyncHTTPTransport, address: ServerAddress, connect_seconds: float) -> None:
        self.name = name_of(address)
        self._pool = pool
        self._timeout = {"connect": connect_seconds, "read": None, "write": None, "pool": None}
        self._authorization = None if address.api_key is None else f"Bearer {address.api_key}"

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """A response whose status is 200. Raises the errors of `shared.llm.servers.errors`."""
        request.extensions["timeout"] = self._timeout
        request.headers["Accept-Encoding"] = "identity"
        request.headers["User-Agent"] = "multifacet"
        # The client would send the machine's Hub token where it was given none.
        request.headers.pop("Authorization", None)
        if self._authorization is not None:
            request.headers["Authorization"] = self._authorization
        try:
            response = await self._pool.handle_async_request(request)
        except httpx2.TransportError as error:
            raise broken(self.name, error) from error
        stream = response.stream
        if not isinstance(stream, httpx2.AsyncByteStream):
            raise TypeError("the pool's responses are asynchronous")
        if response.status_code == 200:
            if response.headers.get("Content-Encoding", "identity") == "identity":
                is_event_stream = response.headers.get("Content-Type", "").startswith("text/event-stream")
                response.stream = _BoundedStream(stream, self.name, is_event_stream)
                seen = REPLY_HEADERS.get()
                if seen is not None:
                    seen.update(response.headers)
                return response
            await stream.aclose()
            raise GenerationFailed(f"{self.name} compresses its answer, which it was asked not to; switch that off")
        try:
            said = await _start_of(stream)
        finally:
            await stream.aclose()
        raise error_of_reply(response.status_code, response.headers, said, self.name)

    async def aclose(self) -> None:
        """The pool goes on for other servers."""


class _BoundedStream(httpx2.AsyncByteStream):
    """A response's bytes: too many of them in all or in a line are refused, and failures are told in our errors."""

    def __init__(self, stream: httpx2.AsyncByteStream, server: str, is_event_stream: bool) -> None:
        self._stream = stream
        self._server = server
        self._is_event_stream = is_event_stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, held = 0, b""
        most = LONGEST_LINE if self._is_event_stream else LARGEST_REPLY
        try:
            async for received in self._stream:
                end = received.rfind(b"\n") if self._is_event_stream else -1
                size = size + len(received) if end < 0 else len(received) - end - 1
                if size > most:
                    what = "line of a stream" if self._is_event_stream else "reply"
                    raise GenerationFailed(
                        f"{self._server} sent a {what} of more than {most} bytes, which no answer has"
                    )
                chunk = held + received
                held = b""
                for separator, escape in _LINE_SEPARATORS:
                    if separator in chunk:
                        chunk = chunk.replace(separator, escape)
                held = next((beginning for beginning in _BEGINNINGS if chunk.endswith(beginning)), b"")
                if held:
                    chunk = chunk[: -len(held)]
                if chunk:
                    yield chunk
            if held:
                yield held
        except httpx2.TransportError as error:
            raise broken(self._server, error) from error

    async def aclose(self) -> None:
        await self._stream.aclose()


def broken(server: str, error: Exception) -> ModelServerError:
    """What it means that a connection failed, without the error's own words: they may hold an address with secrets."""
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.UnsupportedProtocol):
        return ServerUnavailable(f"{server} cannot be reached: {type(error).__name__}")
    return GenerationIncomplete(f"the connection to {server} broke before the answer's end ({type(error).__name__})")


async def _start_of(stream: httpx2.AsyncByteStream) -> bytes:
    content = bytearray()
    try:
        async for chunk in stream:
            content += chunk
            if len(content) >= LONGEST_ERROR_BODY:
                break
    except httpx2.TransportError:
        return b""  # the status alone tells enough
    return bytes(content[:LONGEST_ERROR_BODY])
