"""Bodies and answers of the routes of annotations."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from services.api.schemas import ApiModel, RequestModel
from shared.domain.annotations import Choice
from shared.metadata.tables import AnnotationTask

MAXIMUM_ITEMS = 5000
LARGEST_NUMBER = 2**31 - 1

AnnotatorName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")
]
StageName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class AnnotationTaskRequest(RequestModel):
    """Which answers people shall compare."""

    name: str = Field(
        min_length=1, max_length=120, pattern=r"^[^\x00]*$", description="annotators see it: name no model in it"
    )
    job: str = Field(max_length=100, description="a finished job with two answer stages at least")
    first: StageName = Field(description="name of an answer stage of the job")
    second: StageName = Field(description="name of another")
    limit: int | None = Field(default=None, ge=1, le=MAXIMUM_ITEMS, description="take so many pairs, drawn by seed")
    seed: int = Field(default=0, ge=0, le=LARGEST_NUMBER)
    shows_preferences: bool = Field(
        default=True, description="show what the person wants; false: the instruction alone"
    )


class AnnotationTaskView(ApiModel):
    id: str = Field(examples=["annotation_01jdexample0000000000000000"])
    name: str
    job_id: str
    first: str
    second: str
    seed: int
    shows_preferences: bool
    items: int
    created_at: datetime
    annotators: dict[str, int] = Field(default_factory=dict, description="how many pairs each has judged")
    left_out: dict[str, int] | None = Field(
        default=None, description="answers that became no pair, by reason; told when the task is made"
    )

    @classmethod
    def of(
        cls, task: AnnotationTask, annotators: dict[str, int] | None = None, left_out: dict[str, int] | None = None
    ) -> "AnnotationTaskView":
        view = cls.model_validate(task)
        return view.model_copy(update={"annotators": annotators or {}, "left_out": left_out})


class AnnotationItemView(ApiModel):
    """One pair as an annotator sees it: nothing tells whose an answer is."""

    done: int
    total: int
    number: int | None = Field(description="null: everything is judged")
    instruction: str = ""
    preferences: list[str] = Field(default_factory=list)
    left: str = ""
    right: str = ""


class AnnotationRequest(RequestModel):
    annotator: AnnotatorName
    number: int = Field(ge=0, le=LARGEST_NUMBER)
    choice: Choice
    seconds: float | None = Field(default=None, ge=0, le=86_400, description="how long it took")


class UndoneView(ApiModel):
    number: int | None = Field(description="the pair that is to be judged again; null: there was nothing to take back")


class AnnotationResultsView(ApiModel):
    """Figures with intervals, see docs/people.md."""

    task: AnnotationTaskView
    results: dict[str, Any]


ExportFormat = Literal["jsonl", "csv"]
