"""The wire format: OpenAI's chat completions, as request bytes and as an answer that was checked to be complete."""

import re
from collections.abc import Sequence
from hashlib import sha256
from math import isfinite
from typing import Any

import msgspec
import orjson

from shared.llm.protocol import CompletionRequest, Message
from shared.llm.providers import RepetitionPenalty

_ECHO_CHARACTERS = 16
_LONGEST_MESSAGE = 600
_ESCAPED_SPACE = re.compile(r"\\[nrt]")

CHARACTERS_PER_TOKEN = 4.0
"""Used where nothing was learned yet, and for servers that report no usage."""


class IncompleteAnswer(Exception):
    """A 200 that holds no complete answer (broken JSON, an error object, no choice): to be tried again, never stored."""


class Answer(msgspec.Struct, frozen=True):
    """What a complete 200 said."""

    text: str
    finish_reason: str
    refusal: str | None
    model: str
    prompt_tokens: int | None
    """None: the server reports no usage."""
    completion_tokens: int | None


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Body(msgspec.Struct):
    choices: list[_Choice]
    model: str = ""
    usage: _Usage | None = None
    error: msgspec.Raw | None = None


class _ErrorFields(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None


class _ErrorBody(msgspec.Struct):
    """OpenAI's error, or that of TGI and of our own servers: a text with its kind beside it."""

    error: _ErrorFields | str
    error_type: str | None = None

    @property
    def fields(self) -> _ErrorFields:
        return _ErrorFields(self.error, self.error_type) if isinstance(self.error, str) else self.error


class _Scores(msgspec.Struct):
    scores: list[float]


_decode_scores = msgspec.json.Decoder(_Scores).decode
_decode_body = msgspec.json.Decoder(_Body).decode
_decode_error = msgspec.json.Decoder(_ErrorBody).decode


def encode_request(
    model: str,
    request: CompletionRequest,
    output_limit_parameter: str = "max_tokens",
    repetition_penalty: RepetitionPenalty | None = None,
) -> bytes:
    """The request body. Keys are sorted: equal requests give equal bytes, which the cache key relies on.

    `repetition_penalty` is how the server takes one. Raises ValueError for a request with a penalty to a server that takes none:
    an answer is what was asked for.
    """
    body: dict[str, Any] = {"model": model, "messages": list(request.messages)}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.max_tokens is not None:
        body[output_limit_parameter] = request.max_tokens
    if request.repetition_penalty is not None:
        if repetition_penalty is None:
            raise ValueError(f"{model} is asked with a repetition penalty, but its server takes none")
        body |= _penalty(request.repetition_penalty, repetition_penalty)
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": request.schema_name or "answer", "strict": True, "schema": request.schema},
        }
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def _penalty(value: float, way: RepetitionPenalty) -> dict[str, float]:
    if way == "tgi":
        # TGI 3.3.7, router/src/lib.rs, ChatRequest::try_into_generate: repetition_penalty = presence_penalty + 2.
        return {"presence_penalty": round(value - 2.0, 6)}
    return {"repetition_penalty": value}


def encode_conversations(conversations: Sequence[Sequence[Message]]) -> bytes:
    """The body of a call for scores."""
    return orjson.dumps({"conversations": [list(messages) for messages in conversations]}, option=orjson.OPT_SORT_KEYS)


def decode_scores(body: bytes, expected: int) -> list[float]:
    """The scores in a 200's body. Raises IncompleteAnswer where there are not as many, or one is no finite number."""
    try:
        scores = _decode_scores(body).scores
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IncompleteAnswer(f"the answer holds no scores ({len(body)} bytes): {error}") from error
    if len(scores) != expected or not all(isfinite(score) for score in scores):
        raise IncompleteAnswer(f"{len(scores)} scores came for {expected} conversations, or one is no finite number")
    return scores


def cache_key(project_id: str, provider: str, model: str, body: bytes, sample_index: str) -> bytes:
    """sha256 of everything that makes two calls the same call. Parts are length-prefixed, so they cannot run together."""
    digest = sha256()
    for part in (project_id.encode(), provider.encode(), model.encode(), sample_index.encode(), body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def decode_answer(body: bytes) -> Answer:
    """The answer in a 200's body. Raises IncompleteAnswer."""
    try:
        decoded = _decode_body(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IncompleteAnswer(f"the answer is no chat completion ({len(body)} bytes): {error}") from error
    if decoded.error is not None and bytes(decoded.error) != b"null":
        raise IncompleteAnswer(f"a 200 that holds an error: {error_code(body) or 'without a code'}")
    if not decoded.choices:
        raise IncompleteAnswer("the answer has no choice")
    choice = decoded.choices[0]
    if choice.finish_reason is None:
        raise IncompleteAnswer("the answer has no finish_reason: it was cut off")
    usage = decoded.usage
    return Answer(
        text=choice.message.content or "",
        finish_reason=choice.finish_reason,
        refusal=choice.message.refusal or None,
        model=decoded.model,
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        completion_tokens=None if usage is None else usage.completion_tokens,
    )


def error_code(body: bytes) -> str:
    """The provider's own code or type of an error body; empty when it has none."""
    try:
        fields = _decode_error(body).fields
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return str(fields.code or fields.type or "")


def error_summary(body: bytes, sent: bytes = b"", key: str | None = None) -> str:
    """What a person may read of an error body, at most 300 characters: without what it repeats of `sent` (the request's body)
    and of the `key`. A body that is no error object is named, not quoted: it may hold either in any shape."""
    try:
        fields = _decode_error(body).fields
    except (msgspec.DecodeError, UnicodeDecodeError):
        start = body[:200].lstrip()[:1]
        if not body.strip():
            return "an empty body"
        return "an HTML page" if start == b"<" else f"{len(body)} bytes that are no error object"
    message = _without_echo(" ".join((fields.message or "")[:_LONGEST_MESSAGE].split()), sent)
    text = " ".join(str(part) for part in (fields.code or fields.type, message) if part)
    if key:
        text = text.replace(key, "…")
    return text[:300]


def _without_echo(message: str, sent: bytes) -> str:
    """`message` without its runs of 2 * _ECHO_CHARACTERS and more that also stand in `sent`."""
    if not sent:
        return message
    text = " ".join(_ESCAPED_SPACE.sub(" ", sent.decode("utf-8", "replace")).replace('\\"', '"').split())
    kept, start = [], 0
    # A run of twice the length holds one of the looked-up pieces whole.
    for position in range(0, len(message) - _ECHO_CHARACTERS + 1, _ECHO_CHARACTERS):
        first, last = position, position + _ECHO_CHARACTERS
        if first < start or message[first:last] not in text:
            continue
        while first > start and message[first - 1 : last] in text:
            first -= 1
        while last < len(message) and message[first : last + 1] in text:
            last += 1
        kept.append(message[start:first])
        start = last
    return "…".join([*kept, message[start:]])
