"""Opening a model server: the adapter of its kind behind the calls' policy, over the process's connections."""

import aiohttp
import httpx2

from shared.llm.servers.calls import CalledServer, CallPolicy
from shared.llm.servers.cpu import CpuServer
from shared.llm.servers.http import HttpServer
from shared.llm.servers.hub_client import HubTransport, new_pool
from shared.llm.servers.openai_compatible import OpenAICompatibleServer
from shared.llm.servers.protocol import ModelServer, ServerAddress, ServerKind
from shared.llm.servers.tgi import TgiServer

__all__ = ["CallPolicy", "Connections", "open_server"]

_KEEP_ALIVE_SECONDS = 60.0


class Connections:
    """The connections of a process to all its model servers. Whoever makes it starts it on the running loop and closes it."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._hub_pool: httpx2.AsyncHTTPTransport | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the connections were not started")
        return self._session

    @property
    def hub_pool(self) -> httpx2.AsyncHTTPTransport:
        """Made when a TGI server is opened first: it loads certificates, which takes tens of milliseconds."""
        if self._session is None:
            raise RuntimeError("the connections were not started")
        if self._hub_pool is None:
            self._hub_pool = new_pool()
        return self._hub_pool

    async def start(self) -> None:
        # How many connections are open is bounded by the calls in flight at each server.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "multifacet"},
            auto_decompress=False,
        )

    async def close(self) -> None:
        """End all connections, those of streams under way included."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._hub_pool is not None:
            await self._hub_pool.aclose()
            self._hub_pool = None


def open_server(address: ServerAddress, policy: CallPolicy, connections: Connections) -> ModelServer:
    """A server to call. Limits are counted within it: open an address once and keep it. The connections must be started."""
    http = HttpServer(connections.session, address, policy.connect_seconds)
    match address.kind:
        case ServerKind.TGI:
            transport = HubTransport(connections.hub_pool, address, policy.connect_seconds)
            server: ModelServer = TgiServer(address, http, transport)
        case ServerKind.OPENAI:
            server = OpenAICompatibleServer(address, http)
        case ServerKind.CPU:
            server = CpuServer(address, http)
    return CalledServer(server, policy, http.name)
