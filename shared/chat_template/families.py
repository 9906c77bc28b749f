"""The kinds of chat templates that models here have."""

from enum import StrEnum
from functools import cache
from importlib.resources import files


class Family(StrEnum):
    """Whose chat template a model has."""

    MISTRAL = "mistral"
    """Ours: system message and instruction share the first user turn."""
    SYSTEM_ROLE = "system_role"
    """The model's own, which has a system role."""


@cache
def template_text() -> str:
    """The text of our template (`mistral`), as it is stored with a model."""
    return files("shared.chat_template").joinpath("templates/mistral.jinja").read_text(encoding="utf-8")
