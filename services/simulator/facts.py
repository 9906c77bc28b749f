"""Statements that all answers to an instruction share. They look like facts and are plainly made up, so that answers can
contradict each other and a judge can be asked to notice."""

import re
from functools import lru_cache
from typing import NamedTuple

from services.simulator.chance import generator_of
from services.simulator.phrases import fill, load_phrases
from services.simulator.words import named, topics_of

SHARE_OF_TWO = 0.5
"""Share of instructions with two statements instead of one."""
_VALUES = re.compile(r"\{[ynpl]\}")


class Fact(NamedTuple):
    """One statement: as all answers make it, as an answer that errs makes it, and what finds it with whatever value."""

    text: str
    altered: str
    pattern: re.Pattern[str]


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
        values = _two_values(kind, chance.random(), chance.random())
        before, _, after = stated.partition(kind)
        value = "|".join(_names(kind)) or r"\d+"
        pattern = re.compile(f"{re.escape(before)}({value}){re.escape(after.rstrip('.'))}", re.IGNORECASE)
        found.append(Fact(f"{before}{values[0]}{after}", f"{before}{values[1]}{after}", pattern))
    return tuple(found)


def _names(kind: str) -> tuple[str, ...]:
    """The names that a kind of value is drawn from; none for numbers."""
    phrases = load_phrases()
    return {"{p}": phrases.fact_persons, "{l}": phrases.fact_places}.get(kind, ())


def _two_values(kind: str, first: float, second: float) -> tuple[str, str]:
    """Two values of a kind that differ, from two numbers in [0, 1)."""
    if names := _names(kind):
        start = int(first * len(names))
        other = (start + 1 + int(second * (len(names) - 1))) % len(names)
        return names[start], names[other]
    lowest, count = (1700, 300) if kind == "{y}" else (12, 800)
    start = int(first * count)
    other = (start + 1 + int(second * (count - 1))) % count
    return str(lowest + start), str(lowest + other)


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
