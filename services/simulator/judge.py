"""Answers of class `judge`: which kind of judging a block asks for, and the errors that the plan gives the judge."""

from typing import Any

from services.simulator import grading
from services.simulator.chance import generator_of
from services.simulator.checklist import answer_checklist
from services.simulator.choice_reading import answer_choice_reading
from services.simulator.facts_review import answer_facts_review
from services.simulator.judge_profile import JudgeProfile
from services.simulator.message_review import answer_message_review
from services.simulator.requests import ChatRequest
from services.simulator.set_review import answer_set_review

CHECKLIST_KEYS = frozenset({"answer", "items"})
REVIEW_KEYS = frozenset({"wishes"})
MESSAGE_KEYS = frozenset({"messages"})
FACTS_KEYS = frozenset({"reference", "answers"})
CHOICE_KEYS = frozenset({"subdimensions", "pairs"})
KINDS_OF_BLOCKS = (
    CHECKLIST_KEYS,
    REVIEW_KEYS,
    MESSAGE_KEYS,
    FACTS_KEYS,
    CHOICE_KEYS,
    grading.RUBRIC_KEYS,
    *grading.VERDICT_KEYS,
)


def answer_judge(block: dict[str, Any], seed: int, digest: bytes, profile: JudgeProfile) -> dict[str, Any]:
    """A checklist for an answer, the review of preference sets, of system messages or of facts, the reading of choices, or
    rubrics, by the keys of the block. Raises BadRequest for a block that cannot be read."""
    if block.keys() >= CHECKLIST_KEYS:
        return answer_checklist(block, seed, digest, profile)
    if block.keys() >= REVIEW_KEYS:
        return answer_set_review(block, seed, digest, profile)
    if block.keys() >= FACTS_KEYS:
        return answer_facts_review(block, seed, digest, profile)
    if block.keys() >= CHOICE_KEYS:
        return answer_choice_reading(block, seed, digest, profile)
    if block.keys() >= grading.RUBRIC_KEYS:
        return grading.answer_rubrics(block)
    return answer_message_review(block, seed, digest, profile)


def asks_verdict(block: dict[str, Any]) -> bool:
    """Whether a block asks for a verdict on an answer, a conversation or a pair."""
    return any(block.keys() >= keys for keys in grading.VERDICT_KEYS)


def answer_verdict(
    block: dict[str, Any], request: ChatRequest, seed: int, digest: bytes, profile: JudgeProfile
) -> dict[str, Any] | str:
    """By schema where one is asked for, else prose with a tag; of a comparison the choices are those that the request names.
    Raises BadRequest for a block that cannot be read."""
    if block.keys() >= grading.COMPARISON_KEYS:
        asked = request.system if request.schema is None else str(request.schema)
        choices = frozenset(choice for choice in ("both_good", "a=b") if choice in asked)
        value = grading.answer_comparison(block, choices, seed, digest, profile)
    elif block.keys() >= grading.GRADE_KEYS:
        value = grading.answer_grade(block, seed, digest, profile)
    else:
        value = grading.answer_rating(block, seed, digest)
    wants_prose = request.schema is None and not request.json_object
    if wants_prose or generator_of(seed, digest, "prose").random() < profile.prose_verdicts:
        return grading.as_prose(value)
    return value
