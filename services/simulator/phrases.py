"""The stock of sentences (`phrases.yaml`), read once."""

from functools import lru_cache
from importlib.resources import files

import msgspec
import yaml


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
    keyword_frames: tuple[str, ...]
    compose_roles: tuple[str, ...]
    compose_links: tuple[str, ...]
    compose_voices: tuple[Voice, ...]
    compose_labels: tuple[str, ...]
    refusals: tuple[str, ...]
    chat: tuple[str, ...]


@lru_cache(maxsize=1)
def load_phrases() -> Phrases:
    """The shipped stock. Raises msgspec.ValidationError where the file does not fit `Phrases`."""
    text = files("services.simulator").joinpath("phrases.yaml").read_text(encoding="utf-8")
    # The loader in C: the one in Python takes most of the start.
    data = yaml.load(text, Loader=yaml.CSafeLoader)
    return msgspec.convert(data, Phrases)


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
