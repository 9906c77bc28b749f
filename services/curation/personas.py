"""Instructions that already carry a persona or a preference. The rules are data (`personas.yaml`).

What counts, and how well the rules find it on labelled real instructions, is in docs/persona-filter.md.
"""

import re
from functools import lru_cache
from importlib.resources import files
from typing import Literal

import msgspec
import yaml

HEAD_CHARACTERS = 600
TAIL_CHARACTERS = 400


class PersonaMatch(msgspec.Struct, frozen=True):
    """The first rule that fired: its name, what kind of statement it finds, and the words that it found."""

    rule: str
    reason: str
    found: str


class PersonaRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule as written in the file."""

    name: str
    reason: Literal["role", "voice", "audience", "manner"]
    needs: list[str]
    pattern: str


class _RuleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    words: dict[str, list[str]]
    rules: list[PersonaRule]


class PersonaFilter:
    """Compiled rules, tried in the order of the file."""

    def __init__(self, data: object) -> None:
        """`data` as `personas.yaml` holds it; raises msgspec.ValidationError or ValueError (an unknown word list)."""
        parsed = msgspec.convert(data, _RuleFile)
        self.rules = tuple(parsed.rules)
        self._compiled = tuple(
            (rule, frozenset(rule.needs), re.compile(_with_words(rule.pattern, parsed.words))) for rule in parsed.rules
        )
        self._fragments = sorted({fragment for rule in parsed.rules for fragment in rule.needs})

    def match(self, instruction: str) -> PersonaMatch | None:
        """The first rule that finds something in the instruction, None where none does."""
        text = _searched(instruction)
        present = {fragment for fragment in self._fragments if fragment in text}
        for rule, needs, pattern in self._compiled:
            if not needs.isdisjoint(present) and (found := pattern.search(text)):
                return PersonaMatch(rule.name, rule.reason, " ".join(found[0].split())[:80])
        return None

    def hidden_by_needs(self, instruction: str) -> list[str]:
        """Names of rules whose pattern finds something that their `needs` would have hidden: there must be none."""
        text = _searched(instruction)
        return [
            rule.name
            for rule, needs, pattern in self._compiled
            if pattern.search(text) and not any(fragment in text for fragment in needs)
        ]


def _searched(instruction: str) -> str:
    text = instruction.lower().replace("’", "'")
    if len(text) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        return f"{text[:HEAD_CHARACTERS]}\n{text[-TAIL_CHARACTERS:]}"
    return text


def _with_words(pattern: str, words: dict[str, list[str]]) -> str:
    def list_of(match: re.Match[str]) -> str:
        name = match[1]
        if name not in words:
            raise ValueError(f"the pattern names the word list <{name}>, but there are only {sorted(words)}")
        return "|".join(words[name])

    return re.sub(r"(?<!\?)(?<!\?P)<([a-z]+)>", list_of, pattern)


@lru_cache(maxsize=1)
def persona_filter() -> PersonaFilter:
    """The rules that the project carries."""
    text = files("services.curation").joinpath("personas.yaml").read_text("utf-8")
    return PersonaFilter(yaml.safe_load(text))
