"""Answers of class `judge`: which kind of judging a block asks for, and the errors that the plan gives the judge."""

from typing import Any

from services.simulator.checklist import answer_checklist
from services.simulator.choice_reading import answer_choice_reading
from services.simulator.facts_review import answer_facts_review
from services.simulator.judge_profile import JudgeProfile
from services.simulator.message_review import answer_message_review
from services.simulator.set_review import answer_set_review

CHECKLIST_KEYS = frozenset({"answer", "items"})
REVIEW_KEYS = frozenset({"wishes"})
MESSAGE_KEYS = frozenset({"messages"})
FACTS_KEYS = frozenset({"reference", "answers"})
CHOICE_KEYS = frozenset({"subdimensions", "pairs"})
KINDS_OF_BLOCKS = (CHECKLIST_KEYS, REVIEW_KEYS, MESSAGE_KEYS, FACTS_KEYS, CHOICE_KEYS)


def answer_judge(block: dict[str, Any], seed: int, digest: bytes, profile: JudgeProfile) -> dict[str, Any]:
    """A checklist for an answer, the review of preference sets, of system messages or of facts, or the reading of choices, by the
    keys of the block.
    Raises BadRequest for a block that cannot be read."""
    if block.keys() >= CHECKLIST_KEYS:
        return answer_checklist(block, seed, digest, profile)
    if block.keys() >= REVIEW_KEYS:
        return answer_set_review(block, seed, digest, profile)
    if block.keys() >= FACTS_KEYS:
        return answer_facts_review(block, seed, digest, profile)
    if block.keys() >= CHOICE_KEYS:
        return answer_choice_reading(block, seed, digest, profile)
    return answer_message_review(block, seed, digest, profile)
