"""Responses that speak to whoever grades them."""

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

    def pattern(self) -> re.Pattern[str]:
        """All commands as one expression, every part written out. Parts may use those before them."""
        expressions = "|".join(f"(?:{command})" for command in self.commands)
        # The last ones first, so that what they use is still to come.
        for name, expression in reversed(self.parts.items()):
            expressions = expressions.replace("{" + name + "}", expression)
        return re.compile(expressions)


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    text = files("services.generation").joinpath("judge_commands.yaml").read_text(encoding="utf-8")
    return CommandRules.model_validate(yaml.safe_load(text)).pattern()


def commands_grader(text: str) -> bool:
    """Whether the text tells a judge or grader what to conclude of it, by the rules in `judge_commands.yaml`."""
    return _pattern().search(text.replace("’", "'").lower()) is not None
