"""What an inference answers."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.domain.profiles import StatedPreference
from shared.statistics.intervals import Interval

Outcome = Literal["supported", "too_few", "no_better_than_chance", "unstable", "length_alone", "no_better_than_length"]


class ReportModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShareView(ReportModel):
    """A share with its 95% interval over prompts; null where none can be stated."""

    estimate: float | None
    low: float | None
    high: float | None
    prompts: int = Field(description="independent groups behind the interval")
    method: str

    @classmethod
    def of(cls, interval: Interval) -> "ShareView":
        return cls(
            estimate=interval.estimate,
            low=interval.low,
            high=interval.high,
            prompts=interval.clusters,
            method=interval.method,
        )


class Evidence(ReportModel):
    """What speaks for one proposed preference."""

    source: Literal["program", "judge"] = Field(description="what saw the differences")
    chosen_follows: int = Field(
        description="choices in which the chosen answer follows it and the rejected one does not"
    )
    rejected_follows: int = Field(description="the other way round")
    silent: int = Field(description="choices that say nothing about it")
    weight: float = Field(description="log-odds that it adds where the answers differ fully in it")
    chance: float = Field(description="share of random flips that look as strong, over all preferences at once")
    folds: float = Field(ge=0, le=1, description="share of the folds in which it was found again")
    examples_for: list[int] = Field(description="positions of choices in the request, from 0")
    examples_against: list[int]


class ProposedPreference(ReportModel):
    preference: StatedPreference = Field(description="as a profile takes it")
    subdimension: str
    pole: str
    description: str
    evidence: Evidence


class JudgeReading(ReportModel):
    """What the judge's part was."""

    provider: str
    model: str
    read: int = Field(description="choices that it read")
    unread: int = Field(description="choices of calls that failed: they count as silent")
    shortened: int = Field(description="choices of which it was shown the beginnings of the texts alone")


class Verdict(ReportModel):
    outcome: Outcome
    words: str


class InferenceReport(ReportModel):
    """The proposal, how well it predicts, and on what that rests."""

    choices: int
    prompts: int = Field(description="different prompts: equal ones are never split between learning and predicting")
    alike: int = Field(description="choices between equal texts; they are left out")
    looked_at: int = Field(
        description="columns of evidence: seeds with a machine check, poles with a measure or read by the judge"
    )
    folds: int
    accuracy: ShareView | None = Field(
        description="share of held-out choices predicted; one that nothing speaks to counts half. Null: too few choices"
    )
    undecided: float | None = Field(description="share of held-out choices that nothing speaks to")
    always_longer: ShareView | None = Field(description="the same of taking the longer answer each time")
    coin: float = 0.5
    better_than_length: ShareView | None = Field(
        description="accuracy minus that of the better of `always the longer` and `always the shorter`, over the "
        "held-out choices that something speaks to"
    )
    judge: JudgeReading | None = None
    verdict: Verdict
    proposed: list[ProposedPreference] = Field(description="empty unless the verdict is supported or length_alone")
