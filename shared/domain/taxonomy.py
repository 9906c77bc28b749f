"""Dimensions > subdimensions > seed preferences, as data that a user can replace."""

from functools import cached_property
from hashlib import sha256
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field


class TaxonomyModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CheckTemplate(TaxonomyModel):
    """A machine check as the taxonomy states it; `kind` and `parameters` are validated by `shared.domain.checks`."""

    kind: str
    parameters: dict[str, str | int | float | list[str]] = {}


class Pole(TaxonomyModel):
    """One side of a subdimension: its name and what a person on that side wants."""

    name: str = Field(min_length=1, max_length=60)
    description: str = Field(min_length=1, max_length=400)


class SeedPreference(TaxonomyModel):
    name: str = Field(min_length=1, max_length=80, description="a few keywords, unique in the taxonomy")
    pole: str = Field(description="name of one of the subdimension's poles")
    description: str = Field(min_length=1, max_length=600, description="one to three sentences")
    check: CheckTemplate | None = None
    conflicts_with: tuple[str, ...] = Field(
        default=(), description="names of seeds that cannot stand in one set with this one"
    )


class Subdimension(TaxonomyModel):
    name: str = Field(min_length=1, max_length=60)
    description: str = Field(min_length=1, max_length=400)
    poles: tuple[Pole, ...] = Field(min_length=2)
    seeds: tuple[SeedPreference, ...] = Field(min_length=2)


class Dimension(TaxonomyModel):
    name: str = Field(min_length=1, max_length=60)
    description: str = Field(min_length=1, max_length=400)
    subdimensions: tuple[Subdimension, ...] = Field(min_length=1)


class Taxonomy(TaxonomyModel):
    """A whole taxonomy. Names of dimensions, subdimensions and seeds are unique; every pole has a seed."""

    name: str = Field(min_length=1, max_length=80)
    schema_version: str = "taxonomy/1"
    description: str = ""
    dimensions: tuple[Dimension, ...] = Field(min_length=1)

    @cached_property
    def version(self) -> str:
        """First 12 hex digits of the sha256 of the canonical content."""
        canonical: Any = self.model_dump(mode="json")
        return sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
