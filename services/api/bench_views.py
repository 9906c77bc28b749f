"""Bodies and answers of the routes of benches."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from services.api.benches import BenchItemOf, ReviewedBench
from services.api.schemas import ApiModel, RequestModel
from shared.domain.benches import Decision, Outcome
from shared.metadata.tables import Bench
from shared.sources.readers import BadRecord

SHOWN_FAULTS = 200
"""Lines of a file that one answer names; all of them are counted, and `/rejected` names the others."""
_SHOWN_CHARACTERS = 300

BenchName = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^\x00]*$")]
Reviewer = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$"),
]


class BenchRequest(RequestModel):
    """An uploaded file that becomes a bench."""

    file: str = Field(max_length=100, description="id of an uploaded file in the layout of the Multifaceted Bench")
    name: BenchName | None = Field(default=None, description="null: the file's name")


class ReviewRequest(RequestModel):
    """What one reviewer says of one item; a later word takes the place of an earlier one."""

    decision: Decision
    reason: str = Field(default="", max_length=2000, pattern=r"^[^\x00]*$")
    reviewer: Reviewer = Field(description="who says so", examples=["ada"])


class BenchSummary(ApiModel):
    id: str = Field(examples=["bench_01jdexample0000000000000000"])
    name: str
    job_id: str | None = Field(description="the job that made it")
    file_id: str | None = Field(description="the uploaded file that it is")
    rows: int = Field(description="instructions")
    items: int = Field(description="instructions under one preference set each")
    teacher: str | None = Field(description="provider/model that wrote the rubrics, where it is known")
    created_at: datetime

    @classmethod
    def summary_of(cls, bench: Bench) -> "BenchSummary":
        return cls.model_validate(bench)


class OutcomeCounts(ApiModel):
    kept: int
    dropped: int
    undecided: int

    @classmethod
    def of(cls, reviewed: ReviewedBench, reviewer: str | None = None) -> "OutcomeCounts":
        return cls(**{outcome.value: count for outcome, count in reviewed.counts(reviewer).items()})


class ReviewerCounts(OutcomeCounts):
    reviewer: str


class RejectedLine(ApiModel):
    """A line of an uploaded file that is no item."""

    line: int = Field(description="from 1")
    reason: str
    detail: str
    text: str = Field(description="the beginning of its prompt, or of what could be read")

    @classmethod
    def of(cls, fault: BadRecord) -> "RejectedLine":
        text = fault.text[:_SHOWN_CHARACTERS].encode("utf-8", "replace").decode()
        return cls(line=fault.row + 1, reason=fault.reason, detail=fault.detail, text=text)


class BenchView(BenchSummary):
    """A bench with what its review came to so far."""

    review: OutcomeCounts = Field(
        description="of all reviewers together: an item is dropped when more say drop than keep"
    )
    reviewers: list[ReviewerCounts] = Field(description="what each of them decided")
    left_out: dict[str, int] = Field(description="lines of an uploaded file that are no items, by reason")
    rejected: list[RejectedLine] = Field(description=f"the first {SHOWN_FAULTS} of these lines")

    @classmethod
    def of(cls, reviewed: ReviewedBench) -> "BenchView":
        faults = reviewed.contents.faults
        return cls(
            **BenchSummary.summary_of(reviewed.bench).model_dump(),
            review=OutcomeCounts.of(reviewed),
            reviewers=[
                ReviewerCounts(reviewer=name, **OutcomeCounts.of(reviewed, name).model_dump())
                for name in reviewed.reviewers
            ],
            left_out=fault_counts(faults),
            rejected=[RejectedLine.of(fault) for fault in faults[:SHOWN_FAULTS]],
        )


class PreferenceView(ApiModel):
    dimension: str
    subdimension: str
    preference: str
    description: str


class RubricView(ApiModel):
    criterion: str
    levels: list[str] = Field(description="what the scores 1 to 5 mean, in this order")


class ReviewView(ApiModel):
    reviewer: str
    decision: Decision
    reason: str
    decided_at: datetime


class BenchItemView(ApiModel):
    """One item: an instruction under one preference set, with its reference answer and one rubric per preference."""

    id: str = Field(examples=["0123456789abcdef:0"])
    position: int = Field(description="its place in the bench, from 0")
    row_id: str
    facet_index: int
    instruction: str
    source: str
    system: str
    reference_answer: str
    preferences: list[PreferenceView]
    rubrics: list[RubricView] = Field(description="one per preference, in their order")
    outcome: Outcome = Field(description="of all reviewers together")
    reviews: list[ReviewView]

    @classmethod
    def of(cls, item: BenchItemOf) -> "BenchItemView":
        return cls(
            id=item.id,
            position=item.position,
            row_id=item.row.row_id,
            facet_index=item.facet.index,
            instruction=item.row.instruction,
            source=item.row.main_source,
            system=item.facet.system or "",
            reference_answer=item.facet.response or "",
            preferences=[PreferenceView.model_validate(preference) for preference in item.facet.preferences],
            rubrics=[RubricView.model_validate(rubric) for rubric in item.facet.rubrics],
            outcome=item.outcome,
            reviews=[ReviewView.model_validate(review) for review in item.reviews],
        )


class BenchItemPage(ApiModel):
    offset: int
    limit: int
    items_total: int
    items_matched: int = Field(description="items with the outcome asked for")
    items: list[BenchItemView]


class RejectedPage(ApiModel):
    offset: int
    limit: int
    lines_total: int
    lines: list[RejectedLine]


def fault_counts(faults: list[BadRecord]) -> dict[str, int]:
    """How many lines have which reason."""
    counts: dict[str, int] = {}
    for fault in faults:
        counts[fault.reason] = counts.get(fault.reason, 0) + 1
    return dict(sorted(counts.items()))
