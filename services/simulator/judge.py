"""Answers of class `judge`: which wishes an answer follows, and what wishes mean, by machine checks and shared content words."""

import re
from itertools import combinations
from typing import Any

from services.simulator.requests import BadRequest, ChatRequest, find_block
from services.simulator.words import content_words, words_of
from shared.domain.checks import conflict, evaluate, find_checks

CHECKLIST_KEYS = frozenset({"answer", "items"})
REVIEW_KEYS = frozenset({"wishes"})
WORDS_TO_FOLLOW = 3
"""So many content words of a wish in an answer of ordinary length count as following it."""
QUOTED_WORDS = 8


def answer_judge(request: ChatRequest) -> dict[str, Any]:
    """The answer to a checklist or a set review, told by the demanded schema's name, else by the block's keys. Raises
    BadRequest for a block it cannot read."""
    if request.schema_name == "set_review":
        return answer_review(find_block(request, REVIEW_KEYS))
    try:
        block = find_block(request, CHECKLIST_KEYS)
    except BadRequest:
        if request.schema_name == "checklist":
            raise
        return answer_review(find_block(request, REVIEW_KEYS))
    return answer_checklist(block)


def answer_checklist(block: dict[str, Any]) -> dict[str, Any]:
    """`{"items": [{"item", "verdict", "quote"}], "contradictions": []}`.

    A machine check in the wish decides. Else the verdict follows from the number of content words of the wish (those of the
    instruction do not count: every answer has them) that the answer takes up; a short answer needs fewer. The quote is what
    stands around the first of them, as it is written there. Raises BadRequest for a block it cannot read.
    """
    answer, items = block["answer"], block["items"]
    if not isinstance(answer, str) or not isinstance(items, list) or not items:
        raise BadRequest("the json block needs `answer` as text and `items` as a list", "messages")
    instruction = block.get("instruction")
    common = set(content_words(instruction)) if isinstance(instruction, str) else set()
    said = words_of(answer)
    present = set(said)
    needed = max(1, min(WORDS_TO_FOLLOW, len(said) // 20))
    verdicts = []
    for position, item in enumerate(items):
        wish = item.get("wish") if isinstance(item, dict) else None
        if not isinstance(wish, str) or not isinstance(item.get("item"), int):
            raise BadRequest(f"items/{position} needs `item` as a whole number and `wish` as text", "messages")
        outcomes = {evaluate(check, answer).outcome for check in find_checks(wish)}
        hits = [word for word in content_words(wish) if word in present and word not in common]
        if "fail" in outcomes:
            verdict, quote = "violated", ""
        elif "pass" in outcomes or len(hits) >= needed:
            verdict, quote = "followed", quote_around(answer, hits)
        else:
            verdict, quote = ("partly", quote_around(answer, hits)) if hits else ("violated", "")
        verdicts.append({"item": item["item"], "verdict": verdict, "quote": quote})
    return {"items": verdicts, "contradictions": []}


def quote_around(answer: str, hits: list[str]) -> str:
    """Up to eight words of the answer in a row, as written, from the first hit on (from its beginning without one)."""
    start = 0
    if hits:
        found = re.search(rf"(?<!\w){re.escape(hits[0])}(?!\w)", answer, re.IGNORECASE)
        start = found.start() if found else 0
    words = list(re.finditer(r"\S+", answer[start:]))[:QUOTED_WORDS]
    return answer[start : start + words[-1].end()] if words else ""


def answer_review(block: dict[str, Any]) -> dict[str, Any]:
    """`{"wishes": [{"wish", "option", "trivial"}], "contradictions": [{"first", "second", "why"}]}`.

    A wish means the option with which it shares the most content words, the first among equals, and none (-1) where it shares
    none. It is trivial where it has no content word. Two wishes of one set contradict each other where their machine checks
    do. Raises BadRequest for a block it cannot read.
    """
    wishes = block["wishes"]
    if not isinstance(wishes, list) or not wishes:
        raise BadRequest("the json block needs `wishes` as a list", "messages")
    answered, sets = [], []
    for position, wish in enumerate(wishes):
        if not _is_wish(wish):
            raise BadRequest(
                f"wishes/{position} needs `wish` and `set` as whole numbers, `text` as text and `options` as texts",
                "messages",
            )
        said = set(content_words(wish["text"]))
        shared = [len(said.intersection(content_words(option))) for option in wish["options"]]
        best = max(shared, default=0)
        answered.append({"wish": wish["wish"], "option": shared.index(best) if best else -1, "trivial": not said})
        sets.append((wish["set"], wish["wish"], find_checks(wish["text"])))
    contradictions = [
        {"first": first, "second": second, "why": reason}
        for (one, first, checks), (other, second, others) in combinations(sets, 2)
        if one == other and (reason := next(filter(None, (conflict(a, b) for a in checks for b in others)), None))
    ]
    return {"wishes": answered, "contradictions": contradictions}


def _is_wish(wish: Any) -> bool:
    return (
        isinstance(wish, dict)
        and isinstance(wish.get("wish"), int)
        and isinstance(wish.get("set"), int)
        and isinstance(wish.get("text"), str)
        and isinstance(wish.get("options"), list)
        and all(isinstance(option, str) for option in wish["options"])
    )
