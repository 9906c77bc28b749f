"""Errors of the two OpenAI routes in OpenAI's own shape: `{"error": {message, type, param, code}}`."""

import math
from collections.abc import Mapping

import orjson

from shared.domain.errors import InputRefused, MultifacetError
from shared.llm.servers.errors import (
    GenerationFailed,
    GenerationIncomplete,
    InvalidRequest,
    ModelServerError,
    Overloaded,
    PromptTooLong,
    ServerTimedOut,
    ServerUnavailable,
    Unauthorized,
)

CHAT_PATH = "/v1/chat/completions"
MODELS_PATH = "/v1/models"

_NO_RETRY = {"x-should-retry": "false"}
"""OpenAI's clients try 429 and 5xx again unless this header says no."""


class LiveError(MultifacetError):
    """An error answer in OpenAI's shape. `param` names the field, `code` is for programs."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = dict(headers or {})
        self.kind = kind or kind_of(status)


def is_live_path(path: str) -> bool:
    """Whether a path is one of OpenAI's routes, whose errors have OpenAI's shape."""
    return path in {CHAT_PATH, MODELS_PATH} or path.startswith(MODELS_PATH + "/")


def kind_of(status: int) -> str:
    """OpenAI's `type` of an error with that status."""
    if status >= 500:
        return "server_error"
    return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error"
    )


def error_body(message: str, kind: str, param: str | None, code: str | None) -> bytes:
    """The error as JSON. Lone surrogates, which UTF-8 cannot hold, are replaced."""
    parts = {"message": _encodable(message), "type": kind, "param": param and _encodable(param), "code": code}
    return orjson.dumps({"error": parts})


def refused(message: str, param: str | None, code: str = "invalid_value") -> LiveError:
    """400 for a field of the request."""
    return LiveError(400, code, message, param=param)


def param_of(pointer: str) -> str:
    """`preferences[0].seed` of the JSON pointer `/preferences/0/seed`: how OpenAI names a place."""
    text = ""
    for part in pointer.removeprefix("/").split("/") if pointer else ():
        name = part.replace("~1", "/").replace("~0", "~")
        text += f"[{name}]" if name.isdigit() else f".{name}" if text else name
    return text


def of_input(error: InputRefused) -> LiveError:
    """400 for what the request names and cannot be used."""
    return refused(str(error), param_of(error.pointer or "") or None)


def of_server(error: ModelServerError, model: str) -> LiveError:
    """What a model server's error is for the client."""
    wait = {"retry-after": str(max(1, math.ceil(error.retry_after or 1.0)))}
    if isinstance(error, PromptTooLong):
        by = "" if error.by_tokens is None else f" by {error.by_tokens:,} tokens"
        text = f"The conversation is too long for the model {model!r}{by}; shorten the messages or lower max_tokens. "
        return LiveError(400, "context_length_exceeded", text + f"The server says: {error}", param="messages")
    if isinstance(error, InvalidRequest):
        return LiveError(400, error.code, f"The server of the model {model!r} refuses this: {error}")
    if isinstance(error, Unauthorized):
        text = f"The server of the model {model!r} does not take the key that it is called with; tell the operator."
        return LiveError(502, error.code, text, headers=_NO_RETRY)
    if isinstance(error, Overloaded):
        text = f"The server of the model {model!r} has too many requests now; try again later."
        return LiveError(503, error.code, text, headers=wait)
    if isinstance(error, ServerUnavailable):
        text = f"The server of the model {model!r} does not answer now; try again later."
        return LiveError(503, error.code, text, headers=wait)
    if isinstance(error, ServerTimedOut):
        return LiveError(504, error.code, f"The server of the model {model!r} did not answer in time.")
    if isinstance(error, GenerationIncomplete):
        return LiveError(502, error.code, f"The answer of the model {model!r} broke off before its end.")
    assert isinstance(error, GenerationFailed) or type(error) is ModelServerError
    return LiveError(502, error.code, f"The server of the model {model!r} failed at this request.")


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
