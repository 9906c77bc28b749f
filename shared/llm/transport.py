"""The one transport: HTTP POST over aiohttp, one session per worker process.

aiohttp because the wire costs more than all the rest: per call about 0.25 ms of CPU at 64 open connections, against 1.5
to 2 ms of the `openai` client and more of httpx.
"""

import asyncio
import math
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
import msgspec

_CONNECT_SECONDS = 10.0
MOST_REPLY_BYTES = 32 << 20
"""No answer is near so long; a body without end must not fill the memory until its time is over."""


class TransportFailed(Exception):
    """No complete HTTP answer: refused, reset, cut off or timed out."""


class Reply(msgspec.Struct, frozen=True):
    """A complete HTTP answer. `retry_after`: seconds, None when the server named none."""

    status: int
    retry_after: float | None
    body: bytes


class _Connections:
    """One pool of connections and how many calls are open on it."""

    def __init__(self, most: int) -> None:
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=most, limit_per_host=0, ttl_dns_cache=300, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "multifacet"},
        )
        self.open_calls = 0


class Transport:
    """Posts JSON. `maximum_in_flight` sizes the connection pool.

    After a call that was not answered in time new calls get new connections: whatever silenced one (a cable, a firewall that
    forgot) may have silenced those that lie idle too, and each would cost the next call its whole time.
    """

    def __init__(self, maximum_in_flight: int) -> None:
        self._maximum_in_flight = maximum_in_flight
        self._connections: _Connections | None = None
        self._retired: set[_Connections] = set()
        """Pools that take no new calls; each is closed with its last one."""

    async def start(self) -> None:
        """Open the session on the running loop."""
        self._connections = _Connections(self._maximum_in_flight)

    async def close(self) -> None:
        """Close all connections; calls under way fail."""
        for connections in (*self._retired, *([self._connections] if self._connections else [])):
            await connections.session.close()
        self._retired.clear()
        self._connections = None

    def _renew(self, silent: _Connections) -> None:
        if silent is self._connections:
            self._retired.add(silent)
            self._connections = _Connections(self._maximum_in_flight)

    async def post(self, url: str, body: bytes, headers: dict[str, str], timeout_seconds: float) -> Reply:
        """One try. Redirects are not followed: a job must not reach an address that the operator did not configure.

        Raises:
            TransportFailed: the connection failed, no complete answer came within `timeout_seconds`, or one without end.
        """
        connections = self._connections
        if connections is None:
            raise RuntimeError("the transport was not started")
        connections.open_calls += 1
        try:
            async with connections.session.post(
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=_CONNECT_SECONDS),
            ) as response:
                content = await _read(response)
                retry_after = None
                if response.status != 200:
                    retry_after = parse_retry_after(response.headers.get("Retry-After"))
                return Reply(response.status, retry_after, content)
        except TimeoutError as error:
            self._renew(connections)
            raise TransportFailed(f"no answer within {timeout_seconds:.0f} s") from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            raise TransportFailed(f"{type(error).__name__}: {error}"[:300]) from error
        finally:
            connections.open_calls -= 1
            if connections in self._retired and not connections.open_calls:
                self._retired.discard(connections)
                await connections.session.close()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole body. Raises TransportFailed for one that is too long."""
    chunks, size = [], 0
    while chunk := await response.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > MOST_REPLY_BYTES:
            raise TransportFailed(f"the answer does not end within {MOST_REPLY_BYTES >> 20} MiB")
    return b"".join(chunks)


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or an HTTP date (RFC 9110, 10.2.3); None when unreadable."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, TypeError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def backoff_seconds(retry: int, base: float = 0.25, longest: float = 20.0) -> float:
    """Pause before retry number `retry` (0, 1, …): full jitter, uniform in [0, min(longest, base * 2**retry)].

    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return random.uniform(0.0, min(longest, base * 2.0 ** min(retry, 16)))
