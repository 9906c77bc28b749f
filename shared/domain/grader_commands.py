"""Texts that speak to whoever grades or reviews them."""

import re
from functools import lru_cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict, Field


class CommandRules(BaseModel):
    """The data file of commands to a grader: expressions, and parts that they take up by name in braces."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parts: dict[str, str] = {}
    commands: tuple[str, ...] = Field(min_length=1)
    """In responses, and in whatever else is written."""
    review_commands: tuple[str, ...] = Field(min_length=1)
    """In wishes and system messages alone: a response may say such things of other texts."""

    def pattern(self, commands: tuple[str, ...]) -> re.Pattern[str]:
        """Some commands as one expression, every part written out. Parts may use those before them."""
        expressions = "|".join(f"(?:{command})" for command in commands)
        # The last ones first, so that what they use is still to come.
        for name, expression in reversed(self.parts.items()):
            expressions = expressions.replace("{" + name + "}", expression)
        return re.compile(expressions)


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    text = files("shared.domain").joinpath("grader_commands.yaml").read_text(encoding="utf-8")
    rules = CommandRules.model_validate(yaml.safe_load(text))
    return rules.pattern(rules.commands), rules.pattern((*rules.commands, *rules.review_commands))


def commands_grader(text: str) -> bool:
    """Whether a response tells a judge or grader what to conclude of it, by the rules in `grader_commands.yaml`."""
    return _patterns()[0].search(text.replace("’", "'").lower()) is not None


def commands_reviewer(text: str) -> bool:
    """Whether a wish or a system message tells whoever reviews it what to conclude of it, by the rules in
    `grader_commands.yaml`."""
    return _patterns()[1].search(text.replace("’", "'").lower()) is not None
