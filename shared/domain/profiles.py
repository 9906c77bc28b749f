"""What a person prefers, as requests and profiles state it: preferences of a taxonomy, or in the person's own words."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.domain.errors import MultifacetError

MAXIMUM_PREFERENCES = 12
"""Of one person at once."""


class ProfileNotFound(MultifacetError):
    """No such profile in this project (404)."""

    code = "profile_not_found"


class StatedPreference(BaseModel):
    """One preference: a seed of the taxonomy by its name, a pole of a subdimension, or a description in the person's own
    words (with its subdimension, where it is known)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: str | None = Field(default=None, max_length=120, description="name of a seed preference of the taxonomy")
    subdimension: str | None = Field(default=None, max_length=120)
    pole: str | None = Field(default=None, max_length=120, description="a side of the subdimension; needs it")
    description: str | None = Field(default=None, min_length=3, max_length=600, description="what is wanted, in words")

    @model_validator(mode="after")
    def says_something(self) -> "StatedPreference":
        if self.seed is None and self.pole is None and self.description is None:
            raise ValueError(
                "a preference gives a seed, a subdimension with a pole, or a description; seen: none of them"
            )
        if self.pole is not None and self.subdimension is None:
            raise ValueError(f"the pole {self.pole!r} is a side of a subdimension; name that too")
        if self.seed is not None and (self.pole is not None or self.subdimension is not None):
            raise ValueError("a seed has its subdimension and pole; leave those out, or leave out the seed")
        return self
