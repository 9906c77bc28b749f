"""A provider in bad shape: a proxy before the simulator that breaks calls in ways no well-behaved server has.

`python -m tests.chaos.faulty_endpoint PORT UPSTREAM` serves until it is killed. What it does is a `Plan`, changed by
`PUT /endpoint/plan`; `GET /endpoint/statistics` tells how often each fault struck. Whether a call meets a fault depends on
the seed, on its exact body and on how often that body came before. A broken call never reaches the simulator: it costs
nothing.
"""

import asyncio
import socket
import struct
import sys
from collections import Counter
from enum import StrEnum
from hashlib import sha256

import aiohttp
import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

_JSON = "application/json"
_DRIP_SECONDS = 0.2
_HTML = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_COMPLETION = orjson.dumps(
    {
        "id": "broken",
        "object": "chat.completion",
        "model": "simulator-small",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "never whole"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
)


class EndpointFault(StrEnum):
    """What a call can meet instead of an answer."""

    RATE_LIMITED = "rate_limited"
    """429, with `retry_after` where the plan has one."""
    SERVER_ERROR = "server_error"
    """500, whose message repeats the request and the key."""
    HTML_502 = "html_502"
    HANG = "hang"
    """No byte, until the caller goes away."""
    DRIP = "drip"
    """A sound head, then a byte now and then: it would take minutes."""
    RESET = "reset"
    RESET_IN_BODY = "reset_in_body"
    MALFORMED_JSON = "malformed_json"
    ERROR_IN_200 = "error_in_200"
    """200, and the body is an error that repeats the request and the key."""
    EMPTY_200 = "empty_200"
    UNAUTHORIZED = "unauthorized"
    """401, whose message repeats the key."""
    REFUSED = "refused"
    """400, whose message repeats the request and the key."""
    ENDLESS = "endless"
    """200 with a body that does not end."""
    REDIRECT = "redirect"
    """307 to another address, which must not be followed."""


class Plan(BaseModel):
    """Faults that strike, in turn by the seed; none: everything passes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    faults: tuple[EndpointFault, ...] = ()
    share: float = Field(default=1.0, ge=0, le=1, description="of the calls that may meet one")
    tries: int | None = Field(default=None, ge=1, description="only so many first calls of a body; null: all")
    retry_after: str | None = Field(default=None, description="header of 429, whatever it says")
    seed: int = 0


class FaultyEndpoint:
    """The proxy's state and routes."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.plan = Plan()
        self.seen: Counter[bytes] = Counter()
        self.struck: Counter[str] = Counter()
        self.redirected = 0
        self._session: aiohttp.ClientSession

    def application(self) -> web.Application:
        application = web.Application(client_max_size=64 << 20)
        application.router.add_put("/endpoint/plan", self.put_plan)
        application.router.add_get("/endpoint/statistics", self.get_statistics)
        application.router.add_post("/elsewhere", self.elsewhere)
        application.router.add_post("/v1/chat/completions", self.complete)
        application.cleanup_ctx.append(self._open)
        return application

    async def _open(self, _: web.Application):  # type: ignore[no-untyped-def]
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        yield
        await self._session.close()

    async def put_plan(self, request: web.Request) -> web.Response:
        self.plan = Plan.model_validate_json(await request.read())
        self.seen.clear()
        return web.Response(status=204)

    async def get_statistics(self, _: web.Request) -> web.Response:
        counts = {"struck": dict(self.struck), "redirected": self.redirected}
        return web.Response(body=orjson.dumps(counts), content_type=_JSON)

    async def elsewhere(self, _: web.Request) -> web.Response:
        """Where the redirect leads: nobody may come here."""
        self.redirected += 1
        return web.Response(body=_COMPLETION, content_type=_JSON)

    def decide(self, body: bytes) -> EndpointFault | None:
        """What this call meets, and counts it."""
        plan = self.plan
        digest = sha256(body).digest()
        before = self.seen[digest]
        self.seen[digest] += 1
        if not plan.faults or (plan.tries is not None and before >= plan.tries):
            return None
        drawn = sha256(b"%d %d " % (plan.seed, before) + digest).digest()
        if int.from_bytes(drawn[:8], "big") >= plan.share * 2**64:
            return None
        return plan.faults[int.from_bytes(drawn[8:16], "big") % len(plan.faults)]

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fault = self.decide(body)
        if fault is None:
            return await self._pass(request, body)
        self.struck[fault.value] += 1
        repeated = f"{request.headers.get('Authorization', '')} asked {body.decode(errors='replace')}"
        match fault:
            case EndpointFault.RATE_LIMITED:
                headers = {} if self.plan.retry_after is None else {"Retry-After": self.plan.retry_after}
                return _error(429, "slow down", "rate_limit_exceeded", headers)
            case EndpointFault.SERVER_ERROR:
                return _error(500, f"it broke at {repeated}", "server_error")
            case EndpointFault.HTML_502:
                return web.Response(text=_HTML, status=502, content_type="text/html")
            case EndpointFault.MALFORMED_JSON:
                return web.Response(body=_COMPLETION[:-9] + b'"}', content_type=_JSON)
            case EndpointFault.ERROR_IN_200:
                return _error(200, f"overloaded by {repeated}", "overloaded")
            case EndpointFault.EMPTY_200:
                return web.Response(body=b"", content_type=_JSON)
            case EndpointFault.UNAUTHORIZED:
                return _error(401, f"incorrect key: {request.headers.get('Authorization')}", "invalid_api_key")
            case EndpointFault.REFUSED:
                return _error(400, f"this cannot be asked: {repeated}", "invalid_request")
            case EndpointFault.REDIRECT:
                return web.Response(status=307, headers={"Location": f"http://{request.host}/elsewhere"})
            case EndpointFault.HANG:
                await asyncio.sleep(3600)
            case EndpointFault.RESET_IN_BODY:
                await self._begin(request, _COMPLETION[: len(_COMPLETION) // 2], len(_COMPLETION))
            case EndpointFault.DRIP:
                response = await self._begin(request, b"", len(_COMPLETION))
                for number in range(len(_COMPLETION)):
                    await asyncio.sleep(_DRIP_SECONDS)
                    await response.write(_COMPLETION[number : number + 1])
                return response
            case EndpointFault.ENDLESS:
                response = await self._begin(request, b"", None)
                while True:
                    await response.write(b" " * 65_536)
        _reset(request)
        return web.Response(status=499)

    async def _pass(self, request: web.Request, body: bytes) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        try:
            async with self._session.post(f"{self.upstream}{request.path_qs}", data=body, headers=headers) as answer:
                content = await answer.read()
                return web.Response(status=answer.status, body=content, content_type=answer.content_type)
        except aiohttp.ClientError as error:
            return _error(502, type(error).__name__, "upstream_away")

    @staticmethod
    async def _begin(request: web.Request, start: bytes, length: int | None) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": _JSON})
        if length is not None:
            response.content_length = length
        await response.prepare(request)
        if start:
            await response.write(start)
        return response


_HOP_BY_HOP = frozenset({"host", "connection", "content-length", "transfer-encoding"})


def _error(status: int, message: str, code: str, headers: dict[str, str] | None = None) -> web.Response:
    body = orjson.dumps({"error": {"message": message, "type": code, "param": None, "code": code}})
    return web.Response(body=body, status=status, headers=headers, content_type=_JSON)


def _reset(request: web.Request) -> None:
    """RST, not a polite end."""
    transport = request.transport
    if transport is not None:
        connected: socket.socket = transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def main() -> None:
    port, upstream = int(sys.argv[1]), sys.argv[2]
    application = FaultyEndpoint(upstream).application()
    # A caller that went away ends its handler: else hangs and drips would pile up.
    web.run_app(application, host="127.0.0.1", port=port, print=None, access_log=None, handler_cancellation=True)


if __name__ == "__main__":
    main()
