"""Forms of system messages, and how form and length are drawn for a facet."""

import math
from functools import lru_cache
from importlib.resources import files
from random import Random
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

SHARE_OF_DESCRIPTIONS = 0.6
"""The least that a target asks for, as a share of what the descriptions take: below that no teacher can weave all of them in."""


Shape = Literal["prose", "paragraphs", "bullets", "numbered", "labelled"]


class Form(BaseModel):
    """One shape of a system message; lengths in characters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    shape: Shape
    """What of the form shows in the text: `services.composition.validation.judge_form` looks for it."""
    guidance: str = Field(min_length=20)
    minimum_characters: int = Field(ge=80)
    maximum_characters: int

    @model_validator(mode="after")
    def ordered(self) -> "Form":
        if self.maximum_characters <= self.minimum_characters:
            raise ValueError(f"form {self.name!r}: maximum_characters must be above minimum_characters")
        return self


@lru_cache(maxsize=1)
def load_forms() -> tuple[Form, ...]:
    """The shipped forms, in the file's order. Raises pydantic.ValidationError for a malformed file."""
    text = files("services.composition").joinpath("forms.yaml").read_text(encoding="utf-8")
    forms = TypeAdapter(tuple[Form, ...]).validate_python(yaml.safe_load(text))
    if len({form.name for form in forms}) != len(forms):
        raise ValueError("forms.yaml names a form twice; names must be unique")
    return forms


def draw_forms(seed: int, facets: int) -> list[Form]:
    """One form per facet of a row, by seed; all different as long as there are enough forms."""
    chance = Random(seed)
    forms = list(load_forms())
    drawn: list[Form] = []
    while len(drawn) < facets:
        chance.shuffle(forms)
        drawn.extend(forms)
    return drawn[:facets]


def draw_target(form: Form, seed: int, *, description_characters: int, minimum: int, maximum: int) -> int:
    """A length to aim at, in characters: log-uniform over the form's range, raised to what the descriptions need and kept
    within `minimum`..`maximum` of the job."""
    low, high = math.log(form.minimum_characters), math.log(form.maximum_characters)
    target = math.exp(Random(seed).uniform(low, high))
    target = max(target, SHARE_OF_DESCRIPTIONS * description_characters)
    return round(min(max(target, minimum), maximum))
