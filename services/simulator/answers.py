"""From a request to the answer's content: one function per class behind one door, and the faults inside answers."""

from hashlib import blake2b
from typing import Any

import msgspec
import orjson

from services.simulator import augment, compose, judge
from services.simulator.chance import generator_of
from services.simulator.chat import answer_chat, answer_schema, refusal_text
from services.simulator.faults import Fault
from services.simulator.requests import ChatRequest, RequestClass, find_block
from services.simulator.respond import answer_off_language, answer_respond
from services.simulator.structured import fit_value
from services.simulator.words import topics_of

CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 3


class Answer(msgspec.Struct, frozen=True):
    """One choice of a completion."""

    content: str | None
    refusal: str | None
    finish_reason: str


def body_digest(data: bytes) -> bytes:
    """16 bytes that stand for the exact request body."""
    return blake2b(data, digest_size=16).digest()


def count_tokens(text: str) -> int:
    """Characters by four, rounded up."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def prompt_tokens(request: ChatRequest) -> int:
    return sum(count_tokens(message.content) + TOKENS_PER_MESSAGE for message in request.messages)


def _structured(value: Any, request: ChatRequest, seed: int, digest: bytes) -> str:
    if request.schema is not None:
        chance = generator_of(seed, digest, "fit")
        value = fit_value(value, request.schema, list(topics_of(request.instruction)), chance)
    return orjson.dumps(value).decode()


def sound_content(request: ChatRequest, request_class: RequestClass, seed: int, digest: bytes) -> str:
    """The content of a sound answer. Raises BadRequest where a class needs a JSON block that the request lacks."""
    if request_class is RequestClass.AUGMENT:
        value: Any = augment.answer_augment(find_block(request, augment.KEYS), seed, digest)
        return _structured(value, request, seed, digest)
    if request_class is RequestClass.COMPOSE:
        text = compose.answer_compose(find_block(request, compose.KEYS), seed, digest)
        structured = request.schema is not None or request.json_object
        return _structured({"system": text}, request, seed, digest) if structured else text
    if request_class is RequestClass.JUDGE:
        return _structured(judge.answer_judge(request), request, seed, digest)
    if request.schema is not None:
        return orjson.dumps(answer_schema(request, request.schema, seed, digest)).decode()
    text = (
        answer_respond(request.system, request.instruction, seed, digest)
        if request_class is RequestClass.RESPOND
        else answer_chat(request, seed, digest)
    )
    return orjson.dumps({"answer": text}).decode() if request.json_object else text


def make_answer(
    request: ChatRequest, request_class: RequestClass, fault: Fault | None, seed: int, digest: bytes
) -> Answer:
    """One choice, with the fault in it if the fault is one of the answer itself. Raises BadRequest as `sound_content`."""
    content = sound_content(request, request_class, seed, digest)
    if fault is Fault.REFUSAL_FIELD:
        return Answer(None, refusal_text(seed, digest), "stop")
    if fault is Fault.REFUSAL_PHRASE:
        return Answer(refusal_text(seed, digest), None, "stop")
    if fault is Fault.EMPTY_ANSWER:
        return Answer("", None, "stop")
    if fault is Fault.TRUNCATED_ANSWER:
        return Answer(content[: max(1, len(content) * 3 // 5)], None, "length")
    if fault is Fault.MALFORMED_ANSWER:
        content = f"Here you are: {content[: max(1, len(content) - 2)]}"
    elif fault is Fault.INVALID_ANSWER:
        content = orjson.dumps({"unexpected": len(content)}).decode()
    elif fault is Fault.OFF_LANGUAGE:
        content = _off_language(content, request, seed, digest)
    return _limited(content, request)


def _off_language(content: str, request: ChatRequest, seed: int, digest: bytes) -> str:
    """Texts of a structured answer change their language too, its keys do not."""
    text = answer_off_language(request.instruction, seed, digest)
    if content.startswith("{"):
        return orjson.dumps(_replaced(orjson.loads(content), text)).decode()
    return text


def _replaced(value: Any, text: str) -> Any:
    if isinstance(value, dict):
        prose = ("description", "system", "quote", "why", "answer")
        return {key: text if key in prose else _replaced(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, text) for item in value]
    return value


def _limited(content: str, request: ChatRequest) -> Answer:
    cut = min((position for stop in request.stop if (position := content.find(stop)) >= 0), default=None)
    if cut is not None:
        content = content[:cut]
    if request.maximum_tokens is not None and count_tokens(content) > request.maximum_tokens:
        return Answer(content[: request.maximum_tokens * CHARACTERS_PER_TOKEN], None, "length")
    return Answer(content, None, "stop")
