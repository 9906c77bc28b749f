"""A chat completion request as the simulator reads it: OpenAI's shape, then which class of request it is."""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec
import orjson

MAXIMUM_CHOICES = 16


class RequestClass(StrEnum):
    AUGMENT = "augment"
    COMPOSE = "compose"
    RESPOND = "respond"
    JUDGE = "judge"
    CHAT = "chat"


CLASS_OF_SCHEMA = {
    "preference_sets": RequestClass.AUGMENT,
    "system_message": RequestClass.COMPOSE,
    "profile_message": RequestClass.COMPOSE,
    "checklist": RequestClass.JUDGE,
    "set_review": RequestClass.JUDGE,
    "message_review": RequestClass.JUDGE,
    "facts_review": RequestClass.JUDGE,
    "choice_reading": RequestClass.JUDGE,
    "rubrics": RequestClass.JUDGE,
    "grade": RequestClass.JUDGE,
    "rating": RequestClass.JUDGE,
    "comparison_person": RequestClass.JUDGE,
    "comparison_alpaca_eval": RequestClass.JUDGE,
    "comparison_arena_hard": RequestClass.JUDGE,
}
"""Schema name -> class, for callers that send no header."""

_CLASSES = {member.value: member for member in RequestClass}


class BadRequest(ValueError):
    """The request cannot be answered; becomes a 400 (or 404) in OpenAI's error shape."""

    def __init__(self, message: str, parameter: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.parameter = parameter
        self.code = code
        self.status = status


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str


class ChatRequest(msgspec.Struct, frozen=True):
    """What of a request changes the answer. `schema` is None unless a JSON schema is demanded; `json_object` asks for any
    JSON object."""

    model: str
    messages: tuple[Message, ...]
    stream: bool
    include_usage: bool
    maximum_tokens: int | None
    stop: tuple[str, ...]
    choices: int
    schema_name: str | None
    schema: dict[str, Any] | None
    json_object: bool

    @property
    def system(self) -> str:
        """All system (and developer) messages, joined."""
        return "\n\n".join(m.content for m in self.messages if m.role in ("system", "developer"))

    @property
    def instruction(self) -> str:
        """The last user message."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


def _text_of(content: Any, position: int) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if isinstance(content, list):
        parts = []
        for part in content:
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise BadRequest(
                    "a content part is not text; the simulator reads parts of type `text` alone",
                    f"messages[{position}].content",
                )
            parts.append(part["text"])
        return "\n".join(parts)
    raise BadRequest("content must be a string or a list of text parts", f"messages[{position}].content")


def _whole_number(body: dict[str, Any], name: str, lowest: int, highest: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise BadRequest(f"{name} is {value!r}; it must be a whole number from {lowest} to {highest}", name)
    return value


def parse_request(data: bytes) -> ChatRequest:
    """The request from its body. Fields that change nothing here (temperature, user, …) are ignored, as OpenAI-compatible
    servers do; what would change the meaning and is not simulated (tools, logprobs) is refused. Raises BadRequest."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadRequest(f"the body is a JSON {type(body).__name__}; send an object")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("model is missing; name one that GET /v1/models lists", "model")
    raw = body.get("messages")
    if not isinstance(raw, list) or not raw:
        raise BadRequest("messages is missing or empty; send at least one message", "messages")
    messages = []
    for position, item in enumerate(raw):
        if not isinstance(item, dict) or item.get("role") not in ("system", "developer", "user", "assistant"):
            raise BadRequest(
                "a message needs a role of system, developer, user or assistant", f"messages[{position}].role"
            )
        messages.append(Message(item["role"], _text_of(item.get("content"), position)))
    for name in ("tools", "functions", "logprobs"):
        if body.get(name):
            raise BadRequest(f"{name} is not simulated; leave it out", name)
    stop = body.get("stop") or ()
    stops = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, list | tuple) else None
    if stops is None or any(not isinstance(item, str) for item in stops):
        raise BadRequest("stop must be a string or a list of strings", "stop")
    options = body.get("stream_options")
    schema_name, schema, json_object = _format_of(body.get("response_format"))
    return ChatRequest(
        model=model,
        messages=tuple(messages),
        stream=body.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        maximum_tokens=_whole_number(body, "max_completion_tokens", 1, 1 << 31)
        or _whole_number(body, "max_tokens", 1, 1 << 31),
        stop=tuple(item for item in stops if item),
        choices=_whole_number(body, "n", 1, MAXIMUM_CHOICES) or 1,
        schema_name=schema_name,
        schema=schema,
        json_object=json_object,
    )


def _format_of(value: Any) -> tuple[str | None, dict[str, Any] | None, bool]:
    if value is None:
        return None, None, False
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None, None, False
    if kind == "json_object":
        return None, None, True
    if kind == "json_schema":
        described = value.get("json_schema")
        if isinstance(described, dict) and isinstance(described.get("schema"), dict):
            return str(described.get("name", "")), described["schema"], False
        raise BadRequest("json_schema needs `name` and `schema`", "response_format.json_schema")
    raise BadRequest(
        f"response_format is of type {kind!r}; known are text, json_object and json_schema", "response_format"
    )


def class_of(header: str | None, request: ChatRequest) -> RequestClass:
    """The class by the header, else by the schema's name, else chat. Raises BadRequest for an unknown class."""
    if header:
        known = _CLASSES.get(header)
        if known is None:
            raise BadRequest(f"x-multifacet-request-class is {header!r}; known are {', '.join(sorted(_CLASSES))}")
        return known
    if request.schema_name:
        return CLASS_OF_SCHEMA.get(request.schema_name, RequestClass.CHAT)
    return RequestClass.CHAT


_BLOCK = re.compile(r"^```json[ \t]*\n(.*?)\n```[ \t]*$", re.MULTILINE | re.DOTALL)


def find_block(request: ChatRequest, keys: frozenset[str]) -> dict[str, Any]:
    """The last fenced JSON object in a user message that has all `keys`; later messages first, so that a repair round
    after the first question still finds it. Raises BadRequest where there is none."""
    return find_block_of(request, (keys,))


def find_block_of(request: ChatRequest, kinds: Sequence[frozenset[str]]) -> dict[str, Any]:
    """As `find_block`, for a class whose block may be of several kinds, each told by its keys."""
    seen = 0
    for message in reversed(request.messages):
        if message.role != "user":
            continue
        for text in reversed(_BLOCK.findall(message.content)):
            seen += 1
            try:
                value = orjson.loads(text)
            except orjson.JSONDecodeError:
                continue
            if isinstance(value, dict) and any(keys <= value.keys() for keys in kinds):
                return value
    wanted = " or ".join(", ".join(sorted(keys)) for keys in kinds)
    raise BadRequest(
        f"no user message carries a fenced json block with the keys {wanted}"
        f" ({seen} json blocks seen); this class of request needs one",
        "messages",
    )


def numbered_texts(block: dict[str, Any], several: str, one: str) -> list[tuple[int, str]]:
    """The list `several` of a json block, each entry with a number `one` and a `text`. Raises BadRequest for anything else."""
    entries = block.get(several)
    if not isinstance(entries, list):
        raise BadRequest(f"the json block needs `{several}` as a list", "messages")
    found = []
    for position, value in enumerate(entries):
        known = isinstance(value, dict) and isinstance(value.get(one), int) and isinstance(value.get("text"), str)
        if not known:
            raise BadRequest(f"{several}/{position} needs a number `{one}` and a string `text`", "messages")
        found.append((value[one], value["text"]))
    return found
