"""Responses that speak to whoever grades them."""

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field

_SENTENCE_END = re.compile(r"[.!?\n]+")


class CommandRules(BaseModel):
    """The data file of commands to a grader: expressions, and parts that they take up by name in braces. A command is what one of
    `commands` finds, or a sentence with one of `addressees` and one of `conclusions`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parts: dict[str, str] = {}
    commands: tuple[str, ...] = Field(min_length=1)
    addressees: tuple[str, ...] = Field(min_length=1)
    conclusions: tuple[str, ...] = Field(min_length=1)

    def pattern(self, of: Sequence[str]) -> re.Pattern[str]:
        """One expression for all of some kind."""
        expressions = "|".join(f"(?:{expression})" for expression in of)
        for name, expression in self.parts.items():
            expressions = expressions.replace("{" + name + "}", expression)
        return re.compile(expressions)


class _Patterns(NamedTuple):
    command: re.Pattern[str]
    addressee: re.Pattern[str]
    conclusion: re.Pattern[str]


@lru_cache(maxsize=1)
def _patterns() -> _Patterns:
    text = files("services.generation").joinpath("judge_commands.yaml").read_text(encoding="utf-8")
    rules = CommandRules.model_validate(yaml.safe_load(text))
    return _Patterns(rules.pattern(rules.commands), rules.pattern(rules.addressees), rules.pattern(rules.conclusions))


def commands_grader(text: str) -> bool:
    """Whether the text tells a judge or grader what to conclude of it, by the rules in `judge_commands.yaml`."""
    patterns = _patterns()
    lowered = text.replace("’", "'").lower()
    if patterns.command.search(lowered) is not None:
        return True
    return any(
        patterns.addressee.search(sentence) is not None and patterns.conclusion.search(sentence) is not None
        for sentence in _SENTENCE_END.split(lowered)
    )
