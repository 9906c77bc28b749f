"""Bodies and answers of the routes of evaluations."""

from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from services.api.schemas import ApiModel, ArtifactView, JobSummary, JobView, RequestModel
from shared.domain.answers import MAXIMUM_ANSWERS, AnswerParameters, QuestionParameters
from shared.domain.errors import InputRefused
from shared.domain.evaluations import BenchParameters, EvaluateParameters
from shared.domain.jobs import JobSpec, ModelChoice
from shared.domain.states import StageState
from shared.metadata.tables import Job, Stage

_PLACES = {"answer": "candidates"}
"""How an option of the job spec is called in the shorthand, where the two differ."""


class EvaluationRequest(RequestModel):
    """An evaluation in short: it becomes a job that asks the candidates, and does with their answers what `evaluate` says."""

    name: str = Field(default="evaluation", min_length=1, max_length=120)
    bench: str | None = Field(default=None, max_length=100, description="id of a bench: short for `questions.bench`")
    questions: QuestionParameters | None = Field(
        default=None, description="what is asked, where it is no bench; exactly one of the two"
    )
    candidates: tuple[AnswerParameters, ...] = Field(min_length=1, max_length=MAXIMUM_ANSWERS)
    judge: ModelChoice | None = Field(default=None, description="needed where `evaluate` grades or compares")
    teacher: ModelChoice | None = Field(
        default=None, description="writes rubrics for questions that have none, which are kept as a bench of this name"
    )
    evaluate: EvaluateParameters
    budget_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0, le=2**53)

    def spec(self) -> JobSpec:
        """The job that this is short for. Raises RequestValidationError with places in this body."""
        if (self.bench is None) is (self.questions is None):
            raise InputRefused("give exactly one of bench and questions: they say what is asked", "/questions")
        asked = {"bench": self.bench} if self.questions is None else self.questions.model_dump(mode="json")
        body: dict[str, Any] = {
            "name": self.name,
            "questions": asked,
            "answer": [candidate.model_dump(mode="json") for candidate in self.candidates],
            "judge": None if self.judge is None else self.judge.model_dump(mode="json"),
            "evaluate": self.evaluate.model_dump(mode="json"),
            "budget_usd": self.budget_usd,
            "seed": self.seed,
        }
        if self.teacher is not None:
            body["teacher"] = self.teacher.model_dump(mode="json")
            body["bench"] = BenchParameters(name=self.name).model_dump(mode="json")
        try:
            return JobSpec.model_validate(body)
        except ValidationError as error:
            faults = [
                {**fault, "loc": ("body", *_renamed(fault["loc"]))} for fault in error.errors(include_context=False)
            ]
            raise RequestValidationError(faults, body=self.model_dump(mode="json")) from error

    def refused(self, error: InputRefused) -> InputRefused:
        """A refusal of the job as one of this body."""
        pointer = error.pointer or ""
        if self.bench is not None and pointer == "/questions/bench":
            pointer = "/bench"
        parts = tuple(pointer.split("/")[1:])
        return InputRefused(str(error), "".join(f"/{part}" for part in _renamed(parts)))


def _renamed(place: tuple[Any, ...]) -> tuple[Any, ...]:
    return (_PLACES.get(place[0], place[0]), *place[1:]) if place else place


class EvaluationSummary(JobSummary):
    """A job that evaluates, as a list shows it."""

    candidates: list[str] = Field(description="names of the answer stages")
    judge: ModelChoice | None
    bench: str | None = Field(description="id of the bench that is asked")
    evaluate_state: StageState = Field(description="state of the stage that works the figures out")
    incomplete: bool | None = Field(
        description="true: more verdicts were lost than `evaluate.maximum_missing`; null: not known yet"
    )
    headline: dict[str, Any] | None = Field(description="the first figures of each candidate; null: not known yet")

    @classmethod
    def of(cls, job: Job, stage: Stage) -> "EvaluationSummary":
        spec = JobSpec.model_validate(job.spec)
        summary = stage.summary
        return cls.model_validate(
            {
                **JobSummary.summary_of(job).model_dump(),
                "candidates": [answer.name for answer in spec.answer],
                "judge": spec.judge,
                "bench": spec.asked.bench,
                "evaluate_state": stage.state,
                "incomplete": None if summary is None else summary.get("incomplete"),
                "headline": summary,
            }
        )


class EvaluationView(ApiModel):
    """A job that evaluates, and what came of it."""

    job: JobView
    evaluation: dict[str, Any] | None = Field(
        description="evaluation.json, of schema evaluation/1; null until the stage `evaluate` has succeeded"
    )
    files: list[ArtifactView] = Field(description="what the stage `evaluate` made: report.html and tables")
