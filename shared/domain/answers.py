"""What a user may set of answering: which rows are asked, who answers, and how. Unknown fields are refused.

Defaults are the decoding of the paper's evaluation (Lee et al. 2024, arXiv 2405.17977): temperature 1.0, top-p 0.9, 1,024
tokens, repetition penalty 1.03. Refused combinations (each with what to set instead): see `AnswerParameters` and
`refuse_answers`.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.domain.evaluations import EVALUATION_PREFIXES, QuestionLayout, RobustnessSuite
from shared.domain.training import Method, TrainParameters
from shared.domain.trainings import RESERVED_NAMES, makes_adapters_alone

MAXIMUM_ANSWERS = 16
"""Answer stages of one job."""
MAXIMUM_SAMPLES = 64
DEPLOY_PREFIX = "deploy-"
"""How the names of stages begin that put a model on a server."""

ServerChoice = Literal["cpu", "tgi"]


class AnswerModel(BaseModel):
    """Base of all parts: unknown fields are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class QuestionParameters(AnswerModel):
    """Which rows are asked: at most one of job, file, bench, suite and hub; none of them is the collection that the same job
    makes."""

    job: str | None = Field(default=None, description="id of a finished job whose collection is asked")
    file: str | None = Field(
        default=None,
        description="id of an uploaded file: a column prompt, and system, output and preference_set where it has them, as the "
        "sft export; or plain instructions; or a benchmark in its own layout",
    )
    bench: str | None = Field(default=None, description="id of a bench; what its review dropped is not asked")
    suite: RobustnessSuite | None = Field(default=None, description="a small suite that the project carries")
    hub: str | None = Field(default=None, min_length=1, description="Hub data set name, such as org/name")
    hub_config: str | None = Field(default=None, description="of a Hub data set only, as are the next two")
    hub_split: str = "test"
    hub_revision: str | None = None
    references: str | None = Field(
        default=None,
        description="id of an uploaded file of reference answers to the questions of `file`, as FastChat publishes them for "
        "MT-Bench",
    )
    layout: QuestionLayout = Field(default="auto", description="of a file or Hub data set")
    split: Literal["test", "train", "all"] = Field(default="test", description="of a collection; a file has no splits")
    maximum_rows: int | None = Field(default=None, ge=1, description="ask so many instructions, drawn by seed")

    @model_validator(mode="after")
    def at_most_one_place(self) -> "QuestionParameters":
        given = self.places()
        if len(given) > 1:
            raise ValueError(f"questions names {' and '.join(given)}; leave all but one of them out")
        if self.hub is None and (self.hub_config, self.hub_revision) != (None, None):
            raise ValueError("hub_config and hub_revision are of a Hub data set; set hub, or leave them out")
        if self.references is not None and (self.file is None or self.layout not in ("auto", "mt_bench")):
            raise ValueError("references are those of a file of MT-Bench's questions; set file, or leave it out")
        if self.layout != "auto" and self.file is None and self.hub is None:
            raise ValueError(
                f"layout is {self.layout!r}, which is of a file or a Hub data set; set file or hub, or leave it out"
            )
        return self

    def places(self) -> list[str]:
        """Names of the options that say where the questions are."""
        return [name for name in ("job", "file", "bench", "suite", "hub") if getattr(self, name) is not None]

    @property
    def is_own(self) -> bool:
        """Whether the rows are what the same job makes."""
        return not self.places()

    @property
    def may_have_rubrics(self) -> bool:
        """Whether what is asked can bring rubrics along."""
        return self.bench is not None or (
            (self.file is not None or self.hub is not None) and self.layout in ("auto", "multifaceted_bench")
        )


class _OneOf(AnswerModel):
    """A model by one of the places where it may be."""

    stage: str | None = Field(default=None, description="name of a training of the same job; the job deploys its model")
    registry: str | None = Field(default=None, description="id of a registered model; the job deploys it")
    deployment: str | None = Field(default=None, description="name of a deployment that answers already")

    @property
    def is_deployed_by_job(self) -> bool:
        """Whether the job puts the model on a server itself, and takes it off again when it ends."""
        return self.stage is not None or self.registry is not None

    def places(self) -> list[str]:
        return [name for name in ("stage", "registry", "deployment") if getattr(self, name) is not None]


class CandidateChoice(_OneOf):
    """Who answers: exactly one of stage, registry, deployment, provider with model, and answers that exist: file, given."""

    file: str | None = Field(
        default=None,
        description="id of an uploaded file of answers: columns prompt and output (or answer), and system where one prompt is "
        "asked under several",
    )
    given: bool = Field(
        default=False, description="the answers that the questions bring along, such as pairs for a reward model"
    )
    provider: str | None = Field(default=None, min_length=1, max_length=64, description="name of a configured provider")
    model: str | None = Field(default=None, min_length=1, max_length=200, description="the provider's model")

    @model_validator(mode="after")
    def exactly_one_place(self) -> "CandidateChoice":
        if (self.provider is None) is not (self.model is None):
            raise ValueError("a provider's model is named by provider and model together; give both or neither")
        given = self.places() + [name for name in ("provider", "file") if getattr(self, name) is not None]
        given += ["given"] if self.given else []
        if len(given) != 1:
            raise ValueError(
                "a candidate is exactly one of stage, registry, deployment, provider with model, file and given; seen: "
                f"{', '.join(given) or 'none'}"
            )
        return self

    @property
    def exists(self) -> bool:
        """Whether the answers exist already, so that nobody is asked."""
        return self.file is not None or self.given


class RewardChoice(_OneOf):
    """The reward model that ranks answers: exactly one of stage, registry and deployment."""

    @model_validator(mode="after")
    def exactly_one_place(self) -> "RewardChoice":
        given = self.places()
        if len(given) != 1:
            raise ValueError(
                f"a reward model is exactly one of stage, registry and deployment; seen: {', '.join(given) or 'none'}"
            )
        return self


class DecodingParameters(AnswerModel):
    """How an answer is decoded."""

    temperature: float = Field(default=1.0, ge=0, le=2, description="0: always the most likely token (greedy)")
    top_p: float = Field(default=0.9, gt=0, le=1, description="without effect where temperature is 0")
    max_tokens: int = Field(default=1024, ge=1, le=65_536)
    repetition_penalty: float | None = Field(
        default=1.03, gt=0, le=4, description="null: not sent, for providers that know none; 1 changes nothing"
    )
    stop: tuple[str, ...] = Field(default=(), max_length=4, description="texts that end an answer")

    @model_validator(mode="after")
    def stops_say_something(self) -> "DecodingParameters":
        if any(not text for text in self.stop):
            raise ValueError("a text of stop is empty, which would end every answer at once; leave it out")
        return self

    @property
    def greedy(self) -> bool:
        return self.temperature == 0


class AnswerParameters(AnswerModel):
    """One candidate that answers all questions: a stage of its own, called `name`."""

    name: str = Field(
        default="answer", pattern=r"^[a-z][a-z0-9-]{0,39}$", description="name of the stage, unique within the job"
    )
    candidate: CandidateChoice
    decoding: DecodingParameters = DecodingParameters()
    samples: int = Field(
        default=1, ge=1, le=MAXIMUM_SAMPLES, description="answers to each question; the paper's best-of-N has 64"
    )
    reward: RewardChoice | None = Field(
        default=None, description="scores every answer; of several the one with the highest score is marked as best"
    )
    keep_all: bool = Field(
        default=False, description="several answers without a reward model: all are kept, and none is marked as best"
    )
    system: Literal["own", "none", "shuffled"] = Field(
        default="own",
        description="`none` leaves the system message out: every facet is asked the instruction alone; `shuffled` asks it under "
        "the system message of another person of the same instruction",
    )
    server: ServerChoice = Field(
        default="cpu",
        description="which kind of server holds the candidate, where the job deploys it; tgi needs a GPU. Reward models stand on "
        "a server of kind cpu: TGI gives no scores",
    )

    @model_validator(mode="after")
    def samples_mean_something(self) -> "AnswerParameters":
        if self.samples > 1 and self.decoding.greedy:
            raise ValueError(
                f"samples is {self.samples} and temperature 0: all of them would be the same answer; set temperature above 0, or "
                "samples to 1"
            )
        if self.samples > 1 and self.reward is None and not self.keep_all:
            raise ValueError(
                f"samples is {self.samples}, but nothing ranks them; set reward, or keep_all to true where all are wanted"
            )
        if self.keep_all and self.samples == 1:
            raise ValueError("keep_all is for several samples; raise samples, or leave it out")
        if self.keep_all and self.reward is not None:
            raise ValueError("keep_all is set beside reward, with which all answers are kept anyway; leave it out")
        if self.reward is not None and self.reward.places() and self.reward.model_dump() == self._candidate_places():
            raise ValueError("candidate and reward name the same model; one of them is wrong")
        return self

    def _candidate_places(self) -> dict[str, str | None]:
        return {name: getattr(self.candidate, name) for name in ("stage", "registry", "deployment")}


class OwnDeployment(msgspec.Struct, frozen=True):
    """A model that a job puts on a server: the training or registered model, and the kind of server."""

    stage: str | None
    """Name of the training that makes it."""
    registry: str | None
    server: ServerChoice

    @property
    def name(self) -> str:
        """Name of the stage that does it, unique within the job."""
        kind = "" if self.server == "cpu" else f"{self.server}-"
        return f"{DEPLOY_PREFIX}{kind}{self.stage or self.registry}"


def own_deployment(choice: CandidateChoice | RewardChoice, server: ServerChoice) -> OwnDeployment | None:
    """What the job deploys for a choice; None for what answers already. A reward model stands on a server of kind cpu, whatever
    `server` says of the candidate."""
    if not choice.is_deployed_by_job:
        return None
    return OwnDeployment(choice.stage, choice.registry, "cpu" if isinstance(choice, RewardChoice) else server)


def deployments_of(answer: AnswerParameters) -> tuple[OwnDeployment, ...]:
    """What the job deploys for one answer stage: its candidate, its reward model."""
    choices: list[CandidateChoice | RewardChoice] = [answer.candidate]
    if answer.reward is not None:
        choices.append(answer.reward)
    return tuple(found for choice in choices if (found := own_deployment(choice, answer.server)) is not None)


def all_deployments(answers: Sequence[AnswerParameters]) -> tuple[OwnDeployment, ...]:
    """What the job deploys, each once, in the order in which it is first needed."""
    return tuple(dict.fromkeys(found for answer in answers for found in deployments_of(answer)))


def deployment_name(job_id: str, stage: str) -> str:
    """The name of the deployment that a job's stage `deploy-…` makes: no other job's can have it."""
    return f"{job_id}.{stage.removeprefix(DEPLOY_PREFIX)}"


def refuse_answers(answers: Sequence[AnswerParameters], trainings: Sequence[TrainParameters]) -> None:
    """Raise ValueError for answer stages of one job that cannot be, and say what to set instead."""
    taken = {training.name: "a training of this job" for training in trainings}
    for number, answer in enumerate(answers):
        place = f"answer[{number}]"
        if answer.name in RESERVED_NAMES or answer.name.startswith((DEPLOY_PREFIX, *EVALUATION_PREFIXES)):
            raise ValueError(
                f"{place} is called {answer.name!r}, which is kept for stages of the job; set another name, such as janus"
            )
        if answer.name in taken:
            raise ValueError(
                f"{place} is called {answer.name!r}, as {taken[answer.name]} is; give each a name of its own"
            )
        taken[answer.name] = "another answer stage"
        for what, stage in _stages_of(answer):
            _refuse_training(f"{place}.{what}.stage is {stage!r}", stage, trainings, is_reward=what == "reward")


def _stages_of(answer: AnswerParameters) -> Iterator[tuple[str, str]]:
    if answer.candidate.stage is not None:
        yield "candidate", answer.candidate.stage
    if answer.reward is not None and answer.reward.stage is not None:
        yield "reward", answer.reward.stage


def _refuse_training(place: str, stage: str, trainings: Sequence[TrainParameters], *, is_reward: bool) -> None:
    training = next((one for one in trainings if one.name == stage), None)
    if training is None:
        raise ValueError(
            f"{place}, which is no training of this job; its trainings: {', '.join(one.name for one in trainings) or 'none'}"
        )
    if training.dry_run:
        raise ValueError(f"{place}, a dry run, which makes no model; let it train, or name another model")
    if is_reward and training.method is not Method.REWARD:
        raise ValueError(
            f"{place}, which trains a language model ({training.method.value}); name a training of method rm"
        )
    if not is_reward and training.method is Method.REWARD:
        raise ValueError(
            f"{place}, a reward model, which gives scores and no text; name it as reward, or another training"
        )
    if makes_adapters_alone(training) and training.base.random is not None:
        raise ValueError(
            f"{place}, which keeps its adapters apart from random weights that nobody keeps, so no server can hold them; set its "
            "lora.merge to true"
        )
