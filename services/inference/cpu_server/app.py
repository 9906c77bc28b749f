"""The routes put together: which path takes which body, and what is answered while there is no model."""

import traceback
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.inference.cpu_server.http.bodies import ChatBody, CompletionBody, GenerateBody, ScoreBody
from services.inference.cpu_server.http.chat import chat
from services.inference.cpu_server.http.completions import completions
from services.inference.cpu_server.http.errors import Refusal
from services.inference.cpu_server.http.facts import info, metrics, models
from services.inference.cpu_server.http.json_bodies import decode, error_response, read_body
from services.inference.cpu_server.http.native import compatible, generate, generate_stream
from services.inference.cpu_server.http.scores import score
from services.inference.cpu_server.http.sequences import Service
from services.inference.cpu_server.http.streams import ClientGone, unless_gone
from services.inference.cpu_server.http.tokens import chat_tokenize, tokenize
from services.inference.cpu_server.lifecycle import Lifecycle

log = structlog.get_logger(__name__)

CLIENT_GONE = 499
"""Nobody reads it; as nginx calls it."""

Body = TypeVar("Body")
Handler = Callable[[Service, Body], Awaitable[Response]]


def build_app(lifecycle: Lifecycle) -> ASGIApp:
    """All routes of a server. They answer 503 until `lifecycle` has a service, and again once it closes."""

    def told(tell: Callable[[Service], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:  # noqa: ARG001 - starlette's form
            # Also while closing: what is being finished can still be looked at.
            if lifecycle.service is None:
                return error_response(_unavailable(lifecycle))
            return tell(lifecycle.service)

        return endpoint

    async def health(request: Request) -> Response:  # noqa: ARG001
        return error_response(_unavailable(lifecycle)) if lifecycle.fault is not None else Response()

    def answered(
        handler: Handler[Body], kind: type[Body], *, counted: bool = True, streamed: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        return _endpoint(lifecycle, handler, msgspec.json.Decoder(kind), counted=counted, streamed=streamed)

    routes = [
        Route("/", health, methods=["GET"]),
        Route("/health", health, methods=["GET"]),
        Route("/ping", health, methods=["GET"]),
        Route("/info", told(info), methods=["GET"]),
        Route("/v1/models", told(models), methods=["GET"]),
        Route("/metrics", told(metrics), methods=["GET"]),
        Route("/", answered(compatible, GenerateBody), methods=["POST"]),
        Route("/generate", answered(generate, GenerateBody), methods=["POST"]),
        Route("/generate_stream", answered(generate_stream, GenerateBody, streamed=True), methods=["POST"]),
        Route("/v1/chat/completions", answered(chat, ChatBody), methods=["POST"]),
        Route("/v1/completions", answered(completions, CompletionBody), methods=["POST"]),
        Route("/invocations", _endpoint(lifecycle, _invocations, None), methods=["POST"]),
        Route("/tokenize", answered(tokenize, GenerateBody, counted=False), methods=["POST"]),
        Route("/chat_tokenize", answered(chat_tokenize, ChatBody, counted=False), methods=["POST"]),
        Route("/score", answered(score, ScoreBody), methods=["POST"]),
    ]
    return _Gate(Starlette(routes=routes, exception_handlers={HTTPException: _not_served}), lifecycle)


class _Gate:
    """Counts requests under way, and lets no error's text out of the process: it might quote a prompt."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self._app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        self._lifecycle.entered()
        try:
            await self._app(scope, receive, sending)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text stays inside
            frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            log.error("request_failed", path=scope["path"], error=type(error).__name__, at=frames[-3:])
            if started:
                # The connection must break, or the client would take what it has for the whole answer.
                raise RuntimeError("an answer broke off") from None
            refusal = Refusal("Internal error", status=500, error_type="internal", failure="internal")
            await error_response(refusal)(scope, receive, sending)
        finally:
            self._lifecycle.left()


def _endpoint(
    lifecycle: Lifecycle,
    handler: Handler[Body],
    decoder: "msgspec.json.Decoder[Body] | None",
    *,
    counted: bool = True,
    streamed: bool = False,
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        service = None
        try:
            service = _service(lifecycle)
            if counted:
                service.metrics.requests += 1
            data = await read_body(request, service.limits.payload_limit)
            body: Any = data if decoder is None else decode(data, decoder)
            return await unless_gone(request.receive, handler(service, body))  # type: ignore[arg-type]
        except Refusal as refusal:
            if service is not None:
                service.metrics.failures[refusal.failure] += 1
            return error_response(refusal, streamed=streamed)
        except (ClientGone, ClientDisconnect):
            return Response(status_code=CLIENT_GONE)

    return endpoint


def _service(lifecycle: Lifecycle) -> Service:
    """Raises Refusal (503) while loading and closing."""
    if lifecycle.fault is not None or lifecycle.service is None:
        raise _unavailable(lifecycle)
    return lifecycle.service


def _unavailable(lifecycle: Lifecycle) -> Refusal:
    return Refusal.unavailable(f"unhealthy: {lifecycle.fault}")


class _Kind(msgspec.Struct):
    inputs: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()


_KIND = msgspec.json.Decoder(_Kind)
_GENERATE = msgspec.json.Decoder(GenerateBody)
_CHAT = msgspec.json.Decoder(ChatBody)
_COMPLETION = msgspec.json.Decoder(CompletionBody)


async def _invocations(service: Service, data: bytes) -> Response:
    """SageMaker's one route: the body's form says which of the others is meant."""
    kind = decode(data, _KIND)
    if bytes(kind.inputs):
        return await compatible(service, decode(data, _GENERATE))
    if bytes(kind.messages):
        return await chat(service, decode(data, _CHAT))
    if bytes(kind.prompt):
        return await completions(service, decode(data, _COMPLETION))
    raise Refusal.invalid("the body has none of `inputs`, `messages` and `prompt`; send one of them")


async def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        message, kind = f"{request.url.path} does not take {request.method}", "method_not_allowed"
    else:
        message, kind = f"nothing is served at {request.url.path[:80]}", "not_found"
    return error_response(Refusal(message, status=error.status_code, error_type=kind, failure="validation"))
