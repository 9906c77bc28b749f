"""From what a server answered instead of an answer to one of our errors, whatever shape its body has."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

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
from shared.llm.transport import parse_retry_after

LONGEST_ERROR_BODY = 64 * 1024
"""Bytes of an error's body that are read."""
_LONGEST_QUOTE = 300
_ECHO = re.compile(r"""["'](?:input|ctx|body)["']\s*:|input_value\s*=|\[.{0,20}"role""")
"""Where a server's message begins to repeat what was sent: prompts belong in no error."""
_LONG_QUOTATION = re.compile(r"""(["'`])(?:(?!\1).){80,}(?:\1|$)""", re.DOTALL)
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


class Complaint(msgspec.Struct, frozen=True):
    """What an error's body says. `kind`: TGI's error_type, OpenAI's type or code; `status`: where the body names one."""

    message: str = ""
    kind: str = ""
    status: int | None = None


def error_of_reply(status: int, headers: Mapping[str, str], body: bytes, server: str) -> ModelServerError:
    """The error of a reply that is no answer. `server` is what messages call it."""
    retry_after = parse_retry_after(headers.get("Retry-After"))
    if 300 <= status < 400:
        return ServerUnavailable(
            f"{server} answers {status}, which sends callers to another address; that is not followed: configure the address "
            "where it answers",
            status=status,
        )
    complaint = read_complaint(body)
    said = quoted(complaint.message) or _what_it_is(body)
    return _error(complaint, status, said, server, retry_after)


def error_of_event(payload: Any, server: str) -> ModelServerError:
    """The error that stands in the middle of a stream. `payload` is the event's decoded JSON."""
    complaint = complaint_of(payload)
    return _error(complaint, None, quoted(complaint.message) or "an error without words", server, None)


def read_complaint(body: bytes) -> Complaint:
    """What a body says: TGI's, OpenAI's (both of vLLM's shapes), FastAPI's or a problem (RFC 9457); empty where it is none."""
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError):
        return Complaint()
    return complaint_of(decoded)


def complaint_of(decoded: Any) -> Complaint:
    if not isinstance(decoded, dict):
        return Complaint()
    error = decoded.get("error")
    if isinstance(error, dict):
        code = error.get("code")
        number = error.get("http_status_code", code)
        kind = code if isinstance(code, str) and code else error.get("type")
        return Complaint(_text(error.get("message")), _text(kind), number if isinstance(number, int) else None)
    if isinstance(error, str):
        return Complaint(error, _text(decoded.get("error_type")))
    number = decoded.get("code", decoded.get("status"))
    message = _text(decoded.get("message")) or _detail(decoded.get("detail")) or _text(decoded.get("title"))
    return Complaint(message, _text(decoded.get("type")), number if isinstance(number, int) else None)


def quoted(message: str) -> str:
    """A server's own words, short, without what they repeat of the request."""
    echo = _ECHO.search(message)
    if echo is not None:
        message = message[: echo.start()] + "…"
    message = _LONG_QUOTATION.sub("…", message)
    return " ".join(message.split())[:_LONGEST_QUOTE]


def _error(
    complaint: Complaint, status: int | None, said: str, server: str, retry_after: float | None
) -> ModelServerError:
    too_long = _too_long(complaint)
    text = f"{server} answers {status}: {said}" if status is not None else f"{server} broke off its answer: {said}"
    if too_long is not None and status in {None, 400, 413, 422}:
        beyond = f" ({too_long} tokens too many)" if too_long and "too many" not in said else ""
        return PromptTooLong(f"{text}{beyond}", status=status, by_tokens=too_long or None)
    kind = _of_kind(complaint) or _of_status(complaint.status if status is None else status, complaint)
    if kind is Unauthorized:
        # Servers repeat parts of a key that they do not know.
        text = f"{server} does not take the key it was sent ({status or complaint.status}); set the right one"
    return kind(text, status=status, retry_after=retry_after if kind.passing else None)


_TGI_KINDS: dict[str, type[ModelServerError]] = {
    "validation": InvalidRequest,
    "template_error": InvalidRequest,
    "missing_template_variable": InvalidRequest,
    "tool_error": InvalidRequest,
    "generation": GenerationFailed,
    "overloaded": Overloaded,
    "incomplete_generation": GenerationIncomplete,
    "incomplete_generation_stream": GenerationIncomplete,
    "stream_serialization_error": GenerationFailed,
    "healthcheck": ServerUnavailable,
}
_TGI_WORDS: tuple[tuple[str, type[ModelServerError]], ...] = (
    ("Model is overloaded", Overloaded),
    ("Request failed during generation", GenerationFailed),
    ("Incomplete generation", GenerationIncomplete),
    ("Input validation error", InvalidRequest),
)
"""TGI's chat stream calls every error 422 and gives no type: only its words tell (router/src/infer/mod.rs)."""


def _of_kind(complaint: Complaint) -> type[ModelServerError] | None:
    found = _TGI_KINDS.get(complaint.kind)
    if found is None:
        found = next((kind for words, kind in _TGI_WORDS if complaint.message.startswith(words)), None)
    return found


def _of_status(status: int | None, complaint: Complaint) -> type[ModelServerError]:
    if complaint.kind in _QUOTA_CODES:
        return Unauthorized
    if status is None:
        name = complaint.kind.lower()
        if "overloaded" in name or "rate_limit" in name:
            return Overloaded
        return InvalidRequest if "invalid" in name or "badrequest" in name else GenerationFailed
    if status in {401, 403}:
        return Unauthorized
    if status in {408, 504}:
        return ServerTimedOut
    if status == 424:
        return GenerationFailed
    if status == 429:
        return Overloaded
    if status in {502, 503}:
        return ServerUnavailable
    if status < 300:
        return GenerationIncomplete
    return InvalidRequest if status < 500 else GenerationFailed


_Excess = Callable[[re.Match[str]], int]


def _given_over_limit(match: re.Match[str]) -> int:
    return int(match["given"]) - int(match["limit"])


_TOO_LONG: tuple[tuple[re.Pattern[str], _Excess], ...] = (
    (
        re.compile(
            r"must be <= (?P<limit>\d{1,9})\. Given: (?P<given>\d{1,9}) `inputs` tokens and (?P<new>\d{1,9}) `max_new_tokens`"
        ),
        lambda match: int(match["given"]) + int(match["new"]) - int(match["limit"]),
    ),
    (
        re.compile(r"`inputs` must have less than (?P<limit>\d{1,9}) tokens\. Given: (?P<given>\d{1,9})"),
        _given_over_limit,
    ),
    (
        re.compile(
            r"is too large: (?P<new>\d{1,9})\. .*context length is (?P<limit>\d{1,9}) tokens.* has (?P<given>\d{1,9}) input"
        ),
        lambda match: int(match["given"]) + int(match["new"]) - int(match["limit"]),
    ),
    (
        re.compile(
            r"context length (?:is|of) (?P<limit>\d{1,9}) tokens.*?(?:requested(?: a total of)?|resulted in|request has"
            r"|prompt contains) (?P<given>\d{1,9}) (?:input )?(?:tokens|in the messages)"
        ),
        _given_over_limit,
    ),
    (
        re.compile(
            r"input \((?P<given>\d{1,9}) tokens\) is longer than the model's context length \((?P<limit>\d{1,9}) tokens\)"
        ),
        _given_over_limit,
    ),
    (re.compile(r"(?P<excess>\d{1,9}) tokens too many"), lambda match: int(match["excess"])),
)
"""In turn: TGI's two, those of vLLM, OpenAI and SGLang, and our own server's. Newer vLLM counts a prompt no further than to the
first token too many (“at least”): what it tells is no excess."""
_TOO_LONG_WORDS = (
    "maximum context length",
    "model's context length is only",
    "longer than the model's context length",
    "longer than the maximum model length",
)


def _too_long(complaint: Complaint) -> int | None:
    """By how many tokens the prompt is too long; 0 where the message does not tell, None where it is about something else."""
    for pattern, excess in _TOO_LONG:
        match = pattern.search(complaint.message)
        if match is not None:
            return max(excess(match), 0)
    if complaint.kind == "context_length_exceeded" or any(words in complaint.message for words in _TOO_LONG_WORDS):
        return 0
    return None


def _what_it_is(body: bytes) -> str:
    """Words for a body that says nothing in a known shape. It is not quoted: it may repeat a prompt."""
    start = body[:200].lstrip()[:1]
    if not body.strip():
        return "an empty body"
    return "an HTML page" if start == b"<" else f"{len(body)} bytes that are no error of a model server"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _detail(value: Any) -> str:
    """FastAPI's `detail`: a text, or a list of places and messages beside the input, which is left out."""
    if isinstance(value, list):
        return "; ".join(
            f"{_place(part.get('loc'))}{_text(part.get('msg'))}" for part in value if isinstance(part, dict)
        )
    return _text(value)


def _place(steps: Any) -> str:
    return ".".join(str(step) for step in steps) + ": " if isinstance(steps, list) else ""
