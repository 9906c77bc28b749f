"""Statements that all answers to an instruction share. They look like facts and are plainly made up, so that answers can
contradict each other and a judge can be asked to notice."""

import re
from functools import lru_cache
from typing import NamedTuple

from services.simulator.chance import Chance, generator_of
from services.simulator.phrases import fill, load_phrases
from services.simulator.words import named, topics_of

SHARE_OF_TWO = 0.5
"""Share of instructions with two statements instead of one."""
_VALUES = re.compile(r"\{[ynpl]\}")


class Fact(NamedTuple):
    """One statement: as all answers make it, and what finds it with whatever value."""

    text: str
    pattern: re.Pattern[str]
    before: str
    after: str
    kind: str
    value: str

    def altered(self, chance: Chance) -> str:
        """The statement with another value. Each answer that errs draws its own, so that two of them seldom agree."""
        return f"{self.before}{_other_value(self.kind, self.value, chance.random())}{self.after}"


@lru_cache(maxsize=4096)
def facts_of(instruction: str) -> tuple[Fact, ...]:
    """One or two statements on the topics of an instruction. They depend on it alone; the seed changes nothing."""
    phrases = load_phrases()
    chance = generator_of("facts", instruction)
    topics = topics_of(instruction)
    templates = list(phrases.facts)
    found = []
    for number in range(1 + (chance.random() < SHARE_OF_TWO)):
        template = chance.draw(templates)
        stated = fill(template, named(topics[number % len(topics)]))
        slot = _VALUES.search(template)
        # Every template has one value: a test holds the stock to it.
        kind = slot[0] if slot else "{y}"
        held = _value(kind, chance.random())
        before, _, after = stated.partition(kind)
        value = "|".join(_names(kind)) or r"\d+"
        pattern = re.compile(f"{re.escape(before)}({value}){re.escape(after.rstrip('.'))}", re.IGNORECASE)
        found.append(Fact(f"{before}{held}{after}", pattern, before, after, kind, held))
    return tuple(found)


def _names(kind: str) -> tuple[str, ...]:
    """The names that a kind of value is drawn from; none for numbers."""
    phrases = load_phrases()
    return {"{p}": phrases.fact_persons, "{l}": phrases.fact_places}.get(kind, ())


def _range(kind: str) -> range:
    """The numbers that a kind of value is drawn from: years, else amounts."""
    return range(1700, 2000) if kind == "{y}" else range(12, 812)


def _value(kind: str, drawn: float) -> str:
    """A value of a kind, from a number in [0, 1)."""
    stock = _names(kind) or _range(kind)
    return str(stock[int(drawn * len(stock))])


def _other_value(kind: str, value: str, drawn: float) -> str:
    """A value of a kind that is not `value`, from a number in [0, 1)."""
    stock = [one for one in map(str, _names(kind) or _range(kind)) if one != value]
    return stock[int(drawn * len(stock))]


def contradictions_of(instruction: str, answer: str, reference: str) -> list[tuple[str, str]]:
    """Pairs of quotations, from the answer and from the reference, that give one statement different values."""
    found = []
    for fact in facts_of(instruction):
        ours, theirs = fact.pattern.search(answer), fact.pattern.search(reference)
        if ours and theirs and ours[1].casefold() != theirs[1].casefold():
            found.append((ours[0], theirs[0]))
    return found


def statements_in(instruction: str, text: str) -> list[str]:
    """The shared statements that stand in a text, with whatever value."""
    return [match[0] for fact in facts_of(instruction) if (match := fact.pattern.search(text))]
