"""Rubrics and verdicts of an evaluation: what a simulated teacher and judge say of rubrics, single answers, turns and pairs.

A verdict is the truth that `checklist` finds by program (machine checks, the words of a wish), passed through the judge's profile
and a little noise of each call. It says nothing about the quality of a real answer.
"""

import re
from typing import Any, NamedTuple

from services.simulator.chance import Chance, generator_of
from services.simulator.checklist import FOLLOWED, PARTLY, VIOLATED, Reading, said_verdict
from services.simulator.judge_profile import JudgeProfile
from services.simulator.requests import BadRequest
from services.simulator.words import content_words, words_of

RUBRIC_KEYS = frozenset({"rubrics_for"})
GRADE_KEYS = frozenset({"criterion", "levels", "answer"})
RATING_KEYS = frozenset({"conversation"})
COMPARISON_KEYS = frozenset({"answer_a", "answer_b"})
VERDICT_KEYS = (GRADE_KEYS, RATING_KEYS, COMPARISON_KEYS)

_CRITERION = "How far does the answer honour this wish: "
_LEVELS = (
    "The answer ignores the wish, or goes against it: {wish}",
    "A trace of it is there, in one place at most, and the rest disregards it: {wish}",
    "About half of the answer keeps to it, the other half does not: {wish}",
    "Nearly all of the answer keeps to it, with a slip or two: {wish}",
    "All of the answer keeps to it, as this person would have it: {wish}",
)
_SCORES = {FOLLOWED: (5, 5, 4), PARTLY: (3, 4, 2), VIOLATED: (1, 1, 2)}
_ARENA_STEPS = ("b>>a", "b>a", "a=b", "a>b", "a>>b")


class _Shown(NamedTuple):
    """An answer as one text, whether it came as text or as a conversation."""

    text: str

    @property
    def words(self) -> list[str]:
        return words_of(self.text)


def answer_rubrics(block: dict[str, Any]) -> dict[str, Any]:
    """`{"rubrics": [{number, criterion, levels}]}`, in the order shown. Raises BadRequest for a block that cannot be read."""
    entries = block["rubrics_for"]
    if not isinstance(entries, list):
        raise BadRequest("`rubrics_for` of the json block must be a list", "messages")
    rubrics = []
    for position, entry in enumerate(entries):
        wish = entry.get("wish") if isinstance(entry, dict) else None
        number = entry.get("number") if isinstance(entry, dict) else None
        if not isinstance(wish, str) or not isinstance(number, int):
            raise BadRequest(f"rubrics_for/{position} needs `number` as a number and `wish` as text", "messages")
        levels = [level.format(wish=_last_words(wish)) for level in _LEVELS]
        rubrics.append({"number": number, "criterion": f"{_CRITERION}{wish}", "levels": levels})
    return {"rubrics": rubrics}


def answer_grade(block: dict[str, Any], seed: int, digest: bytes, profile: JudgeProfile) -> dict[str, Any]:
    """`{"feedback", "score"}`, 1 to 5. Raises BadRequest for a block that cannot be read."""
    chance = generator_of(seed, digest, "grade")
    shown = _shown(block, "answer")
    criterion = block.get("criterion")
    if not isinstance(criterion, str):
        raise BadRequest("`criterion` of the json block must be text", "messages")
    wish = criterion.removeprefix(_CRITERION)
    finding = Reading(shown.text, _instruction(block)).truth(wish)
    verdict = said_verdict(finding.verdict, shown.text, profile, chance)
    score = chance.choice(_SCORES[verdict])
    seen = f' Seen there: "{finding.quote}".' if finding.quote and verdict != VIOLATED else ""
    return {"feedback": f"Held against the wish, the answer stands at level {score}.{seen}", "score": score}


def answer_rating(block: dict[str, Any], seed: int, digest: bytes) -> dict[str, Any]:
    """`{"feedback", "score"}`, 1 to 10, by how many words of the last question the answer takes up. Raises BadRequest for a block
    that cannot be read."""
    chance = generator_of(seed, digest, "rating")
    turns = _turns(block["conversation"], "conversation")
    user, assistant = turns[-1] if turns else ("", "")
    found = len(set(content_words(user)) & set(words_of(assistant)))
    score = max(1, min(10, 3 + min(found, 5) + chance.choice((-1, 0, 0, 1))))
    return {"feedback": f"The last answer takes up {found} words of what was asked.", "score": score}


def answer_comparison(
    block: dict[str, Any], choices: frozenset[str], seed: int, digest: bytes, profile: JudgeProfile
) -> dict[str, Any]:
    """`{"feedback", "verdict"}`, and `own_answer` for the scale of five: which of two answers follows more of what the person
    wants, or takes up more of the instruction. Raises BadRequest for a block that cannot be read."""
    chance = generator_of(seed, digest, "comparison")
    first, second = (_worth(_shown(block, name), block, profile, chance) for name in ("answer_a", "answer_b"))
    if chance.random() < profile.position_bias:
        first = max(1.0, second + 0.5)
    told = f"The first answer is worth {first:.2f} and the second {second:.2f} of what could be had."
    if "both_good" in choices:
        tie = "both_good" if min(first, second) >= 0.5 else "both_bad"
        return {"feedback": told, "verdict": tie if first == second else "a" if first > second else "b"}
    if "a=b" in choices:
        step = 2 if first == second else (3 if first > second else 1)
        step += 0 if abs(first - second) < 0.4 else 1 if first > second else -1
        return {"own_answer": "(simulated)", "feedback": told, "verdict": _ARENA_STEPS[step]}
    prefers_first = first > second or (first == second and chance.random() < 0.5)
    return {"feedback": told, "verdict": "a" if prefers_first else "b"}


def as_prose(value: dict[str, Any]) -> str:
    """The verdict as a judge writes it that knows no structured output."""
    verdict = f"[[{value['verdict']}]]" if "verdict" in value else f"[RESULT] {value['score']}"
    return f"{value['feedback']}\n{verdict}"


def _worth(shown: _Shown, block: dict[str, Any], profile: JudgeProfile, chance: Chance) -> float:
    wants = block.get("wants")
    instruction = _instruction(block)
    if isinstance(wants, list) and wants:
        reading = Reading(shown.text, instruction)
        verdicts = [said_verdict(reading.truth(str(wish)).verdict, shown.text, profile, chance) for wish in wants]
        return sum({FOLLOWED: 1.0, PARTLY: 0.5, VIOLATED: 0.0}[verdict] for verdict in verdicts) / len(verdicts)
    asked = set(content_words(instruction))
    return len(asked & set(shown.words)) / len(asked) if asked else 0.0


def _shown(block: dict[str, Any], name: str) -> _Shown:
    value = block.get(name)
    if isinstance(value, str):
        return _Shown(value)
    return _Shown("\n\n".join(assistant for _, assistant in _turns(value, name)))


def _turns(value: object, name: str) -> list[tuple[str, str]]:
    if not isinstance(value, list) or not all(
        isinstance(turn, dict) and isinstance(turn.get("user"), str) and isinstance(turn.get("assistant"), str)
        for turn in value
    ):
        raise BadRequest(f"`{name}` of the json block must be text, or turns with `user` and `assistant`", "messages")
    return [(turn["user"], turn["assistant"]) for turn in value]


def _instruction(block: dict[str, Any]) -> str:
    value = block.get("instruction")
    return value if isinstance(value, str) else ""


def _last_words(wish: str) -> str:
    """Enough of a wish to tell its levels from those of another."""
    return re.sub(r"\s+", " ", wish).strip()[:120]
