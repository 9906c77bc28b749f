"""What the teacher answers to an augment request: the structured output's models."""

from typing import Any

from pydantic import BaseModel, ConfigDict

SCHEMA_NAME = "preference_sets"


class AnswerModel(BaseModel):
    # No bounds on texts here: a provider's structured output knows no lengths, and a fault of one slot must cost one set,
    # not the whole answer. `services.augmentation.validation` looks at the content.
    model_config = ConfigDict(extra="forbid", frozen=True)


class PreferenceAnswer(AnswerModel):
    slot: int
    dimension: str
    subdimension: str
    pole: str
    preference: str
    description: str
    fits: bool


class PreferenceSets(AnswerModel):
    preferences: list[PreferenceAnswer]


SCHEMA: dict[str, Any] = PreferenceSets.model_json_schema()
