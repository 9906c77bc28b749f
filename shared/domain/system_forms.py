"""Forms of system messages and the roles that some of them give the assistant: data that several stages speak of."""

from functools import lru_cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

Shape = Literal["prose", "paragraphs", "bullets", "numbered", "labelled"]


class Form(BaseModel):
    """One shape of a system message; lengths in characters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    shape: Shape
    """What of the form shows in the text: code looks for it."""
    gives_role: bool = False
    """Whether the message opens with a role of the assistant."""
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
    forms = TypeAdapter(tuple[Form, ...]).validate_python(yaml.safe_load(_text("system_forms.yaml")))
    if len({form.name for form in forms}) != len(forms):
        raise ValueError("system_forms.yaml names a form twice; names must be unique")
    return forms


@lru_cache(maxsize=1)
def load_roles() -> tuple[str, ...]:
    """The shipped roles, in the file's order. Raises pydantic.ValidationError for a malformed file."""
    roles = TypeAdapter(tuple[str, ...]).validate_python(yaml.safe_load(_text("roles.yaml")))
    if len({role.casefold() for role in roles}) != len(roles):
        raise ValueError("roles.yaml names a role twice; roles must be unique")
    return roles


def _text(name: str) -> str:
    return files("shared.domain").joinpath(name).read_text(encoding="utf-8")
