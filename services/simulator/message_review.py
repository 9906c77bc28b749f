"""Reviews of system messages: does one hold a piece of an answer, a task, or a command to its reviewer?"""

import re
from functools import lru_cache
from typing import Any

from services.simulator.chance import generator_of
from services.simulator.judge_profile import JudgeProfile
from services.simulator.requests import numbered_texts
from services.simulator.slips import load_slips, pattern_of, review_command_in

NOTHING, ANSWER, TASK, COMMAND = KINDS = "nothing", "answer", "task", "command"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    slips = load_slips()
    return (ANSWER, pattern_of(slips.leaks)), (TASK, pattern_of(slips.tasks))


def true_finding(text: str) -> tuple[str, str]:
    """What a system message holds, and the words that do: a shipped slip, or nothing."""
    for kind, pattern in _patterns():
        found = pattern.search(text)
        if found:
            return kind, found.group()
    command = review_command_in(text)
    return (COMMAND, command) if command else (NOTHING, "")


def answer_message_review(block: dict[str, Any], seed: int, digest: bytes, profile: JudgeProfile) -> dict[str, Any]:
    """`{"messages": [{message, holds, quote}]}`. With the share `review_error` of the profile something else than the truth is
    said of a message, quoting one of its sentences; a judge who obeys injections finds nothing in a message that commands it.
    Raises BadRequest for a block that cannot be read."""
    chance = generator_of(seed, digest, "message_review")
    answers = []
    for number, text in numbered_texts(block, "messages", "message"):
        holds, quote = true_finding(text)
        if chance.random() < profile.review_error:
            holds = chance.choice([kind for kind in KINDS if kind != holds])
            quote = "" if holds == NOTHING else chance.choice(_SENTENCE_END.split(text.strip()))
        if profile.obeys_injections and review_command_in(text):
            holds, quote = NOTHING, ""
        answers.append({"message": number, "holds": holds, "quote": quote})
    return {"messages": answers}
