"""The job spec: everything a user may set, frozen at submission. Unknown fields are refused.

Every stage's parameter model is here, so that submission can check a whole job before any work starts, and so that the
spec stored with a job is the resolved configuration of everything made by it.
"""

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from shared.domain.answers import (
    MAXIMUM_ANSWERS,
    AnswerParameters,
    QuestionParameters,
    all_deployments,
    refuse_answers,
)
from shared.domain.evaluations import (
    BENCH,
    COMPARE_PREFIX,
    EVALUATE,
    JUDGE_PREFIX,
    MEASURE_PREFIX,
    RATE_PREFIX,
    RUBRIC,
    BenchParameters,
    EvaluateParameters,
    refuse_evaluation,
)
from shared.domain.plan import COLLECTION_PLAN, SELECT, StageKind
from shared.domain.presets import preset_values, with_preset
from shared.domain.training import TrainParameters
from shared.domain.trainings import MAXIMUM_TRAININGS, refuse_trainings


class SpecModel(BaseModel):
    """Base of all spec parts: unknown fields are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelChoice(SpecModel):
    """A model of a provider that the operator configured. A job can never name a URL."""

    provider: str = Field(min_length=1, max_length=64, examples=["simulator", "openai"])
    model: str = Field(min_length=1, max_length=200)


class FieldMapping(SpecModel):
    """Where the fields of a source are found in one of its rows.

    Each value is a JSONPath (starts with `$`) or a template with `{column}` slots that may hold dotted paths and list
    positions, such as `{turns.0}`. A list of several messages is reduced to its first user turn.
    """

    instruction: str
    main_source: str | None = None
    original_source: str | None = None


class Source(SpecModel):
    """One set of instructions: exactly one of `file` (an uploaded file), `hub` (a Hub data set) and `bundled`."""

    file: str | None = Field(default=None, description="id of an uploaded file, as POST /v1/files returned it")
    hub: str | None = Field(default=None, description="Hub data set name, such as org/name")
    bundled: str | None = Field(default=None, description="a set the project carries: `demo` or `acceptance`")
    hub_config: str | None = Field(default=None, description="of a Hub data set only, as are the next two")
    hub_split: str = "train"
    hub_revision: str | None = None
    format: Literal["auto", "jsonl", "csv", "parquet"] = "auto"
    mapping: str | FieldMapping = Field(default="auto", description="a ready mapping's name, or the mapping itself")
    name: str | None = Field(
        default=None, description="main_source of rows whose mapping sets none; default: file name"
    )
    limit: int | None = Field(default=None, ge=1, description="take at most so many rows from the front")

    @model_validator(mode="after")
    def exactly_one_place(self) -> "Source":
        given = [name for name in ("file", "hub", "bundled") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a source names exactly one of file, hub and bundled; seen: {given or 'none'}")
        return self


class CurateParameters(SpecModel):
    near_duplicate_threshold: float | None = Field(
        default=0.8, gt=0, le=1, description="Jaccard similarity of word 3-gram sets; null turns the removal off"
    )
    remove_personas: bool = Field(
        default=True, description="drop instructions that already state a persona or preference"
    )
    decontaminate_against: tuple[str, ...] = Field(default=(), description="ids of uploaded benchmark files")
    decontamination_ngram: int = Field(
        default=13,
        ge=3,
        le=50,
        description="words in a row that count as overlap; shorter benchmark texts of 6 words and more are looked for whole",
    )
    minimum_characters: int = Field(default=8, ge=1)
    maximum_characters: int = Field(default=16_000, ge=1)
    limit: int | None = Field(default=None, ge=1, description="keep so many instructions, drawn by seed")
    languages: tuple[str, ...] = Field(default=(), description="ISO 639-1 codes to keep; empty keeps all")


class SamplingParameters(SpecModel):
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=2048, ge=16, le=65_536)


class SplitParameters(SpecModel):
    """What is held out, before any preference is drawn. Shares are of the taxonomy's seeds, of pairs of poles, of roles."""

    test_share: float = Field(default=0.1, ge=0, lt=1, description="share of the instructions that evaluate")
    seed_share: float = Field(default=0.15, ge=0, le=0.5, description="seed preferences that training never sees")
    subdimensions: int = Field(default=2, ge=0, le=20, description="whole subdimensions that training never sees")
    pair_share: float = Field(default=0.1, ge=0, le=0.5, description="pairs of poles that training never sees together")
    role_share: float = Field(default=0.1, ge=0, le=0.5, description="roles that training's system messages never give")
    forms: int = Field(default=2, ge=0, le=5, description="forms of system messages that training never sees")
    sources: int = Field(default=1, ge=0, le=10, description="sources whose instructions all go to the test split")
    largest_source_share: float = Field(
        default=0.25, ge=0, le=1, description="a source with a larger share of the instructions is never held out"
    )
    maximum_containment: float = Field(
        default=0.6,
        gt=0,
        le=1,
        description="share of a held-out text's character 5-grams that a training text may hold",
    )


class ProfileParameters(SpecModel):
    """Persistent people: each has one preference set and one system message, whatever the instruction."""

    count: int = Field(default=100, ge=8, le=100_000, description="how many people")
    share: float = Field(default=0.1, gt=0, le=1, description="share of the training instructions that they answer for")


MAXIMUM_SET_SIZE = 8
TOKENS_PER_SLOT = 110
"""What one preference of an augment answer takes at most, roughly; decides how many sets go into one call."""


class AugmentParameters(SpecModel):
    sets_per_instruction: int = Field(default=3, ge=1, le=16)
    sampling: SamplingParameters = SamplingParameters(max_tokens=2048)
    maximum_set_similarity: float = Field(
        default=0.6, gt=0, le=1, description="ROUGE-L above which two descriptions of one instruction count as the same"
    )
    quality_retries: int = Field(default=2, ge=0, le=10)
    set_sizes: dict[int, float] = Field(
        default={1: 0.05, 2: 0.1, 3: 0.2, 4: 0.35, 5: 0.15, 6: 0.15},
        description="how many preferences a set has, by weight; 1 to 8",
    )
    unseen_set_sizes: tuple[int, ...] = Field(
        default=(7, 8), description="larger sizes, of test instructions at level `more_preferences` alone"
    )
    free_slot_share: float = Field(
        default=0.15, ge=0, le=0.5, description="slots whose preference the teacher coins, within the dimension"
    )
    profiles: ProfileParameters | None = Field(default=None, description="persistent people; null draws every set anew")

    @field_validator("set_sizes")
    @classmethod
    def sizes_in_range(cls, sizes: dict[int, float]) -> dict[int, float]:
        if not sizes or any(not 1 <= size <= MAXIMUM_SET_SIZE for size in sizes):
            raise ValueError(f"set sizes lie between 1 and {MAXIMUM_SET_SIZE}; seen: {sorted(sizes)}")
        if any(weight < 0 for weight in sizes.values()) or not any(sizes.values()):
            raise ValueError("the weights of set sizes are not negative, and one at least is above 0")
        return dict(sorted(sizes.items()))

    @model_validator(mode="after")
    def enough_people(self) -> "AugmentParameters":
        if self.profiles is not None and self.profiles.count < 2 * self.sets_per_instruction:
            raise ValueError(
                f"{self.profiles.count} persistent people are too few for {self.sets_per_instruction} sets that differ; give"
                f" profiles.count {2 * self.sets_per_instruction} or more"
            )
        return self

    @model_validator(mode="after")
    def unseen_sizes_are_larger(self) -> "AugmentParameters":
        largest = max(size for size, weight in self.set_sizes.items() if weight > 0)
        if any(not largest < size <= MAXIMUM_SET_SIZE for size in self.unseen_set_sizes):
            raise ValueError(
                f"unseen_set_sizes must lie above the largest of set_sizes ({largest}) and be at most {MAXIMUM_SET_SIZE};"
                f" seen: {list(self.unseen_set_sizes)}"
            )
        return self

    def slots_per_call(self) -> int:
        """How many preferences the token limit of one answer lets through: 18 with the default limit, so that the usual three
        sets take one call."""
        return max(1, self.sampling.max_tokens // TOKENS_PER_SLOT)

    def mean_set_size(self) -> float:
        """Preferences of a set, on average."""
        total = sum(self.set_sizes.values())
        return sum(size * weight for size, weight in self.set_sizes.items()) / total


class ComposeParameters(SpecModel):
    sampling: SamplingParameters = SamplingParameters(max_tokens=1024)
    minimum_characters: int = Field(default=80, ge=1)
    maximum_characters: int = Field(default=3000, ge=100)
    quality_retries: int = Field(default=2, ge=0, le=10)


class RespondParameters(SpecModel):
    sampling: SamplingParameters = SamplingParameters(temperature=1.0, top_p=0.9, max_tokens=4096)
    minimum_characters: int = Field(default=2, ge=1)
    maximum_sibling_similarity: float = Field(
        default=0.85, gt=0, le=1, description="ROUGE-L above which two responses of one instruction count as the same"
    )
    quality_retries: int = Field(default=2, ge=0, le=10)
    enforce_checks: bool = Field(default=True, description="retry, then reject, a response that fails a machine check")
    no_system_share: float = Field(
        default=0.1, ge=0, le=0.5, description="share of the examples that have no system message: neutral answers"
    )
    minimum_followed: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="with a judge: how far a response must follow its own preferences, 0 to 1; 0 asks nothing",
    )


class AssembleParameters(SpecModel):
    pairing: Literal["random", "mirrored"] = Field(
        default="mirrored",
        description="`mirrored`: every ordered pair of an instruction's responses; `random`: one of them, drawn by seed",
    )
    minimum_pair_margin: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="with a judge: how much better, 0 to 1, the chosen response must follow what the other person does not want",
    )


OF_EVERY_JOB = frozenset(
    {"name", "train", "answer", "bench", "evaluate", "questions", "sources", "teacher", "judge", "deadline_seconds"}
)
"""Options that mean something without a collection, each checked apart."""

OF_ANSWERS = frozenset({"seed", "budget_usd", "max_reject_rate"})
"""Options that mean something where candidates answer or a bench is made, too."""

COLLECTION_THAT_CAN_BE_ASKED = frozenset(
    {None, StageKind.CURATE, StageKind.COMPOSE, StageKind.RESPOND, StageKind.ASSEMBLE, StageKind.REPORT}
)
"""Values of `stop_after` with which the job's own rows can be asked: as instructions alone, or with system messages."""

COLLECTION_THAT_TRAINS = frozenset({None, StageKind.ASSEMBLE, StageKind.REPORT})
"""Values of `stop_after` with which a collection is assembled, so that it can be trained on."""


class JobSpec(SpecModel):
    """A pipeline, or its front part with `stop_after`, with trainings behind it, candidates that answer and an evaluation of what
    they answer; or these alone.

    Without sources there is no collection: then `teacher` and every option of a collection are left out, each training names
    the job or file whose data it trains on, and `questions` the job or file that is asked.
    """

    # What others are checked against stands before them, so that a refusal points at the option in fault.

    name: str = Field(default="collection", min_length=1, max_length=120)
    train: tuple[TrainParameters, ...] = Field(
        default=(), max_length=MAXIMUM_TRAININGS, description="trainings, each a stage of its own, after the collection"
    )
    answer: tuple[AnswerParameters, ...] = Field(
        default=(),
        max_length=MAXIMUM_ANSWERS,
        description="candidates that answer the questions, each a stage of its own",
    )
    bench: BenchParameters | None = Field(
        default=None,
        description="the teacher writes a rubric for each preference of what is asked, and it is kept as a bench",
    )
    questions: QuestionParameters | None = Field(
        default=None, description="what the candidates are asked; null: the test split of the job's own collection"
    )
    evaluate: EvaluateParameters | None = Field(
        default=None, description="grades, compares and measures the candidates' answers, and reports it"
    )
    sources: tuple[Source, ...] = Field(
        default=(), max_length=64, validate_default=True, description="left out where the job makes no collection"
    )
    preset: str | None = Field(
        default=None, description="ready values for what the spec leaves out: `paper`; null takes the defaults"
    )
    taxonomy: str = Field(default="multifacet", description="`multifacet` or the id of an uploaded taxonomy")
    teacher: ModelChoice | None = Field(
        default=None, validate_default=True, description="writes the collection; left out where the job makes none"
    )
    judge: ModelChoice | None = Field(
        default=None,
        validate_default=True,
        description="reads every response of the collection and fills the facet matrix (null: programs alone do); grades and "
        "compares the candidates' answers",
    )
    seed: int = Field(default=0, ge=0, le=2**53)
    splits: SplitParameters = SplitParameters()
    curate: CurateParameters = CurateParameters()
    augment: AugmentParameters = AugmentParameters()
    compose: ComposeParameters = ComposeParameters()
    respond: RespondParameters = RespondParameters()
    assemble: AssembleParameters = AssembleParameters()
    stop_after: StageKind | None = None
    budget_usd: Annotated[float, Field(gt=0)] | None = None
    max_reject_rate: float = Field(default=0.5, ge=0, le=1)
    deadline_seconds: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def take_preset(cls, values: Any) -> Any:
        """Values of the preset where the spec says nothing. A stored spec says everything, so it reads back as it is."""
        preset = values.get("preset") if isinstance(values, dict) else None
        return with_preset(values, preset_values(preset)) if isinstance(preset, str) else values

    @field_validator("train")
    @classmethod
    def trainings_follow_each_other(cls, train: tuple[TrainParameters, ...]) -> tuple[TrainParameters, ...]:
        refuse_trainings(train)
        return train

    @field_validator("answer")
    @classmethod
    def answers_can_be(cls, answer: tuple[AnswerParameters, ...], info: ValidationInfo) -> tuple[AnswerParameters, ...]:
        if "train" in info.data:
            refuse_answers(answer, info.data["train"])
        return answer

    @field_validator("questions")
    @classmethod
    def questions_are_answered(
        cls, questions: QuestionParameters | None, info: ValidationInfo
    ) -> QuestionParameters | None:
        if questions is not None and info.data.get("answer") == () and info.data.get("bench", "") is None:
            raise ValueError(
                "questions is set, but nobody answers them and no bench is made of them; give a candidate in answer, or bench, "
                "or leave it out"
            )
        return questions

    @field_validator("evaluate")
    @classmethod
    def evaluation_can_be(cls, evaluate: EvaluateParameters | None, info: ValidationInfo) -> EvaluateParameters | None:
        if evaluate is None or not {"answer", "bench", "questions"} <= info.data.keys():
            return evaluate
        questions: QuestionParameters | None = info.data["questions"]
        has_rubrics = info.data["bench"] is not None or (questions is not None and questions.may_have_rubrics)
        refuse_evaluation(evaluate, [answer.name for answer in info.data["answer"]], has_rubrics=has_rubrics)
        return evaluate

    @field_validator("sources")
    @classmethod
    def something_to_work_on(cls, sources: tuple[Source, ...], info: ValidationInfo) -> tuple[Source, ...]:
        """Without sources there is a training or an answer stage at least, and none that needs the collection."""
        if sources or not {"train", "answer", "questions", "bench"} <= info.data.keys():
            return sources
        bench: BenchParameters | None = info.data["bench"]
        train: tuple[TrainParameters, ...] = info.data["train"]
        answer: tuple[AnswerParameters, ...] = info.data["answer"]
        questions: QuestionParameters | None = info.data["questions"]
        if not train and not answer and bench is None:
            raise ValueError(
                "a job has sources, trainings, candidates that answer, a bench to make, or several of these; give at least one "
                "source, or one training, or one candidate in answer, or bench"
            )
        if bench is not None and (questions is None or questions.is_own):
            raise ValueError(
                "bench would be made of the collection of this job, which has none without sources; give sources, or say in "
                "questions what it is made of"
            )
        if answer and (questions is None or questions.is_own):
            raise ValueError(
                f"answer[0] ({answer[0].name}) would be asked the collection of this job, which has none without sources; give "
                "sources, or say in questions what is asked"
            )
        for number, training in enumerate(train):
            if training.data.is_own:
                raise ValueError(
                    f"train[{number}] ({training.name}) would train on the collection of this job, which has none without "
                    "sources; give sources, or set its data.job or data.file"
                )
        return sources

    @field_validator("teacher")
    @classmethod
    def teacher_where_something_is_written(
        cls, teacher: ModelChoice | None, info: ValidationInfo
    ) -> ModelChoice | None:
        if not {"sources", "bench"} <= info.data.keys():
            return teacher
        writes = bool(info.data["sources"]) or info.data["bench"] is not None
        if writes is not (teacher is not None):
            if teacher is None:
                what = "a collection" if info.data["sources"] else "a bench"
                raise ValueError(f"{what} needs a teacher that writes it; set provider and model")
            raise ValueError(
                "a teacher is named, but there are neither sources nor a bench to write for; give sources or bench, or leave "
                "it out"
            )
        return teacher

    @field_validator("judge")
    @classmethod
    def judge_where_something_is_judged(cls, judge: ModelChoice | None, info: ValidationInfo) -> ModelChoice | None:
        if not {"sources", "evaluate"} <= info.data.keys():
            return judge
        evaluate: EvaluateParameters | None = info.data["evaluate"]
        needed = evaluate is not None and evaluate.needs_judge
        if judge is None and needed:
            raise ValueError(
                "evaluate grades or compares answers, which a judge does; set judge to a provider and model"
            )
        if judge is not None and not needed and not info.data["sources"]:
            raise ValueError(
                "a judge is named, but this job has neither sources nor anything in evaluate that a judge does; set "
                "evaluate.absolute, pairwise or conversation, or leave it out"
            )
        return judge

    @field_validator("*")
    @classmethod
    def nothing_of_a_collection_without_sources(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        if name in OF_EVERY_JOB or info.data.get("sources") != () or value == cls.model_fields[name].default:
            return value
        if name in OF_ANSWERS and (info.data.get("answer") or info.data.get("bench")):
            return value
        raise ValueError(
            f"{name} is set, but it is an option of a collection, and this job has no sources; leave it out, or give sources"
        )

    @field_validator("stop_after")
    @classmethod
    def stop_leaves_what_is_trained_on(cls, last: StageKind | None, info: ValidationInfo) -> StageKind | None:
        if last is not None and last not in {stage.kind for stage in COLLECTION_PLAN}:
            raise ValueError(
                "stop_after names a stage of the collection; trainings, answers and evaluations come after it: take out of "
                "`train`, `answer`, `bench` and `evaluate` what shall not run"
            )
        questions: QuestionParameters | None = info.data.get("questions")
        bench: BenchParameters | None = info.data.get("bench")
        asks_own = bool(info.data.get("answer") or bench) and (questions is None or questions.is_own)
        if asks_own and last not in COLLECTION_THAT_CAN_BE_ASKED:
            raise ValueError(
                f"the job stops after {last}, where its rows have preference sets but no system messages to ask with; let "
                "stop_after be compose or later, or curate for the instructions alone, or say in questions what is asked"
            )
        if asks_own and bench is not None and last is StageKind.CURATE:
            raise ValueError(
                "the job stops after curate, where its rows have no preferences that rubrics could be written for; let "
                "stop_after be compose or later"
            )
        own = [training.name for training in info.data.get("train", ()) if training.data.is_own]
        if own and last not in COLLECTION_THAT_TRAINS:
            raise ValueError(
                f"the job stops after {last}, but {', '.join(own)} trains on the assembled collection; let stop_after be "
                "assemble or leave it out, or set data.job or data.file of the training"
            )
        return last

    def require_teacher(self) -> ModelChoice:
        """The teacher of a collection. Raises ValueError where the job makes none."""
        if self.teacher is None:
            raise ValueError(f"the job {self.name!r} makes no collection: no teacher writes anything in it")
        return self.teacher

    def require_judge(self) -> ModelChoice:
        """The judge of an evaluation. Raises ValueError where the job names none."""
        if self.judge is None:
            raise ValueError(f"the job {self.name!r} names no judge: nobody grades anything in it")
        return self.judge

    def answer_of(self, stage: str) -> AnswerParameters:
        """The answer stage of that name. Raises LookupError."""
        for answer in self.answer:
            if answer.name == stage:
                return answer
        raise LookupError(f"the job {self.name!r} has no answer stage {stage!r}")

    @property
    def asked(self) -> QuestionParameters:
        """What the candidates are asked."""
        return self.questions or QuestionParameters()

    def parameters_of(self, stage: str) -> dict[str, Any]:
        """The parameters of the stage called so, as stored with it: those of a training, of an answer stage, of what is asked,
        or of a part of the collection."""
        named: list[TrainParameters | AnswerParameters] = [*self.train, *self.answer]
        for part in named:
            if part.name == stage:
                return part.model_dump(mode="json")
        if stage == SELECT:
            return self.asked.model_dump(mode="json")
        for deployment in all_deployments(self.answer):
            if deployment.name == stage:
                return dict(msgspec.structs.asdict(deployment))
        evaluation = self._evaluation_part(stage)
        if evaluation is not None:
            return evaluation.model_dump(mode="json")
        section = getattr(self, stage, None)
        return section.model_dump(mode="json") if isinstance(section, BaseModel) else {}

    def _evaluation_part(self, stage: str) -> BaseModel | None:
        """The parameters of a stage of the bench or of the evaluation, None for any other stage."""
        if stage in {RUBRIC, BENCH}:
            return self.bench
        if self.evaluate is None:
            return None
        parts = {
            JUDGE_PREFIX: self.evaluate.absolute,
            RATE_PREFIX: self.evaluate.conversation,
            COMPARE_PREFIX: self.evaluate.pairwise,
            MEASURE_PREFIX: self.evaluate.measure,
        }
        return self.evaluate if stage == EVALUATE else parts.get(stage[: stage.find("-") + 1])
