"""Control items: wishes that an answer does not follow by construction, so that a judge who waves everything through shows."""

import random
from functools import lru_cache
from importlib.resources import files
from itertools import count

import msgspec
import yaml
from pydantic import BaseModel, ConfigDict, Field

from shared.domain.checks import Check, canonical_sentence, evaluate, validate_check
from shared.domain.prose import fold

_TRIES = 50
_KINDS = ("must_include", "must_include", "starts_with", "ends_with", "format", "language")
"""Kinds whose failure a reader sees at a glance; phrases to include are drawn twice as often, because they vary most."""


class ControlStock(BaseModel):
    """The data file of control items."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    leads: dict[str, tuple[str, ...]] = Field(min_length=1)
    """By kind of check; a format by its name."""
    qualities: tuple[str, ...] = Field(min_length=1)
    things: tuple[str, ...] = Field(min_length=1)
    languages: tuple[str, ...] = Field(min_length=1)


class Control(msgspec.Struct, frozen=True):
    """A wish in words, and the machine check that proves that an answer does not follow it."""

    wish: str
    check: Check


@lru_cache(maxsize=1)
def _stock() -> ControlStock:
    text = files("services.generation").joinpath("controls.yaml").read_text(encoding="utf-8")
    return ControlStock.model_validate(yaml.safe_load(text))


def plant_control(answer: str, seed: int) -> Control:
    """A control for this answer, drawn by seed: its check fails on it, and no word of a demanded phrase stands there."""
    generator = random.Random(seed)
    said = fold(answer)
    for _ in range(_TRIES):
        control = _draw(generator)
        if (
            not any(word in said for word in _words(control.check))
            and evaluate(control.check, answer).outcome == "fail"
        ):
            return control
    # An answer that holds what all the tries demanded was made to; no answer holds every number.
    number = next(number for number in count(generator.randrange(1000, 10_000)) if str(number) not in said)
    check = validate_check("must_include", {"phrases": [str(number)]})
    return Control(canonical_sentence(check), check)


def _draw(generator: random.Random) -> Control:
    stock = _stock()
    kind = generator.choice(_KINDS)
    phrase = f"{generator.choice(stock.qualities)} {generator.choice(stock.things)}"
    if kind == "must_include":
        check = validate_check(kind, {"phrases": [phrase]})
    elif kind in ("starts_with", "ends_with"):
        check = validate_check(kind, {"phrase": phrase.capitalize() if kind == "starts_with" else phrase})
    elif kind == "language":
        check = validate_check(kind, {"language": generator.choice(stock.languages)})
    else:
        kind = generator.choice(("json", "table"))
        check = validate_check("format", {"format": kind})
    lead = generator.choice(stock.leads[kind])
    return Control(f"{lead} {canonical_sentence(check)}", check)


def _words(check: Check) -> list[str]:
    """The words of a phrase that the check demands."""
    wanted = check.parameters.get("phrase") or check.parameters.get("phrases")
    phrases = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    return [word for phrase in phrases for word in fold(phrase).split()]
