"""Choices: two answers to a prompt, one of them preferred."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from shared.domain.prose import fold

MAXIMUM_CHOICES = 2000
LONGEST_PROMPT = 20_000
LONGEST_ANSWER = 40_000


class Choice(BaseModel):
    """A person took `chosen` and left `rejected`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field(min_length=1, max_length=LONGEST_PROMPT)
    chosen: str = Field(min_length=1, max_length=LONGEST_ANSWER)
    rejected: str = Field(min_length=1, max_length=LONGEST_ANSWER)


def prompt_groups(choices: Sequence[Choice]) -> list[int]:
    """The prompt of each choice as a number from 0, in order of appearance: equal prompts (whatever their case and spacing)
    have one number, and are never split between what is learned from and what is predicted."""
    known: dict[str, int] = {}
    return [known.setdefault(fold(choice.prompt), len(known)) for choice in choices]
