"""From a request to the answer's content: one function per class behind one door, and the faults inside answers."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec
import orjson

from services.simulator import augment, compose, judge
from services.simulator.augment_slips import slipped_augment
from services.simulator.chance import generator_of
from services.simulator.chat import answer_chat, answer_schema, refusal_text
from services.simulator.faults import CLASS_OF_SLIP, Fault, FaultPlan
from services.simulator.judge_profile import JudgeProfile
from services.simulator.labels import NO_SLIP, Label
from services.simulator.requests import ChatRequest, RequestClass, find_block, find_block_of
from services.simulator.respond import answer_off_language, answer_respond
from services.simulator.structured import fit_value
from services.simulator.text_slips import slipped_compose, slipped_respond
from services.simulator.words import topics_of

CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 3
FAITHFUL = JudgeProfile()
NO_FAULTS = FaultPlan()


class Answer(msgspec.Struct, frozen=True):
    """One choice of a completion. `label` says what is wrong with its meaning, if the plan held a slip for it."""

    content: str | None
    refusal: str | None
    finish_reason: str
    label: Label | None = None


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


def sound_content(
    request: ChatRequest,
    request_class: RequestClass,
    seed: int,
    digest: bytes,
    profile: JudgeProfile = FAITHFUL,
) -> str:
    """The content of a sound answer; that of a judge errs as its profile says. Raises BadRequest where a class needs a JSON block
    that the request lacks."""
    if request_class is RequestClass.AUGMENT:
        value: Any = augment.answer_augment(find_block(request, augment.KEYS), seed, digest)
        return _structured(value, request, seed, digest)
    if request_class is RequestClass.COMPOSE:
        return _system_message(
            compose.answer_compose(find_block(request, compose.KEYS), seed, digest), request, seed, digest
        )
    if request_class is RequestClass.JUDGE:
        block = find_block_of(request, judge.KINDS_OF_BLOCKS)
        if not judge.asks_verdict(block):
            return _structured(judge.answer_judge(block, seed, digest, profile), request, seed, digest)
        said = judge.answer_verdict(block, request, seed, digest, profile)
        return said if isinstance(said, str) else _structured(said, request, seed, digest)
    if request.schema is not None:
        return orjson.dumps(answer_schema(request, request.schema, seed, digest)).decode()
    text = (
        answer_respond(request.system, request.instruction, seed, digest)
        if request_class is RequestClass.RESPOND
        else answer_chat(request, seed, digest)
    )
    return _plain(text, request)


def slipped_content(
    request: ChatRequest, slip: Fault, seed: int, digest: bytes, held_out: Sequence[str] = ()
) -> tuple[str, Label]:
    """The content of an answer with a slip of its class in it, and the label. Raises BadRequest as `sound_content`."""
    request_class = CLASS_OF_SLIP[slip]
    if request_class is RequestClass.AUGMENT:
        block = find_block(request, augment.KEYS)
        value, label = slipped_augment(block, slip, held_out, seed, digest)
        return _structured(value, request, seed, digest), label
    if request_class is RequestClass.COMPOSE:
        text, label = slipped_compose(find_block(request, compose.KEYS), slip, seed, digest)
        return _system_message(text, request, seed, digest), label
    if request.schema is not None:
        return sound_content(request, request_class, seed, digest), Label(NO_SLIP, slip.value)
    text, label = slipped_respond(request.system, request.instruction, slip, seed, digest)
    return _plain(text, request), label


def _system_message(text: str, request: ChatRequest, seed: int, digest: bytes) -> str:
    structured = request.schema is not None or request.json_object
    return _structured({"system": text}, request, seed, digest) if structured else text


def _plain(text: str, request: ChatRequest) -> str:
    return orjson.dumps({"answer": text}).decode() if request.json_object else text


def make_answer(
    request: ChatRequest,
    request_class: RequestClass,
    fault: Fault | None,
    seed: int,
    digest: bytes,
    plan: FaultPlan = NO_FAULTS,
) -> Answer:
    """One choice, with the fault in it if the fault is one of the answer itself; a slip comes with its label. Of the plan the
    judge's profile and the held-out texts are read. Raises BadRequest as `sound_content`."""
    if fault is not None and CLASS_OF_SLIP.get(fault) is request_class:
        content, label = slipped_content(request, fault, seed, digest, plan.held_out_texts)
        return _limited(content, request, label)
    content = sound_content(request, request_class, seed, digest, plan.judge)
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
        prose = ("description", "system", "answer")
        return {key: text if key in prose else _replaced(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, text) for item in value]
    return value


def _limited(content: str, request: ChatRequest, label: Label | None = None) -> Answer:
    cut = min((position for stop in request.stop if (position := content.find(stop)) >= 0), default=None)
    if cut is not None:
        content = content[:cut]
    if request.maximum_tokens is not None and count_tokens(content) > request.maximum_tokens:
        return Answer(content[: request.maximum_tokens * CHARACTERS_PER_TOKEN], None, "length", label)
    return Answer(content, None, "stop", label)
