"""JSON of msgspec values that hold paths, written as text: what a step and the processes it starts tell each other in files."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec

Value = TypeVar("Value")


def encode(value: Any) -> bytes:
    return msgspec.json.encode(value, enc_hook=_text_of_path)


def decode(data: bytes, type_: type[Value]) -> Value:
    """Raises msgspec.DecodeError for anything but a `type_`."""
    return msgspec.json.decode(data, type=type_, dec_hook=_path_of_text)


def _text_of_path(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def _path_of_text(type_: type, value: Any) -> Path:
    if issubclass(type_, Path):
        return type_(value)
    raise TypeError(f"{type_.__name__} has no JSON form here")
