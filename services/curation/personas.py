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

_FIRST_WORD = re.compile(r"\w")
_SENTENCE_END = re.compile(r"[.!?:]\s+|\n+")


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
    unless: str | None = None
    """A pattern on the sentence up to the end of what was found: where it matches, that find does not count."""


class _RuleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    words: dict[str, list[str]]
    rules: list[PersonaRule]


class _CompiledRule:
    """A rule with its patterns compiled. Raises ValueError for an unknown word list."""

    def __init__(self, rule: PersonaRule, words: dict[str, list[str]]) -> None:
        self.rule = rule
        self.needs = frozenset(rule.needs)
        self._pattern = re.compile(_with_words(rule.pattern, words))
        self._unless = None if rule.unless is None else re.compile(_with_words(rule.unless, words))

    def find(self, text: str) -> str | None:
        """The first words of a text that the rule finds, whatever its `needs`."""
        for found in self._pattern.finditer(text):
            if self._unless is None or not self._unless.search(_sentence_with(text, found)):
                return found[0]
        return None


class PersonaFilter:
    """Compiled rules, tried in the order of the file."""

    def __init__(self, data: object) -> None:
        """`data` as `personas.yaml` holds it; raises msgspec.ValidationError or ValueError (an unknown word list)."""
        parsed = msgspec.convert(data, _RuleFile)
        self.rules = tuple(parsed.rules)
        self._compiled = tuple(_CompiledRule(rule, parsed.words) for rule in parsed.rules)
        self._fragments = sorted({fragment for rule in parsed.rules for fragment in rule.needs})

    def match(self, instruction: str) -> PersonaMatch | None:
        """The first rule that finds something in the instruction, None where none does."""
        text = _searched(instruction)
        present = {fragment for fragment in self._fragments if fragment in text}
        for compiled in self._compiled:
            if not compiled.needs.isdisjoint(present) and (found := compiled.find(text)) is not None:
                return PersonaMatch(compiled.rule.name, compiled.rule.reason, " ".join(found.split())[:80])
        return None

    def hidden_by_needs(self, instruction: str) -> list[str]:
        """Names of rules whose pattern finds something that their `needs` would have hidden: there must be none."""
        text = _searched(instruction)
        return [
            compiled.rule.name
            for compiled in self._compiled
            if compiled.find(text) is not None and not any(fragment in text for fragment in compiled.needs)
        ]


def _searched(instruction: str) -> str:
    text = instruction.lower().replace("’", "'")
    if len(text) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        return f"{text[:HEAD_CHARACTERS]}\n{text[-TAIL_CHARACTERS:]}"
    return text


def _sentence_with(text: str, found: re.Match[str]) -> str:
    """The sentence in which the words found stand, up to their end. A find may begin with the end of the sentence before."""
    first_word = _FIRST_WORD.search(text, found.start())
    start = first_word.start() if first_word else found.start()
    begin = max((end.end() for end in _SENTENCE_END.finditer(text, 0, start)), default=0)
    return text[begin : found.end()]


def _with_words(pattern: str, words: dict[str, list[str]]) -> str:
    def list_of(match: re.Match[str]) -> str:
        name = match[1]
        if name not in words:
            raise ValueError(f"the pattern names the word list <{name}>, but there are only {sorted(words)}")
        return "|".join(_with_words(word, words) for word in words[name])

    return re.sub(r"(?<!\?)(?<!\?P)<([a-z]+)>", list_of, pattern)


@lru_cache(maxsize=1)
def persona_filter() -> PersonaFilter:
    """The rules that the project carries."""
    text = files("services.curation").joinpath("personas.yaml").read_text("utf-8")
    return PersonaFilter(yaml.safe_load(text))
