"""Rules that find a kind of instruction by its wording. The rules themselves are data: a YAML file with word lists and
patterns, one file per duty (`personas.yaml`, `harmful_intent.yaml`).

Patterns are regular expressions over lower-cased text with straight apostrophes. `<name>` stands for any of the words of
that list, in the words of other lists too.
"""

import re
from collections.abc import Collection

import msgspec

HEAD_CHARACTERS = 600
TAIL_CHARACTERS = 400

_FIRST_WORD = re.compile(r"\w")
_SENTENCE_END = re.compile(r"[.!?:]\s+|\n+")


class RuleMatch(msgspec.Struct, frozen=True):
    """The first rule that fired: its name, what kind of statement it finds, and the words that it found."""

    rule: str
    reason: str
    found: str


class TextRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule as written in the file."""

    name: str
    reason: str
    needs: list[str]
    """Plain fragments, one of which must be there before the pattern is tried: saves time, never changes the outcome."""
    pattern: str
    unless: str | None = None
    """A pattern on the sentence up to the end of what was found: where it matches, that find does not count."""
    unless_around: str | None = None
    """A pattern on the whole sentence in which the words were found: where it matches, that find does not count."""


class _RuleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    words: dict[str, list[str]]
    rules: list[TextRule]


class _CompiledRule:
    """A rule with its patterns compiled. Raises ValueError for an unknown word list."""

    def __init__(self, rule: TextRule, words: dict[str, list[str]]) -> None:
        self.rule = rule
        self.needs = frozenset(rule.needs)
        self._pattern = re.compile(_with_words(rule.pattern, words))
        self._unless = None if rule.unless is None else re.compile(_with_words(rule.unless, words))
        self._around = None if rule.unless_around is None else re.compile(_with_words(rule.unless_around, words))

    def find(self, text: str) -> str | None:
        """The first words of a text that the rule finds, whatever its `needs`."""
        for found in self._pattern.finditer(text):
            if not self._excepted(text, found):
                return found[0]
        return None

    def _excepted(self, text: str, found: re.Match[str]) -> bool:
        if self._unless is None and self._around is None:
            return False
        begin = _sentence_begin(text, found)
        if self._unless is not None and self._unless.search(text[begin : found.end()]):
            return True
        if self._around is None:
            return False
        # A find may end with the sentence, so the search for the end begins with its last character.
        end = _SENTENCE_END.search(text, found.end() - 1)
        return self._around.search(text[begin : end.start() if end else len(text)]) is not None


class RuleFilter:
    """Compiled rules, tried in the order of the file."""

    def __init__(self, data: object, reasons: Collection[str]) -> None:
        """`data` as a rule file holds it. Raises msgspec.ValidationError for a wrong shape, and ValueError for an unknown
        word list or a reason that is not one of `reasons`."""
        parsed = msgspec.convert(data, _RuleFile)
        for rule in parsed.rules:
            if rule.reason not in reasons:
                raise ValueError(f"the rule {rule.name!r} has the reason {rule.reason!r}, not one of {sorted(reasons)}")
        self.rules = tuple(parsed.rules)
        self._compiled = tuple(_CompiledRule(rule, parsed.words) for rule in parsed.rules)
        self._fragments = sorted({fragment for rule in parsed.rules for fragment in rule.needs})

    def match(self, instruction: str) -> RuleMatch | None:
        """The first rule that finds something in the instruction, None where none does."""
        text = _searched(instruction)
        present = {fragment for fragment in self._fragments if fragment in text}
        if not present:
            return None
        for compiled in self._compiled:
            if not compiled.needs.isdisjoint(present) and (found := compiled.find(text)) is not None:
                return RuleMatch(compiled.rule.name, compiled.rule.reason, " ".join(found.split())[:80])
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


def _sentence_begin(text: str, found: re.Match[str]) -> int:
    """Where the sentence of the words found begins. A find may begin with the end of the sentence before."""
    first_word = _FIRST_WORD.search(text, found.start())
    start = first_word.start() if first_word else found.start()
    return max((end.end() for end in _SENTENCE_END.finditer(text, 0, start)), default=0)


def _with_words(pattern: str, words: dict[str, list[str]]) -> str:
    def list_of(match: re.Match[str]) -> str:
        name = match[1]
        if name not in words:
            raise ValueError(f"the pattern names the word list <{name}>, but there are only {sorted(words)}")
        return "|".join(_with_words(word, words) for word in words[name])

    return re.sub(r"(?<!\?)(?<!\?P)<([a-z]+)>", list_of, pattern)
