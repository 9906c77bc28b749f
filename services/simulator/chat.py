"""Short answers: of class `chat`, refusals, and values for a JSON schema of the caller's own."""

from typing import Any

from services.simulator.chance import generator_of
from services.simulator.phrases import fill, load_phrases
from services.simulator.requests import ChatRequest
from services.simulator.structured import make_value
from services.simulator.words import topics_of


def answer_chat(request: ChatRequest, seed: int, digest: bytes) -> str:
    """Two sentences that name what the last user message is about."""
    topics = topics_of(request.instruction)
    template = generator_of(seed, digest, "chat").choice(load_phrases().chat)
    return fill(template, topics[0], topics[1 % len(topics)])


def answer_schema(request: ChatRequest, schema: dict[str, Any], seed: int, digest: bytes) -> Any:
    """A value that fits the schema, its texts made of the instruction's topic words."""
    return make_value(schema, list(topics_of(request.instruction)), generator_of(seed, digest, "schema"))


def refusal_text(seed: int, digest: bytes) -> str:
    return generator_of(seed, digest, "refusal").choice(load_phrases().refusals)
