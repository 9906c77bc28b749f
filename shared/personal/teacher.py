"""A system message from stated preferences, worded by a language model and held to what `shared.personal.validation` asks."""

from collections.abc import Sequence

import orjson
from pydantic import BaseModel, ConfigDict

from shared.domain.checks import canonical_sentence
from shared.domain.errors import MultifacetError
from shared.domain.identifiers import seed_of
from shared.domain.profiles import StatedPreference
from shared.domain.taxonomy import Taxonomy
from shared.llm.protocol import CompletionRequest, LanguageModel
from shared.personal.resolving import Wish, resolve
from shared.personal.validation import fault_of
from shared.prompts import load_prompt

PROMPT = load_prompt("shared.personal", "profile_message")
SCHEMA_NAME = "profile_message"
ATTEMPTS = 2
TEMPERATURE = 0.7
MAXIMUM_TOKENS = 3000
_WORDING_CHARACTERS = 120
"""What the role and the links between wishes take."""
_CHARACTERS_PER_WISH = 40


class MessageUnfit(MultifacetError):
    """The teacher wrote no message that can be used. Nothing is composed in its place."""

    code = "profile_message_unfit"


class ProfileMessage(BaseModel):
    """The structured output of the teacher."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str


async def compose_with_teacher(
    preferences: Sequence[StatedPreference], taxonomy: Taxonomy, teacher: LanguageModel
) -> str:
    """The system message of a person, in the teacher's words. What was answered before for the same preferences is read
    from the cache.

    Raises InputRefused as `shared.personal.resolving.resolve` does, MessageUnfit where two answers fail the checks, and what
    the teacher raises.
    """
    wishes = resolve(preferences, taxonomy)
    problem = ""
    for attempt in range(ATTEMPTS):
        answer, _ = await teacher.complete_structured(_request(wishes, attempt, problem), ProfileMessage)
        text = answer.system.strip()
        fault = fault_of(text, wishes)
        if fault is None:
            return text
        problem = fault
    raise MessageUnfit(
        f"{teacher.provider}/{teacher.model} wrote no usable system message in {ATTEMPTS} tries; of the last one: {problem}. "
        "Leave the teacher out to have it composed by rule, or name another one"
    )


def _request(wishes: Sequence[Wish], attempt: int, problem: str) -> CompletionRequest:
    sentences = [canonical_sentence(check) for wish in wishes for check in wish.checks()]
    descriptions = [_described(wish) for wish in wishes]
    block = {
        "form": "role_first_prose",
        "role": None,
        "target_characters": _WORDING_CHARACTERS + sum(len(one) + _CHARACTERS_PER_WISH for one in descriptions),
        "descriptions": descriptions,
        "required_sentences": sentences,
    }
    return CompletionRequest(
        messages=PROMPT.messages(request=block, problem=problem),
        request_class="compose",
        sample_index=f"profile:{attempt}",
        temperature=TEMPERATURE,
        max_tokens=MAXIMUM_TOKENS,
        seed=seed_of("profile", orjson.dumps(block).decode(), attempt),
        schema_name=SCHEMA_NAME,
        schema=ProfileMessage.model_json_schema(),
    )


def _described(wish: Wish) -> str:
    """What one preference asks for, in full, with the sentence of its check."""
    named = f"{wish.subdimension.name}, {wish.pole.name}: " if wish.subdimension and wish.pole and not wish.seed else ""
    return " ".join(part for part in (named + wish.text, wish.sentence) if part)
