"""JSON in and out of requests."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from services.inference.cpu_server.http.errors import ErrorBody, Refusal
from services.inference.cpu_server.http.replies import encode

Body = TypeVar("Body")


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request whose content is said to be JSON. Raises Refusal: 415 for another type, 413 beyond `limit` bytes.

    Asking for the type keeps pages of other origins out: a browser does not send JSON across origins without asking first.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Refusal.invalid(
            f"the body's content-type is {kind[:60] or 'not given'}; send JSON with `content-type: application/json`",
            status=415,
        )
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def decode(data: bytes, decoder: "msgspec.json.Decoder[Body]") -> Body:
    """Raises Refusal: 400 for what is no JSON, 422 for what is not of the right form."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise Refusal.invalid(f"the body has not the form of this route: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal.invalid(f"the body is not JSON: {error}", status=400) from error


def json_response(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode(body), status, headers, "application/json")


def error_response(refusal: Refusal, *, streamed: bool = False) -> Response:
    """`streamed`: the body is one event, which is how `/generate_stream` is documented to answer errors."""
    body: ErrorBody = refusal.body
    if streamed:
        return Response(b"data: " + encode(body) + b"\n\n", refusal.status, media_type="text/event-stream")
    headers = {"retry-after": "1"} if refusal.status in (429, 503) else None
    return json_response(body, status=refusal.status, headers=headers)


def _too_large(limit: int) -> Refusal:
    return Refusal.invalid(f"the body is larger than {limit} bytes; send less at once", status=413)
