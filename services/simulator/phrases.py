"""The stock of sentences (`phrases.yaml`), read once."""

from functools import lru_cache
from importlib.resources import files
from typing import TypeVar

import msgspec
import yaml

Stock = TypeVar("Stock")


class Coined(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A preference for a slot that names a dimension alone. `belongs`: the pole of the shipped taxonomy that it comes down to in
    other words, as "<subdimension>: <pole>"; None where it comes down to none."""

    name: str
    subdimension: str
    description: str
    belongs: str | None


class Voice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who speaks in a system message."""

    name: str
    forms: tuple[str, ...]
    openings: tuple[str, ...]
    fillers: tuple[str, ...]
    closings: tuple[str, ...]


class Phrases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All sentences. Slots: {t}, {u} topic words ({T}, {U} capitalised), {e} quoted words, {r} role, {s} seed name."""

    simple: tuple[str, ...]
    plain: tuple[str, ...]
    elaborate: tuple[str, ...]
    echo: tuple[str, ...]
    opening: tuple[str, ...]
    simple_opening: tuple[str, ...]
    headings: tuple[str, ...]
    connectives: tuple[str, ...]
    simple_connectives: tuple[str, ...]
    languages: dict[str, tuple[str, ...]]
    augment_leads: tuple[str, ...]
    augment_tails: tuple[str, ...]
    augment_intensities: dict[str, tuple[str, ...]]
    keyword_frames: tuple[str, ...]
    coined: dict[str, tuple[Coined, ...]]
    facts: tuple[str, ...]
    fact_persons: tuple[str, ...]
    fact_places: tuple[str, ...]
    compose_roles: tuple[str, ...]
    compose_links: tuple[str, ...]
    compose_voices: tuple[Voice, ...]
    compose_labels: tuple[str, ...]
    refusals: tuple[str, ...]
    chat: tuple[str, ...]


def read_stock(name: str, kind: type[Stock]) -> Stock:
    """A data file of this package. Raises msgspec.ValidationError where it does not fit `kind`."""
    text = files("services.simulator").joinpath(name).read_text(encoding="utf-8")
    # The loader in C: the one in Python takes most of the start.
    return msgspec.convert(yaml.load(text, Loader=yaml.CSafeLoader), kind)


@lru_cache(maxsize=1)
def load_phrases() -> Phrases:
    """The shipped stock. Raises msgspec.ValidationError where the file does not fit `Phrases`."""
    return read_stock("phrases.yaml", Phrases)


def fill(template: str, topic: str = "", other: str = "", **slots: str) -> str:
    """The template with its slots filled; a topic that opens the sentence is capitalised."""
    text = template
    if "{" in text:
        text = text.replace("{t}", topic).replace("{u}", other)
    if "{T}" in text:
        text = text.replace("{T}", topic[:1].upper() + topic[1:])
    if "{U}" in text:
        text = text.replace("{U}", other[:1].upper() + other[1:])
    for name, value in slots.items():
        text = text.replace(f"{{{name}}}", value)
    return text
