"""Judges that a test writes: they answer checklists by a rule on the wish, treat the control as told, and review facts."""

from collections.abc import Callable
from typing import Any

from shared.domain.checks import evaluate, find_checks
from shared.llm.protocol import CompletionRequest
from tests.support.fake_models import block_of

FIRST_WORDS = object()
"""As a quote: the first three words of the answer."""


def is_control(wish: str, answer: str) -> bool:
    """Whether the wish holds a machine check that fails on the answer: a wish that a program decides is never sent otherwise."""
    return any(evaluate(check, answer).outcome == "fail" for check in find_checks(wish))


def checklist_judge(
    rule: Callable[[str, dict[str, Any]], str],
    *,
    control: str = "violated",
    quote: object = FIRST_WORDS,
    contradictions: Callable[[dict[str, Any]], list[dict[str, str]]] = lambda block: [],
) -> Callable[[CompletionRequest], dict[str, Any]]:
    """`rule(wish, block)` gives the verdict on each wish but the control, whose verdict is `control`; `contradictions` tells
    those of the answer of a block, in reviews of facts too."""

    def script(request: CompletionRequest) -> dict[str, Any]:
        block = block_of(request)
        if "answers" in block:
            return facts_told(block, contradictions)
        answer = block["answer"]
        shown = " ".join(answer.split()[:3]) if quote is FIRST_WORDS else quote
        items = []
        for item in block["items"]:
            verdict = control if is_control(item["wish"], answer) else rule(item["wish"], block)
            items.append({"item": item["item"], "verdict": verdict, "quote": shown if verdict != "violated" else ""})
        return {"items": items, "contradictions": contradictions(block)}

    return script


def facts_told(
    block: dict[str, Any], contradictions: Callable[[dict[str, Any]], list[dict[str, str]]] = lambda block: []
) -> dict[str, Any]:
    """The answer to a review of facts: what `contradictions` tells of each answer by itself."""
    return {
        "contradictions": [
            {"answer": one["answer"], **told}
            for one in block["answers"]
            for told in contradictions({**block, "answer": one["text"]})
        ]
    }
