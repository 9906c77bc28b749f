"""Values of a line's fields, as JSON, Parquet or CSV hold them."""

import re
from collections.abc import Mapping
from math import isfinite, isnan
from typing import Any

from shared.domain.prose import LineRole, read_lines, words
from shared.verdict_files.verdicts import LineRefused, Texts

_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
NO_STYLE = (0.0, 0.0, 0.0)


def needed_text(fields: Mapping[str, Any], name: str) -> str:
    """The text (or number, as text) of a field that must be there; raises LineRefused where it is not."""
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if not isinstance(value, str) or not value.strip():
        raise LineRefused("missing_value", f"`{name}` is {_shown(value)}; a text or number is needed")
    return value


def optional_text(fields: Mapping[str, Any], name: str) -> str:
    """The text of a field, empty where it is not there."""
    value = fields.get(name)
    return "" if value is None else str(value)


def number(value: Any) -> float | None:
    """The value as a number, None where it is none; not-a-number stands for nothing, as some writers have it."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if isfinite(found) else None


def is_empty(value: Any) -> bool:
    """Whether a field says nothing: null, not a number, or an empty text."""
    return (
        value is None
        or (isinstance(value, float) and isnan(value))
        or (isinstance(value, str) and value.strip().lower() in ("", "null", "nan"))
    )


def two_models(first: str, second: str) -> None:
    """Raise LineRefused where a model is compared with itself."""
    if first == second:
        raise LineRefused("same_model", f"{first} is compared with itself")


def length_and_style(text: Any, texts: Texts) -> tuple[int, tuple[float, ...]]:
    """Words of an answer; and numbers of its Markdown headings, list items and bold passages, where they are wanted."""
    if texts == "none" or not isinstance(text, str):
        return 0, NO_STYLE if texts == "style" else ()
    if texts == "lengths":
        return len(words(text)), ()
    roles = [line.role for line in read_lines(text)]
    headings = sum(role is LineRole.HEADING for role in roles)
    items = sum(role in (LineRole.BULLET, LineRole.NUMBERED) for role in roles)
    return len(words(text)), (float(headings), float(items), float(len(_BOLD.findall(text))))


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:60]
