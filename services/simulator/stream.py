"""The stock of sentences as a stream: one after the other without end, on the topics of the instruction."""

import re
from collections.abc import Sequence
from typing import Protocol

from services.simulator.avoidance import Avoidance
from services.simulator.chance import Chance
from services.simulator.phrases import fill, load_phrases
from services.simulator.recipes import Recipe
from services.simulator.words import lower_opening

_TRIES = 200
_OWN_LINK = re.compile(r"\w+(?: \w+)?,|(?:Then|Now|So|Next|Still|When|After)\b")
"""How a sentence begins that needs no further word to link it."""


class Stream(Protocol):
    def next(self, *, linked: bool = True) -> str | None:
        """The next sentence; None where each would hold an avoided word. Without `linked` it begins with its own words."""
        ...


class English:
    """Sentences of the recipe's reading levels; each level is used up before it begins anew."""

    def __init__(self, recipe: Recipe, topics: Sequence[str], allowed: Avoidance, chance: Chance) -> None:
        phrases = load_phrases()
        self._levels = (phrases.simple, phrases.plain, phrases.elaborate)
        self._links = phrases.simple_connectives if recipe.mix[0] == 1 else phrases.connectives
        self._pools: list[list[str]] = [[], [], []]
        self._rounds = [0, 0, 0]
        self._recipe, self._topics, self._allowed, self._chance = recipe, topics, allowed, chance

    def next(self, *, linked: bool = True) -> str | None:
        chance = self._chance
        for _ in range(_TRIES):
            level = self._recipe.level(chance)
            if not self._pools[level]:
                self._pools[level] = list(self._levels[level])
                self._rounds[level] += 1
            sentence = on_topic(chance.draw(self._pools[level]), self._topics, chance)
            if sentence is None:
                continue
            again = self._rounds[level] > 1 or ("," not in sentence and chance.random() < 0.12)
            if linked and again and not _OWN_LINK.match(sentence):
                sentence = f"{chance.choice(self._links)}, {lower_opening(sentence)}"
            if self._allowed.allows(sentence):
                return self._allowed.cleaned(sentence)
        return None


class Foreign:
    """Sentences of another language's stock, or pieces of the instruction where there is none."""

    def __init__(
        self, language: str, topics: Sequence[str], instruction: str, allowed: Avoidance, chance: Chance
    ) -> None:
        self._bank = load_phrases().languages.get(language) or _echoed_chunks(instruction)
        self._pool: list[str] = []
        self._topics, self._allowed, self._chance = topics, allowed, chance

    def next(self, *, linked: bool = True) -> str | None:  # noqa: ARG002
        for _ in range(2 * len(self._bank)):
            if not self._pool:
                self._pool = list(self._bank)
            sentence = on_topic(self._chance.draw(self._pool), self._topics, self._chance)
            if sentence is not None and self._allowed.allows(sentence):
                return self._allowed.cleaned(sentence)
        return None


def on_topic(template: str, topics: Sequence[str], chance: Chance) -> str | None:
    """The template with topics in its slots; None where it needs more topics than there are."""
    first, second = "{t}" in template, "{u}" in template
    if len(topics) < first + second:
        return None
    topic = chance.choice(topics) if first or second else ""
    other = chance.choice([one for one in topics if one != topic]) if first and second else topic
    sentence = fill(template, topic, other)
    return sentence[0].upper() + sentence[1:]


def _echoed_chunks(instruction: str) -> tuple[str, ...]:
    """The instruction's own words in small pieces, for a language without a stock of sentences."""
    found = re.sub(r"[.!?;:()\[\]{}\"“”«»]", " ", instruction).split()
    chunks = [" ".join(found[start : start + 6]) for start in range(0, min(len(found), 240), 6)]
    return tuple(f"{chunk[0].upper()}{chunk[1:]}." for chunk in chunks if chunk) or ("…",)
