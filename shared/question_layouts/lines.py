"""One line of questions, whatever its layout."""

from typing import Any

import msgspec
import orjson

from shared.domain.rows import Facet, Preference


class QuestionLine(msgspec.Struct, frozen=True):
    """A line that can be asked. Lines of one `identity` (the instruction, and where one is asked in several groups the group)
    are one row, each a facet of it."""

    row: int
    instruction: str
    facet: Facet
    main_source: str = ""
    original_source: str = ""
    category: str = ""
    turns: list[str] = []
    group: str = ""

    @property
    def identity(self) -> str:
        return f"{self.instruction}\n{self.group}" if self.group else self.instruction


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def preferences_of(value: object) -> list[Preference]:
    """The preference set as the exports have it, also as JSON text (of a CSV file); nothing where it is something else."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return []
    if not isinstance(value, list):
        return []
    return [
        Preference(
            dimension=text_of(entry.get("dimension")),
            subdimension=text_of(entry.get("subdimension")),
            preference=text_of(entry.get("preference")),
            description=text_of(entry.get("description")),
            pole="",
        )
        for entry in value
        if isinstance(entry, dict)
    ]


def last_text(value: Any) -> str:
    """A text, or the content of the last of several messages (as preference pairs have their answers); empty for anything
    else."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        return text_of(value[-1].get("content"))
    return ""
