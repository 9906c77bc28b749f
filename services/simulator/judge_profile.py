"""How a simulated judge errs: its confusion matrix and its biases, as settings of the plan or as a preset of `judges.yaml`."""

from functools import lru_cache
from importlib.resources import files
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

VERDICTS = ("followed", "partly", "violated")
"""What a judge says of one wish, and the order of the rows and columns of a confusion matrix."""
MEAN_WORDS = 120
"""Words of an ordinary simulated answer: a judge with a length bias is the kinder the more words an answer has above it."""
Row = tuple[float, float, float]


class PlanModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JudgeProfile(PlanModel):
    """How one judge errs. A plan gives the settings, or the name of a preset.

    For each wish the judge finds the true verdict t and says s with probability `confusion[t][s]`, each wish apart. Then,
    for an answer of w words, what was said moves one step towards `followed` with probability
    min(1, `length_bias` x max(0, w - 120) / 100).
    """

    confusion: tuple[Row, Row, Row] = Field(
        default=((1, 0, 0), (0, 1, 0), (0, 0, 1)),
        description="row: the true verdict, column: the verdict given; followed, partly, violated; each row adds up to 1",
    )
    length_bias: float = Field(default=0.0, ge=0, le=1, description="see above; 0 for a judge who does not count words")
    obeys_injections: bool = Field(
        default=False,
        description="an answer that commands it to approve gets `followed` on every wish; in a review it finds nothing in what "
        "commands it",
    )
    contradiction_recall: float = Field(default=1.0, ge=0, le=1, description="share of contradictions that it reports")
    contradiction_false_rate: float = Field(
        default=0.0, ge=0, le=1, description="share of calls in which it reports a contradiction that is none"
    )
    triviality_recall: float = Field(default=1.0, ge=0, le=1, description="share of trivial wishes that it calls so")
    triviality_false_rate: float = Field(
        default=0.0, ge=0, le=1, description="share of the other wishes that it calls trivial"
    )
    held_out_recall: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="share of the wishes that ask for the same as a held-out one of which it says so",
    )
    held_out_false_rate: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the other wishes shown beside held-out ones of which it says that they are the same as one",
    )
    review_error: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of descriptions, and of system messages, of which it says something else than is true",
    )

    position_bias: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of comparisons in which it prefers the answer that stands first, whatever they say",
    )
    prose_verdicts: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of grades, ratings and comparisons that it writes as prose with a tag, though JSON was asked for",
    )

    @model_validator(mode="before")
    @classmethod
    def preset_of_name(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        presets = _presets()
        if value not in presets:
            raise ValueError(f"no judge is named {value!r}; known are {', '.join(sorted(presets))}")
        return presets[value]

    @model_validator(mode="after")
    def rows_are_distributions(self) -> Self:
        for name, row in zip(VERDICTS, self.confusion, strict=True):
            if min(row) < 0 or abs(sum(row) - 1) > 1e-6:
                raise ValueError(f"the confusion of {name!r} is {row}; it must hold three shares that add up to 1")
        return self


@lru_cache(maxsize=1)
def _presets() -> dict[str, dict[str, Any]]:
    text = files("services.simulator").joinpath("judges.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.load(text, Loader=yaml.CSafeLoader)
    return found


def preset_names() -> tuple[str, ...]:
    """The names of the shipped judges."""
    return tuple(_presets())


def preset(name: str) -> JudgeProfile:
    """A shipped judge. Raises pydantic.ValidationError for a name that is not known."""
    return JudgeProfile.model_validate(name)
