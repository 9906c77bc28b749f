"""Who asks, and whether they may: API keys, browser sessions, and the loopback mode without keys.

`Gate` stands before routing, so that nobody unknown gets a body parsed. It puts a `Caller` into the request's state;
routes ask for a scope with `require`.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.gateway.errors import is_live_path
from services.api.problems import BodyTooLarge, Problem, log_unexpected, problem_response, translate
from services.api.state import ApiState
from shared.domain.errors import MultifacetError
from shared.metadata.repositories.api_keys import SCOPES, ApiKeyRepository, LiveKey
from shared.settings import Settings

SESSION_COOKIE = "multifacet_session"
SESSION_SECONDS = 12 * 3600
DEFAULT_PROJECT = "default"
JSON_LIMIT_BYTES = 8 << 20
UPLOAD_PATH = "/v1/files"
LAUNCHER_PATH = "/v1/launchers/"
"""Launchers of model servers have a token of their own, which the routes below ask for."""
LAUNCHER_LIMIT_BYTES = 512 << 10
METRICS_PATH = "/metrics"
"""So has whoever reads metrics."""
_OPEN_PATHS = ("/v1/session", LAUNCHER_PATH)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_IMPLIED = {
    "chat": {"chat", "write", "admin"},
    "read": {"read", "write", "admin"},
    "write": {"write", "admin"},
    "admin": {"admin"},
}
"""A scope is granted by itself and by every stronger one. Reading costs nothing and calling models does, so `read` does not
grant `chat`."""


class Caller(msgspec.Struct, frozen=True):
    """Who sent the request. `session` tells a browser's cookie from a key. `live` is known on OpenAI's routes alone: the key
    whose limits count there."""

    project_id: str
    scopes: tuple[str, ...]
    key_id: str | None = None
    session: bool = False
    live: LiveKey | None = None

    def may(self, scope: str) -> bool:
        return bool(_IMPLIED[scope].intersection(self.scopes))


class LoopbackRefused(MultifacetError):
    """The loopback mode was asked for on an address that others can reach: the process must not start."""

    code = "loopback_refused"


def check_settings(settings: Settings) -> None:
    """Raise LoopbackRefused where no keys are asked for and the api would listen beyond this machine."""
    if settings.authentication == "loopback" and not is_loopback(settings.api_host):
        raise LoopbackRefused(
            f"MULTIFACET_AUTHENTICATION=loopback asks for no key, but MULTIFACET_API_HOST={settings.api_host} can be reached "
            "from other machines; set MULTIFACET_API_HOST=127.0.0.1 or MULTIFACET_AUTHENTICATION=keys"
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address (without port) is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


async def identify(state: ApiState, secret: str) -> Caller | None:
    """The caller that a key or session secret belongs to."""
    async with state.transaction() as session:
        key = await ApiKeyRepository(session).find(secret)
    if key is None:
        return None
    return Caller(key.project_id, tuple(key.scopes), key.id, session=key.id.startswith("session_"))


async def identify_reader(state: ApiState, secret: str) -> Caller | None:
    """As `identify`, from memory, for requests that change nothing: a key that was revoked in another process of the api, or
    has expired, is taken for up to five seconds more."""
    key = await state.gateway.keys.find(secret)
    if key is None:
        return None
    return Caller(key.project_id, key.scopes, key.id, session=key.id != key.counted_as)


async def identify_live(state: ApiState, secret: str) -> Caller | None:
    """As `identify`, from memory: a key that was revoked elsewhere is taken for up to five seconds more."""
    key = await state.gateway.keys.find(secret)
    if key is None:
        return None
    return Caller(key.project_id, key.scopes, key.id, session=key.id != key.counted_as, live=key)


async def start_session(state: ApiState, key: str) -> str:
    """Trade an API key for a browser session; returns the session's secret. Raises Problem (401) for an invalid key."""
    async with state.transaction() as session:
        repository = ApiKeyRepository(session)
        found = await repository.find(key)
        if found is None or not found.id.startswith("key_"):
            raise Problem(401, "unauthorized", "this key is unknown, expired or revoked")
        return await repository.create_session(found, SESSION_SECONDS)


async def end_session(state: ApiState, secret: str) -> None:
    """End a browser session."""
    async with state.transaction() as session:
        await ApiKeyRepository(session).end_session(secret)
    state.gateway.keys.forget_secret(secret)


def set_session_cookie(response: Response, secret: str, *, secure: bool) -> None:
    """Give the browser its session: no script reads it, no other site's request carries it."""
    response.set_cookie(
        SESSION_COOKIE, secret, max_age=SESSION_SECONDS, path="/", secure=secure, httponly=True, samesite="strict"
    )


def clear_session_cookie(response: Response) -> None:
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")


class Gate:
    """ASGI middleware: Host and Origin, size of the body, and the caller. Paths under /v1 need one; pages decide themselves."""

    def __init__(self, app: ASGIApp, settings: Settings, state: Callable[[], ApiState]) -> None:
        self._app = app
        self._settings = settings
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check_target(scope)
            if self._settings.authentication == "loopback":
                self._check_loopback(headers)
            scope.setdefault("state", {})["caller"] = await self._caller(scope, headers)
            await self._app(scope, _limited(scope, headers, receive, self._settings), watched)
        except Exception as error:
            if started:
                raise
            problem = translate(error)
            if problem.status == 500:
                log_unexpected(scope["path"], error)
            await problem_response(scope["path"], problem)(scope, receive, send)

    def _check_target(self, scope: Scope) -> None:
        if "\0" in scope["path"] or b"%00" in scope.get("query_string", b"") or b"\0" in scope.get("query_string", b""):
            raise Problem(
                400, "bad_request", "the path or query holds a NUL character, which no name or text here can have"
            )

    def _check_loopback(self, headers: Headers) -> None:
        """Without keys, a web page of another site must not be able to speak to this server (DNS rebinding, forged forms)."""
        host = headers.get("host", "")
        if not is_loopback(urlsplit(f"//{host}").hostname or ""):
            raise Problem(
                403,
                "host_refused",
                f"the Host header is {host!r}; without keys only localhost and 127.0.0.1 are served",
            )
        self._check_origin(headers)

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            raise Problem(
                403, "origin_refused", f"the request comes from a page of {origin!r}, not from this server's own"
            )

    async def _caller(self, scope: Scope, headers: Headers) -> Caller | None:
        path = scope["path"]
        needed = path.startswith("/v1/") and not path.startswith(_OPEN_PATHS)
        if self._settings.authentication == "loopback":
            return Caller(DEFAULT_PROJECT, SCOPES)
        if path.startswith(LAUNCHER_PATH) or path == METRICS_PATH:
            return None
        find = identify_reader if scope["method"] in _SAFE_METHODS else identify
        if is_live_path(path):
            find = identify_live
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if secret:
            caller = await find(self._state(), secret.strip()) if kind.lower() == "bearer" else None
            if caller is None and needed:
                raise _unauthorized(
                    "this key is unknown, expired or revoked, or was not sent as `Authorization: Bearer mf_…`"
                )
            return caller
        cookie = cookie_parser(headers.get("cookie", "")).get(SESSION_COOKIE)
        if cookie:
            if scope["method"] not in _SAFE_METHODS:
                self._check_origin(headers)
                if headers.get("origin") is None and headers.get("sec-fetch-site") not in {"same-origin", "none"}:
                    raise Problem(
                        403, "origin_refused", "a browser session may write only from this server's own pages"
                    )
            caller = await find(self._state(), cookie)
            if caller is not None:
                return caller
        if needed:
            raise _unauthorized("send an API key as `Authorization: Bearer mf_…`, or log in at /login")
        return None


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="multifacet"'})


def _limited(scope: Scope, headers: Headers, receive: Receive, settings: Settings) -> Receive:
    """`receive` that stops at the largest body allowed here."""
    upload = scope["path"] == UPLOAD_PATH
    # A multipart envelope adds its headers to the file.
    limit = settings.upload_limit_bytes + (64 << 10) if upload else JSON_LIMIT_BYTES
    if scope["path"].startswith(LAUNCHER_PATH):
        limit = LAUNCHER_LIMIT_BYTES
    announced = headers.get("content-length", "")
    name = "MULTIFACET_UPLOAD_LIMIT_BYTES" if upload else "the limit of a JSON body"
    if announced.isdigit() and int(announced) > limit:
        raise Problem(413, "content_too_large", f"the body has {announced} bytes; {name} allows {limit}")
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        if message["type"] == "http.request":
            total += len(message.get("body", b""))
            if total > limit:
                raise BodyTooLarge(f"the body has more than the {limit} bytes that {name} allows")
        return message

    return counted


def bears(request: Request, token: str) -> bool:
    """Whether the request sends this token as `Authorization: Bearer …`."""
    kind, _space, secret = request.headers.get("authorization", "").partition(" ")
    # Hashes of one length, so that the time taken tells nothing of the token.
    given, known = sha256(secret.strip().encode()).digest(), sha256(token.encode()).digest()
    return kind.lower() == "bearer" and compare_digest(given, known)


_launcher_bearer = HTTPBearer(
    auto_error=False, scheme_name="launcher token", description="MULTIFACET_LAUNCHER_TOKEN, of launchers alone"
)


async def require_launcher(request: Request, _: Annotated[Any, Security(_launcher_bearer)] = None) -> None:
    """Let launchers of model servers through. Loopback mode asks for no token, as it asks for no key."""
    settings = request.app.state.api.settings
    if settings.authentication == "loopback":
        return
    token = settings.launcher_token.get_secret_value().strip()
    if not token:
        raise Problem(
            403,
            "launchers_refused",
            "no launcher is heard here: set MULTIFACET_LAUNCHER_TOKEN for the api and launchers",
        )
    if not bears(request, token):
        raise Problem(
            401,
            "unauthorized",
            "send MULTIFACET_LAUNCHER_TOKEN of the api as `Authorization: Bearer …`",
            headers={"WWW-Authenticate": 'Bearer realm="multifacet launchers"'},
        )


_bearer = HTTPBearer(auto_error=False, scheme_name="api key", description="An API key: `mf_…`")


def require(scope: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency that gives the caller, or answers 403 without the scope."""

    async def caller_with_scope(request: Request, _: Annotated[Any, Security(_bearer)] = None) -> Caller:
        caller: Caller | None = getattr(request.state, "caller", None)
        if caller is None:
            raise _unauthorized("send an API key as `Authorization: Bearer mf_…`, or log in at /login")
        if not caller.may(scope):
            raise Problem(
                403, "forbidden", f"this needs the scope {scope!r}; the key has {', '.join(caller.scopes) or 'none'}"
            )
        return caller

    return caller_with_scope


Reader = Annotated[Caller, Depends(require("read"))]
Writer = Annotated[Caller, Depends(require("write"))]
Administrator = Annotated[Caller, Depends(require("admin"))]
