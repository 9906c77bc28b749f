"""The word rules of `words.yaml`, compiled."""

import re
from functools import cache
from importlib.resources import files

import msgspec
import yaml


class Opposite(msgspec.Struct, frozen=True):
    """Two demands that one answer cannot meet: a text that matches both sides contradicts itself."""

    name: str
    one: re.Pattern[str]
    other: re.Pattern[str]


class Words(msgspec.Struct, frozen=True):
    opposites: tuple[Opposite, ...]
    less_caution: re.Pattern[str]
    not_less_caution: re.Pattern[str]
    """Clauses that are taken out of a text before it is searched for `less_caution`."""
    levels: dict[str, int]
    """Word -> its level, from 0."""


@cache
def words() -> Words:
    """The rules as the package carries them."""
    data = yaml.safe_load(files("shared.audit").joinpath("words.yaml").read_text(encoding="utf-8"))
    return Words(
        opposites=tuple(Opposite(rule["name"], _any(rule["one"]), _any(rule["other"])) for rule in data["opposites"]),
        less_caution=_any(data["less_caution"]),
        not_less_caution=_any(data["not_less_caution"]),
        levels={word: level for level, names in enumerate(data["levels"]) for word in names},
    )


def _any(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)
