"""Answers of class `judge`: one verdict per preference, by machine checks and shared content words."""

from typing import Any

from services.simulator.phrases import load_phrases
from services.simulator.requests import BadRequest
from services.simulator.words import content_words, words_of
from shared.domain.checks import evaluate, find_checks

KEYS = frozenset({"response", "preferences"})
LOWEST, HIGHEST = 1, 5
WORDS_FOR_FULL_SCORE = 3
"""So many content words of a preference in a response of ordinary length earn the highest score."""


def _preference_text(value: Any, position: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        texts = [value[name] for name in ("preference", "description", "criteria") if isinstance(value.get(name), str)]
        if texts:
            return " ".join(texts)
    raise BadRequest(f"preferences/{position} must be text or an object with `preference` or `description`", "messages")


def answer_judge(block: dict[str, Any]) -> dict[str, Any]:
    """`{"verdicts": [{"preference", "feedback", "score"}]}`, scores 1 to 5.

    A failed machine check gives 1, a passed one 5. Else the score grows with the number of content words of the preference
    (those of the instruction do not count: every sibling's response has them) that the response takes up; a short
    response needs fewer. Raises BadRequest for a block it cannot read.
    """
    response, preferences = block["response"], block["preferences"]
    if not isinstance(response, str) or not isinstance(preferences, list) or not preferences:
        raise BadRequest("the json block needs `response` as text and `preferences` as a list", "messages")
    instruction = block.get("instruction")
    common = set(content_words(instruction)) if isinstance(instruction, str) else set()
    said = words_of(response)
    present = set(said)
    needed = max(1, min(WORDS_FOR_FULL_SCORE, len(said) // 20))
    feedback = load_phrases().judge_feedback
    verdicts = []
    for position, value in enumerate(preferences):
        text = _preference_text(value, position)
        outcomes = [evaluate(check, response) for check in find_checks(text)]
        failed = next((outcome for outcome in outcomes if outcome.outcome == "fail"), None)
        hits = [word for word in content_words(text) if word in present and word not in common]
        if failed is not None:
            score, remark = LOWEST, feedback.failed.format(detail=failed.detail)
        elif any(outcome.outcome == "pass" for outcome in outcomes):
            score, remark = HIGHEST, feedback.passed
        else:
            score = LOWEST + min(HIGHEST - LOWEST, (HIGHEST - LOWEST) * len(hits) // needed)
            template = feedback.low if not hits else feedback.high if score >= HIGHEST - 1 else feedback.middle
            remark = template.replace("{hits}", ", ".join(hits[:5]))
        verdicts.append({"preference": position, "feedback": remark, "score": score})
    return {"verdicts": verdicts}
