"""Reviews of system messages: does one hold a piece of an answer, or a task?"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from services.simulator.chance import generator_of
from services.simulator.judge_profile import JudgeProfile
from services.simulator.requests import BadRequest
from services.simulator.slips import load_slips

NOTHING, ANSWER, TASK = "nothing", "answer", "task"
_SLOT = re.compile(r"\{([a-zA-Z])\}")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_NUMBERS = "nms"


def _pattern_of(wordings: Sequence[str]) -> re.Pattern[str]:
    """Finds any of the wordings, whatever stands in their slots."""
    patterns = []
    for wording in wordings:
        parts = _SLOT.split(wording)
        # Texts and names of slots take turns.
        patterns.append(
            "".join(
                (r"\d+" if part in _NUMBERS else r"\S+") if place % 2 else re.escape(part)
                for place, part in enumerate(parts)
            )
        )
    return re.compile("|".join(patterns), re.IGNORECASE)


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    slips = load_slips()
    return (ANSWER, _pattern_of(slips.leaks)), (TASK, _pattern_of(slips.tasks))


def true_finding(text: str) -> tuple[str, str]:
    """What a system message holds, and the words that do: a shipped slip, or nothing."""
    for kind, pattern in _patterns():
        found = pattern.search(text)
        if found:
            return kind, found.group()
    return NOTHING, ""


def _texts(block: dict[str, Any]) -> list[tuple[int, str]]:
    messages = block.get("messages")
    if not isinstance(messages, list):
        raise BadRequest("the json block needs `messages` as a list", "messages")
    found = []
    for position, value in enumerate(messages):
        known = isinstance(value, dict) and isinstance(value.get("message"), int) and isinstance(value.get("text"), str)
        if not known:
            raise BadRequest(f"messages/{position} needs a number `message` and a string `text`", "messages")
        found.append((value["message"], value["text"]))
    return found


def answer_message_review(block: dict[str, Any], seed: int, digest: bytes, profile: JudgeProfile) -> dict[str, Any]:
    """`{"messages": [{message, holds, quote}]}`. With the share `review_error` of the profile something else than the truth is
    said of a message, quoting one of its sentences. Raises BadRequest for a block that cannot be read."""
    chance = generator_of(seed, digest, "message_review")
    answers = []
    for number, text in _texts(block):
        holds, quote = true_finding(text)
        if chance.random() < profile.review_error:
            holds = chance.choice([kind for kind in (NOTHING, ANSWER, TASK) if kind != holds])
            quote = "" if holds == NOTHING else chance.choice(_SENTENCE_END.split(text.strip()))
        answers.append({"message": number, "holds": holds, "quote": quote})
    return {"messages": answers}
