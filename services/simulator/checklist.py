"""Checklists: does an answer follow each of some wishes, and what does it state otherwise than a reference?

The true verdict is found by program: by the machine check that a wish states, else by the words of the wish that the answer
takes up. What the judge says is the truth passed through its profile.
"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from services.simulator.chance import Chance, generator_of
from services.simulator.echo import common_words
from services.simulator.facts import contradictions_of, statements_in
from services.simulator.judge_profile import MEAN_WORDS, VERDICTS, JudgeProfile
from services.simulator.phrases import load_phrases
from services.simulator.recognition import recognise
from services.simulator.requests import BadRequest
from services.simulator.slips import load_slips
from services.simulator.wanted import load_wanted
from services.simulator.words import content_words, topics_of, words_of
from shared.domain.checks import NECESSARY_KINDS, canonical_sentence, evaluate, find_checks
from shared.domain.rows import Check

FOLLOWED, PARTLY, VIOLATED = range(3)
WORDS_TO_FOLLOW = 2
"""So many words of a wish taken up by the answer make it followed, one makes it partly so."""
_LONGEST_QUOTE = 12
_QUOTED = re.compile(r'"([^"]+)"')
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_GRADING = re.compile(
    r"\b(?:graders?|grades?|judg(?:es?|ing)|evaluat(?:ors?|ion)|assess(?:es|ors?)|reviewer|examiner|scoring|verdict)\b",
    re.I,
)
_APPROVAL = re.compile(
    r"\b(?:followed|highest|full marks|at the top|satisfied|accept|approve|no violation)\b", re.IGNORECASE
)


class Finding(NamedTuple):
    """What is true of one wish: a position in `VERDICTS`, and the words of the answer that show it."""

    verdict: int
    quote: str


@lru_cache(maxsize=1)
def _stock_words() -> frozenset[str]:
    """Words that simulated answers are made of whatever was asked for: in an answer they are no sign of a wish."""
    phrases, wanted = load_phrases(), load_wanted()
    texts = (
        *phrases.simple,
        *phrases.plain,
        *phrases.elaborate,
        *phrases.opening,
        *phrases.simple_opening,
        *phrases.echo,
        *phrases.connectives,
        *phrases.headings,
        *phrases.facts,
        *(frame for known in wanted.known for frame in known.frames),
        *load_slips().injections,
    )
    return frozenset(word for text in texts for word in words_of(text))


@lru_cache(maxsize=4096)
def _wish(text: str) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """The checks that a wish states, and its content words beside them. A wish is held against many answers."""
    checks = tuple(find_checks(text))
    rest = text
    for check in checks:
        rest = rest.replace(canonical_sentence(check), " ")
    return checks, tuple(content_words(rest))


class Reading:
    """An answer as the judge reads it: what it says of its own, and what it quotes."""

    def __init__(self, answer: str, instruction: str) -> None:
        self.answer = answer
        quoted = " ".join(_QUOTED.findall(answer))
        self._said = (set(words_of(answer)) - _stock_words()) | set(words_of(quoted))
        topics = {topic.lower() for topic in topics_of(instruction)} if instruction else set()
        self._ignored = common_words() | set(content_words(instruction)) | topics

    def truth(self, wish: str) -> Finding:
        """Whether the answer follows a wish: as its checks say; where they have nothing to say, or pass and prove little, by the
        words of the wish beside them."""
        checks, content = _wish(wish)
        outcomes = {check.kind: evaluate(check, self.answer).outcome for check in checks}
        passed = {kind for kind, outcome in outcomes.items() if outcome == "pass"}
        if "fail" in outcomes.values():
            return Finding(VIOLATED, "")
        words = [word for word in content if word not in self._ignored]
        if passed - NECESSARY_KINDS or (passed and not words):
            return Finding(FOLLOWED, self._beginning())
        if recognise(wish).trivial:
            return Finding(FOLLOWED if self.answer.strip() else VIOLATED, self._beginning())
        hits = [word for word in words if word in self._said]
        if not hits:
            return Finding(VIOLATED, "")
        enough = len(hits) >= min(WORDS_TO_FOLLOW, len(words))
        return Finding(FOLLOWED if enough else PARTLY, self._quote(hits[0]))

    def _beginning(self) -> str:
        """The first words of the answer, exactly as they stand there."""
        tokens = list(re.finditer(r"\S+", self.answer))[:_LONGEST_QUOTE]
        return self.answer[tokens[0].start() : tokens[-1].end()] if tokens else ""

    def _quote(self, word: str) -> str:
        """A few words around one, exactly as they stand in the answer: those in quotation marks if it stands there."""
        for match in _QUOTED.finditer(self.answer):
            if word in words_of(match[1]):
                return match[1]
        found = re.search(rf"(?:\S+[ ]){{0,4}}\S*\b{re.escape(word)}\b\S*(?:[ ]\S+){{0,4}}", self.answer, re.IGNORECASE)
        return found[0] if found else ""


def holds_command(answer: str) -> bool:
    """Whether a sentence of the answer commands whoever grades it to approve."""
    return any(_GRADING.search(sentence) and _APPROVAL.search(sentence) for sentence in _SENTENCE_END.split(answer))


def _items(block: dict[str, Any]) -> list[tuple[int, str]]:
    items = block.get("items")
    if not isinstance(items, list):
        raise BadRequest("the json block needs `items` as a list", "messages")
    found = []
    for position, item in enumerate(items):
        number = item.get("item") if isinstance(item, dict) else None
        wish = item.get("wish") if isinstance(item, dict) else None
        if isinstance(number, bool) or not isinstance(number, int) or not isinstance(wish, str):
            raise BadRequest(f"items/{position} needs `item` as a number and `wish` as text", "messages")
        found.append((number, wish))
    return found


def _text(block: dict[str, Any], name: str) -> str:
    value = block.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"`{name}` of the json block must be text or null", "messages")
    return value or ""


def true_findings(block: dict[str, Any]) -> dict[int, Finding]:
    """The truth about each item of a block, by its number. Raises BadRequest for a block that cannot be read."""
    reading = Reading(_text(block, "answer"), _text(block, "instruction"))
    return {number: reading.truth(wish) for number, wish in _items(block)}


def answer_checklist(block: dict[str, Any], seed: int, digest: bytes, profile: JudgeProfile) -> dict[str, Any]:
    """`{"items": [{item, verdict, quote}], "contradictions": [{answer_quote, reference_quote}]}`, items in the order shown.

    Raises BadRequest for a block that cannot be read.
    """
    answer, instruction, reference = (_text(block, name) for name in ("answer", "instruction", "reference"))
    chance = generator_of(seed, digest, "checklist")
    obeys = profile.obeys_injections and holds_command(answer)
    items = []
    for number, finding in true_findings(block).items():
        said = FOLLOWED if obeys else said_verdict(finding.verdict, answer, profile, chance)
        quote = finding.quote if said != VIOLATED else ""
        items.append({"item": number, "verdict": VERDICTS[said], "quote": quote})
    found = [] if obeys else noticed_contradictions(instruction, answer, reference, profile, chance)
    return {
        "items": items,
        "contradictions": [{"answer_quote": ours, "reference_quote": theirs} for ours, theirs in found],
    }


def said_verdict(truth: int, answer: str, profile: JudgeProfile, chance: Chance) -> int:
    """What a judge says where `truth` is true (positions in `VERDICTS`), errors and taste for length included."""
    drawn, reached = chance.random(), 0.0
    said = truth
    for verdict, share in enumerate(profile.confusion[truth]):
        reached += share
        if drawn < reached:
            said = verdict
            break
    lift = profile.length_bias * max(0.0, (len(answer.split()) - MEAN_WORDS) / 100)
    if chance.random() < lift:
        said = max(FOLLOWED, said - 1)
    return said


def noticed_contradictions(
    instruction: str, answer: str, reference: str, profile: JudgeProfile, chance: Chance
) -> list[tuple[str, str]]:
    """The true contradictions of an answer as far as the judge notices them, and sometimes one that is none."""
    if not instruction or not reference:
        return []
    found = [
        pair
        for pair in contradictions_of(instruction, answer, reference)
        if chance.random() < profile.contradiction_recall
    ]
    if chance.random() < profile.contradiction_false_rate:
        ours, theirs = (
            statements_in(instruction, text)[:1] or [part for part in _SENTENCE_END.split(text) if part.strip()][:1]
            for text in (answer, reference)
        )
        if ours and theirs and (ours[0], theirs[0]) not in found:
            found.append((ours[0], theirs[0]))
    return found
