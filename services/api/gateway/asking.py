"""What a request to POST /v1/chat/completions asks: read in one pass, checked, and put as model servers take it.

Unknown fields are ignored. A field that would change what the answer is, and cannot be done, is refused; where it says what is
so anyway (`n: 1`, `tools: []`, `tool_choice: "none"`) it is taken.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from pydantic import ValidationError

from services.api.gateway.errors import LiveError, refused
from shared.chat_template.conversation import Message, Role
from shared.domain.profiles import MAXIMUM_PREFERENCES, StatedPreference
from shared.llm.servers.protocol import GenerationParameters, Grammar

MOST_MESSAGES = 2_000
MOST_STOPS = 4
MOST_TOP_LOGPROBS = 5
"""As many as model servers tell (TGI's limit)."""
_STOP_CHARACTERS = 500
_CHARACTERS_PER_TOKEN = 4
"""For reserving tokens of a key's limit before the server has counted them."""
_MESSAGE_TOKENS = 4

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class _AskedMessage(msgspec.Struct):
    role: str
    content: Any = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None


class _JsonSchema(msgspec.Struct):
    schema: dict[str, Any] | None = None


class _ResponseFormat(msgspec.Struct):
    type: str
    json_schema: _JsonSchema | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Asked(msgspec.Struct):
    model: str
    messages: list[_AskedMessage]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: _ResponseFormat | None = None
    preferences: list[Any] | None = None
    profile: str | None = None
    n: int | None = None
    best_of: int | None = None
    logit_bias: Any = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    audio: Any = None
    web_search_options: Any = None


class ChatCall(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was understood."""

    model: str
    messages: Sequence[Message]
    parameters: GenerationParameters
    """Without the limit of tokens: see `answer_tokens`."""
    answer_tokens: int | None
    """What was asked for; None: as much as the server gives."""
    characters: int
    """Of all messages."""
    stream: bool
    include_usage: bool
    preferences: tuple[StatedPreference, ...] = ()
    profile: str | None = None

    @property
    def estimated_prompt_tokens(self) -> int:
        """Roughly, for English: about four characters a token, and a few tokens of the template per message."""
        return self.characters // _CHARACTERS_PER_TOKEN + _MESSAGE_TOKENS * len(self.messages)


_decoder = msgspec.json.Decoder(_Asked)


def read_call(body: bytes, *, most_characters: int, most_answer_tokens: int) -> ChatCall:
    """Understand a request's body. Raises LiveError (400) for what is wrong or cannot be done, naming the field."""
    asked = _decode(body)
    _refuse_what_cannot_be_done(asked)
    messages = _messages(asked.messages)
    characters = sum(len(message["content"]) for message in messages)
    if characters > most_characters:
        raise refused(
            f"The messages have {characters:,} characters, {characters - most_characters:,} more than the "
            f"{most_characters:,} that one request may have here (MULTIFACET_LIVE_PROMPT_CHARACTERS).",
            "messages",
            "string_above_max_length",
        )
    preferences, profile = _person(asked)
    return ChatCall(
        model=asked.model,
        messages=messages,
        parameters=_parameters(asked),
        answer_tokens=_answer_tokens(asked, most_answer_tokens),
        characters=characters,
        stream=bool(asked.stream),
        include_usage=bool(asked.stream and asked.stream_options and asked.stream_options.include_usage),
        preferences=preferences,
        profile=profile,
    )


def _decode(body: bytes) -> _Asked:
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at ")
        param = place.strip("`").removeprefix("$").removeprefix(".") or None
        if missing := re.match(r"Object missing required field `(\w+)`", text):
            name = f"{param}.{missing[1]}" if param else missing[1]
            raise refused(
                f"You must give the field {name!r}, which is missing.", name, "missing_required_parameter"
            ) from None
        where = f" at {param}" if param else ""
        raise refused(f"{text.replace('`', '')}{where}.", param, "invalid_type") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise refused(f"The body cannot be read as JSON: {reason}.", None, "invalid_json") from None
    except RecursionError:
        raise refused("The body's JSON is nested too deeply.", None, "invalid_json") from None


def _refuse_what_cannot_be_done(asked: _Asked) -> None:
    def no(param: str, what: str) -> LiveError:
        return refused(f"{what} {param!r} must be left out.", param, "unsupported_parameter")

    for name in ("n", "best_of"):
        count = getattr(asked, name)
        if count is not None and count != 1:
            raise refused(
                f"One answer per request can be had; {name} is {count}. Send it several times, with different seeds.",
                name,
                "unsupported_value",
            )
    if asked.tools and asked.tool_choice != "none":
        raise no("tools", "The models here call no tools:")
    if asked.tool_choice not in (None, "none", "auto"):
        raise no("tool_choice", "The models here call no tools:")
    if asked.functions and asked.function_call != "none":
        raise no("functions", "The models here call no functions:")
    if asked.function_call not in (None, "none", "auto"):
        raise no("function_call", "The models here call no functions:")
    if asked.audio is not None or asked.modalities not in (None, [], ["text"]):
        raise no("audio" if asked.audio is not None else "modalities", "The models here write text alone:")
    if asked.logit_bias:
        raise no("logit_bias", "Tokens cannot be made more or less likely by hand:")
    if asked.web_search_options is not None:
        raise no("web_search_options", "Nothing is searched for here:")
    if asked.presence_penalty:
        raise no("presence_penalty", "This penalty cannot be had (frequency_penalty and repetition_penalty can):")


def _messages(asked: Sequence[_AskedMessage]) -> list[Message]:
    if not asked:
        raise refused("There is no message; give at least one.", "messages", "empty_array")
    if len(asked) > MOST_MESSAGES:
        raise refused(f"There are {len(asked):,} messages; {MOST_MESSAGES:,} can be had.", "messages")
    messages: list[Message] = []
    for number, message in enumerate(asked):
        place = f"messages[{number}]"
        role = _ROLES.get(message.role)
        if role is None:
            raise refused(
                f"The role {message.role[:50]!r} cannot be had; these can: {', '.join(_ROLES)}.", f"{place}.role"
            )
        for name in ("tool_calls", "function_call", "audio"):
            if getattr(message, name):
                raise refused(
                    f"The models here read text alone, and this message has {name}.",
                    f"{place}.{name}",
                    "unsupported_parameter",
                )
        text = _text(message.content, f"{place}.content")
        if messages and role == "system" and messages[-1]["role"] == "system" and len(messages) == 1:
            # Chat templates take one system message: what the developer says follows the system's.
            messages[0] = {"role": "system", "content": f"{messages[0]['content']}\n\n{text}"}
        else:
            messages.append({"role": role, "content": text})
    return messages


def _text(content: Any, place: str) -> str:
    """A message's text: as it stands, or its text parts, one a line."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        seen = "null" if content is None else "an empty list" if content == [] else type(content).__name__
        raise refused(f"The content of a message is a text or a list of text parts; seen: {seen}.", place)
    texts = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise refused(
                f"The models here read text alone; this part is of type {str(kind)[:50]!r}. Nothing is fetched or looked at.",
                f"{place}[{number}]",
                "unsupported_content",
            )
        if not isinstance(part.get("text"), str):
            raise refused("A text part has a field 'text' with a text.", f"{place}[{number}].text")
        texts.append(part["text"])
    return "\n".join(texts)


def _parameters(asked: _Asked) -> GenerationParameters:
    _within(asked.temperature, "temperature", 0, 2)
    _within(asked.top_p, "top_p", 0, 1)
    _within(asked.top_k, "top_k", 0, 1_000_000)
    _within(asked.frequency_penalty, "frequency_penalty", -2, 2)
    _within(asked.seed, "seed", -(2**63), 2**63 - 1)
    if asked.repetition_penalty is not None and not 0 < asked.repetition_penalty <= 10:
        raise refused(
            f"repetition_penalty is {asked.repetition_penalty}; it is above 0 and at most 10.", "repetition_penalty"
        )
    # OpenAI samples unless told otherwise: a temperature that is not given is 1.
    greedy = asked.temperature == 0 or asked.top_p == 0
    return GenerationParameters(
        temperature=None if greedy else 1.0 if asked.temperature is None else asked.temperature,
        top_p=None if greedy or asked.top_p == 1 else asked.top_p,
        top_k=None if greedy else asked.top_k or None,
        repetition_penalty=None if asked.repetition_penalty == 1 else asked.repetition_penalty,
        frequency_penalty=asked.frequency_penalty or None,
        # Servers count seeds from 0; a negative one stands for another of their range, always the same.
        seed=None if asked.seed is None else asked.seed % 2**63,
        stop=_stops(asked.stop),
        grammar=_grammar(asked.response_format),
        log_probabilities=bool(asked.logprobs),
        top_tokens=_top_tokens(asked),
    )


def _within(value: float | None, name: str, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        raise refused(f"{name} is {value}; it is from {least} to {most}.", name)


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stops) > MOST_STOPS:
        raise refused(f"There are {len(stops)} stop texts; {MOST_STOPS} can be had.", "stop")
    if any(not 1 <= len(text) <= _STOP_CHARACTERS for text in stops):
        raise refused(f"A stop text has 1 to {_STOP_CHARACTERS} characters.", "stop")
    return stops


def _grammar(wanted: _ResponseFormat | None) -> Grammar | None:
    kind: Literal["json"] = "json"
    match wanted:
        case None | _ResponseFormat(type="text"):
            return None
        case _ResponseFormat(type="json_object"):
            return Grammar(kind, {"type": "object"})
        case _ResponseFormat(type="json_schema"):
            schema = wanted.json_schema.schema if wanted.json_schema is not None else None
            if schema is None:
                raise refused(
                    "A response_format of type json_schema has its schema at json_schema.schema.",
                    "response_format.json_schema.schema",
                    "missing_required_parameter",
                )
            return Grammar(kind, schema)
    raise refused(
        f"The response_format {wanted.type[:50]!r} cannot be had; these can: text, json_object, json_schema.",
        "response_format.type",
    )


def _top_tokens(asked: _Asked) -> int:
    if asked.top_logprobs is None:
        return 0
    if not asked.logprobs and asked.top_logprobs:
        raise refused("top_logprobs needs logprobs: true.", "top_logprobs")
    _within(asked.top_logprobs, "top_logprobs", 0, MOST_TOP_LOGPROBS)
    return asked.top_logprobs


def _answer_tokens(asked: _Asked, most: int) -> int | None:
    # max_completion_tokens is OpenAI's newer name; clients that send both mean it.
    name = "max_tokens" if asked.max_completion_tokens is None else "max_completion_tokens"
    wanted: int | None = getattr(asked, name)
    if wanted is not None and not 1 <= wanted <= most:
        raise refused(
            f"{name} is {wanted}; it is from 1 to {most} here (MULTIFACET_LIVE_ANSWER_TOKENS).",
            name,
        )
    return wanted


def _person(asked: _Asked) -> tuple[tuple[StatedPreference, ...], str | None]:
    if asked.preferences is not None and asked.profile is not None:
        raise refused("Give preferences or a profile, not both.", "profile")
    if asked.profile is not None and not 1 <= len(asked.profile) <= 200:
        raise refused("profile is the name of a stored profile.", "profile")
    stated = asked.preferences or []
    if len(stated) > MAXIMUM_PREFERENCES:
        raise refused(f"There are {len(stated)} preferences; {MAXIMUM_PREFERENCES} can be had.", "preferences")
    return tuple(_preference(one, number) for number, one in enumerate(stated)), asked.profile


def _preference(stated: Any, number: int) -> StatedPreference:
    try:
        return StatedPreference.model_validate(stated)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = f"preferences[{number}]" + "".join(f".{part}" for part in fault["loc"])
        said = "there is no field of this name here" if fault["type"] == "extra_forbidden" else fault["msg"]
        raise refused(f"{said.removeprefix('Value error, ')} at {place}.", place) from None
