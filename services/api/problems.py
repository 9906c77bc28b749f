"""Every error as RFC 9457 `application/problem+json`: what was seen, why it is wrong, what to set, and where. The two
routes that are OpenAI's have OpenAI's shape instead.

No problem carries a stack, a query or a secret: unknown errors become a bare 500 whose details are in the log only.
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from services.api.gateway.errors import error_body, is_live_path, kind_of
from shared.artifacts.protocol import ObjectNotFound
from shared.domain.annotations import AnnotationTaskNotFound
from shared.domain.deployments import DeploymentConflict, DeploymentNotFound
from shared.domain.errors import InputRefused, MultifacetError
from shared.domain.profiles import ProfileNotFound
from shared.metadata.repositories.benches import BenchNotFound
from shared.metadata.repositories.jobs import JobConflict, JobNotFound
from shared.metadata.repositories.models import ModelNotFound
from shared.metadata.repositories.profiles import ProfileExists
from shared.telemetry.logs import error_place

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:multifacet:problem:"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_SECRET_FIELDS = frozenset({"key", "password", "token", "authorization"})


class ProblemError(BaseModel):
    """One fault of the request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the body, or `/<name>` of a parameter")
    detail: str
    location: str = Field(default="body", alias="in", description="body, query, path or header")


class ProblemBody(BaseModel):
    """RFC 9457 problem details, as every error of this api has them."""

    type: str = Field(examples=["urn:multifacet:problem:input_refused"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str
    instance: str = Field(description="path of the request")
    code: str = Field(description="stable, for programs", examples=["input_refused"])
    errors: list[ProblemError] = Field(default_factory=list)


class Problem(MultifacetError):
    """An error answer with everything that the client shall see."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = [{"in": "body", **error} for error in errors]
        self.headers = dict(headers or {})
        self.extensions = dict(extensions or {})


_WORDS = {
    "extra_forbidden": "there is no option of this name here; check its spelling",
    "missing": "this is required and was not given",
}
"""In place of pydantic's words for faults whose place says the most."""


class BodyTooLarge(HTTPException):
    """413, raised while a body is read: FastAPI lets only its own exceptions through its parsing."""

    def __init__(self, detail: str) -> None:
        super().__init__(413, detail)


def not_found(what: str, identifier: str) -> Problem:
    """404 for a thing that is not in the caller's project (whether or not it exists elsewhere)."""
    return Problem(404, "not_found", f"no {what} {identifier!r} in this project")


class ProblemResponse(JSONResponse):
    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False).encode()


def problem_response(path: str, problem: Problem) -> Response:
    """The answer for a problem at `path`: on OpenAI's routes in OpenAI's shape."""
    if is_live_path(path):
        code = "invalid_api_key" if problem.status == HTTPStatus.UNAUTHORIZED else problem.code
        error = error_body(problem.detail, kind_of(problem.status), None, code)
        return Response(error, problem.status, problem.headers, "application/json")
    body = {
        **problem.extensions,
        "type": TYPE_PREFIX + problem.code,
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": _encodable(problem.detail),
        "instance": _encodable(path),
        "code": problem.code,
        "errors": [{name: _encodable(text) for name, text in error.items()} for error in problem.errors],
    }
    return ProblemResponse(body, status_code=problem.status, headers=problem.headers)


def translate(error: Exception) -> Problem:
    """The problem that an exception of ours stands for; a bare 500 for all others."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, InputRefused):
        faults = [{"pointer": error.pointer or "", "detail": str(error)}]
        return Problem(422, error.code, str(error), errors=faults)
    if isinstance(
        error,
        JobNotFound | ModelNotFound | ProfileNotFound | DeploymentNotFound | BenchNotFound | AnnotationTaskNotFound,
    ):
        return Problem(404, "not_found", str(error))
    if isinstance(error, JobConflict | ProfileExists | DeploymentConflict):
        return Problem(409, error.code, str(error))
    if isinstance(error, ObjectNotFound):
        return Problem(410, error.code, "the stored object is gone; the job that made it can be run again")
    if isinstance(error, BodyTooLarge):
        return Problem(413, "content_too_large", error.detail)
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        detail = error.detail if isinstance(error.detail, str) else status.phrase
        return Problem(status, status.name.lower(), detail, headers=error.headers)
    return Problem(500, "internal_error", "the server failed at this request; its log says why")


def refuse_validation(error: RequestValidationError) -> Problem:
    """422 with a JSON pointer for every fault that pydantic found."""
    faults = []
    found = error.errors()
    for fault in found:
        location = list(fault["loc"])
        if fault["type"] == "too_short" and any(
            len(other["loc"]) > len(location) and list(other["loc"][: len(location)]) == location for other in found
        ):
            continue  # pydantic does not count items that are invalid themselves: the list may be long enough
        place = (
            str(location[0]) if location and location[0] in {"body", "query", "path", "header", "cookie"} else "body"
        )
        inside = location[1:] if location and location[0] == place else location
        if fault["type"] == "json_invalid":
            faults.append({"in": place, "pointer": "", "detail": f"the body is not JSON: {fault['ctx']['error']}"})
            continue
        if place == "body":
            inside = _path_within(error.body, inside, missing=fault["type"] == "missing")
        text = _WORDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
        faults.append({"in": place, "pointer": pointer_of(inside), "detail": text + _seen(fault, inside)})
    first = faults[0] if faults else {"pointer": "", "detail": "the request cannot be read"}
    where = f" at {first['pointer']}" if first["pointer"] else ""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Problem(422, "invalid_request", f"{first['detail']}{where}{more}", errors=faults)


def pointer_of(path: Sequence[object]) -> str:
    """The JSON pointer (RFC 6901) of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem."""

    async def ours(request: Request, error: Exception) -> Response:
        problem = translate(error)
        if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
            problem.headers["Allow"] = ", ".join(_allowed(app, request))
        return problem_response(request.url.path, problem)

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(request.url.path, refuse_validation(error))

    app.add_exception_handler(MultifacetError, ours)
    app.add_exception_handler(HTTPException, ours)
    app.add_exception_handler(RequestValidationError, validation)


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """The methods that a path takes by all of its routes: the error names those of the first one only."""

    def taken(method: str) -> bool:
        return any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in app.routes)

    return [method for method in _METHODS if taken(method)]


def log_unexpected(path: str, error: Exception) -> None:
    """Log an error nobody expected: its class and place, never its text, which may hold a prompt or a value."""
    log.error("request_failed", path=path, error=error_place(error))


def _path_within(body: object, path: Sequence[object], *, missing: bool) -> list[object]:
    """The part of pydantic's location that is a path in `body`: pydantic adds names of union members and validators."""
    result: list[object] = []
    current = body
    for number, part in enumerate(path):
        try:
            current = current[part]  # type: ignore[index]
        except (LookupError, TypeError):
            if not (missing and number == len(path) - 1):
                continue
        result.append(part)
    return result


def _seen(fault: Mapping[str, Any], path: Sequence[object]) -> str:
    value = fault.get("input")
    secret = any(str(part).lower() in _SECRET_FIELDS for part in path)
    if fault["type"] == "missing" or secret or not isinstance(value, str | int | float | bool | None):
        return ""
    text = repr(value)
    return f"; seen: {text if len(text) <= 80 else text[:77] + '...'}"


def _encodable(text: str) -> str:
    """Without lone surrogates, which JSON text in UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
