"""What every kind of machine check brings, and the parameters that kinds share."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shared.domain.checks.outcome import CheckOutcome

Value = str | int | float | list[str]
Parameters = dict[str, Value]

MAXIMUM_PHRASES = 8
MAXIMUM_PHRASE_CHARACTERS = 80


@dataclass(frozen=True)
class CheckKind:
    """One kind. `sentence` and `pattern` are inverses: `read` gives back the parameters that wrote the sentence."""

    name: str
    description: str
    validate: Callable[[Mapping[str, object]], Parameters]
    sentence: Callable[[Parameters], str]
    pattern: re.Pattern[str]
    read: Callable[[re.Match[str]], Parameters]
    evaluate: Callable[[Parameters, str], CheckOutcome]


def only(parameters: Mapping[str, object], name: str) -> object:
    """The value of the one parameter called `name`. Raises ValueError where it is missing or has company."""
    unknown = sorted(set(parameters) - {name})
    if unknown:
        raise ValueError(f"unknown parameter {', '.join(unknown)}; the only one is `{name}`")
    if name not in parameters:
        raise ValueError(f"the parameter `{name}` is missing")
    return parameters[name]


def whole_number(name: str, value: object, low: int, high: int) -> int:
    """An integer in [low, high]. Raises ValueError for anything else, a bool too."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"`{name}` must be a whole number, seen: {value!r}")
    if not low <= value <= high:
        raise ValueError(f"`{name}` must lie between {low} and {high}, seen: {value}")
    return value


def phrase(name: str, value: object) -> str:
    """A phrase that can stand between double quotes in a sentence and be looked for in a text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"`{name}` must be text, seen: {value!r}")
    if not 1 <= len(value) <= MAXIMUM_PHRASE_CHARACTERS:
        raise ValueError(f"`{name}` must have 1 to {MAXIMUM_PHRASE_CHARACTERS} characters, seen: {len(value)}")
    if '"' in value:
        raise ValueError(f"`{name}` must not contain a double quote: it stands between two in the sentence")
    if " ".join(value.split()) != value:
        raise ValueError(f"`{name}` must have single spaces only, inside and none around it, seen: {value!r}")
    categories = [unicodedata.category(character) for character in value]
    if any(category in {"Cc", "Cs", "Zl", "Zp"} for category in categories):
        raise ValueError(f"`{name}` contains a control character, seen: {value!r}")
    if all(category[0] in "CZM" for category in categories):
        raise ValueError(f"`{name}` has no visible character, seen: {value!r}")
    return value


def phrases(name: str, value: object) -> list[str]:
    """One to eight different phrases. Raises ValueError."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"`{name}` must be a list of phrases, seen: {value!r}")
    if not 1 <= len(value) <= MAXIMUM_PHRASES:
        raise ValueError(f"`{name}` must hold 1 to {MAXIMUM_PHRASES} phrases, seen: {len(value)}")
    checked = [phrase(f"{name}[{index}]", item) for index, item in enumerate(value)]
    if len({item.casefold() for item in checked}) != len(checked):
        raise ValueError(f"`{name}` names a phrase twice, seen: {checked}")
    return checked
