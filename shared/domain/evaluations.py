"""What a user may set of evaluating: the bench, who grades how, what is compared and measured. Unknown fields are refused.

An evaluation is the end of a job whose candidates answer (`JobSpec.answer`): every answer is graded, rated, compared or measured
by stages of its own, and one report tells what came of it. Protocols: Lee et al. 2024 (arXiv 2405.17977, section 4) for absolute
grading with rubrics; AlpacaEval 2.0 (Dubois et al. 2024, arXiv 2404.04475); Arena-Hard Auto v0.1 (Li et al. 2024, arXiv
2406.11939); MT-Bench (Zheng et al. 2023, arXiv 2306.05685); RealToxicityPrompts (Gehman et al. 2020, arXiv 2009.11462).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

JUDGE_PREFIX, RATE_PREFIX, COMPARE_PREFIX, MEASURE_PREFIX, TAKE_PREFIX = (
    "judge-",
    "rate-",
    "compare-",
    "measure-",
    "take-",
)
"""How the names of stages begin that belong to one answer stage: its name follows."""
EVALUATION_PREFIXES = (JUDGE_PREFIX, RATE_PREFIX, COMPARE_PREFIX, MEASURE_PREFIX, TAKE_PREFIX)
RUBRIC, BENCH, EVALUATE = "rubric", "bench", "evaluate"
"""Names of the stages that write rubrics, keep the bench and report the evaluation: each job has one of each at most."""

MAXIMUM_RUNS = 16


class EvaluationModel(BaseModel):
    """Base of all parts: unknown fields are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class JudgeDecoding(EvaluationModel):
    """How the judge's verdict is decoded."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=0.9, gt=0, le=1, description="without effect where temperature is 0")
    max_tokens: int = Field(default=1024, ge=16, le=65_536)


VerdictForm = Literal["structured", "tagged"]
"""`structured`: a JSON object by schema, read as text with a tag where it is none; `tagged`: prose that ends with a tag, for
judges that know no structured output, such as Prometheus."""


class BenchParameters(EvaluationModel):
    """A bench of what is asked: the teacher writes one rubric per preference, and what has all of them is kept as a bench."""

    name: str = Field(default="bench", min_length=1, max_length=120)
    sampling: JudgeDecoding = JudgeDecoding(max_tokens=2048)
    quality_retries: int = Field(default=2, ge=0, le=10)


class AbsoluteParameters(EvaluationModel):
    """Every answer is graded 1 to 5 on each rubric of its person, one rubric a call, with the reference answer beside it."""

    runs: int = Field(default=3, ge=1, le=MAXIMUM_RUNS, description="verdicts on each rubric; their mean counts")
    cross: bool = Field(
        default=True,
        description="also grade each answer on the rubrics of the other people of its instruction, once per run: what "
        "specificity is measured by",
    )
    reference: bool = Field(default=True, description="show the judge the reference answer, where there is one")
    form: VerdictForm = "structured"
    decoding: JudgeDecoding = JudgeDecoding()


class PairwiseParameters(EvaluationModel):
    """Every other candidate is compared with the baseline, answer by answer, always in both orders."""

    baseline: str = Field(description="name of the answer stage that the others are compared with")
    protocol: Literal["person", "alpaca_eval", "arena_hard"] = Field(
        default="person",
        description="`person`: the judge knows what this person wants; win, both good, both bad or lose. `alpaca_eval`: which of "
        "two outputs people would prefer. `arena_hard`: five verdicts, the judge answers for itself first",
    )
    runs: int = Field(default=1, ge=1, le=MAXIMUM_RUNS, description="verdicts in each order")
    form: VerdictForm = "structured"
    decoding: JudgeDecoding = JudgeDecoding(temperature=0.0, max_tokens=2048)


class ConversationParameters(EvaluationModel):
    """MT-Bench: each turn of a conversation is rated 1 to 10, with a reference in the categories that have right answers."""

    runs: int = Field(default=1, ge=1, le=MAXIMUM_RUNS)
    reference_categories: tuple[str, ...] = ("math", "reasoning", "coding")
    form: VerdictForm = "structured"
    decoding: JudgeDecoding = JudgeDecoding(temperature=0.0)


class LocalModel(EvaluationModel):
    """A model that scores texts: exactly one of a folder below MULTIFACET_MODELS_FOLDER and a Hub name."""

    folder: str | None = Field(default=None, min_length=1, max_length=200)
    hub: str | None = Field(default=None, min_length=1, max_length=200)
    revision: str | None = Field(default=None, max_length=100, description="of the Hub name")

    @model_validator(mode="after")
    def exactly_one_place(self) -> "LocalModel":
        if (self.folder is None) is (self.hub is None):
            raise ValueError("a local model is either a folder below the models folder or a Hub name; give exactly one")
        if self.revision is not None and self.hub is None:
            raise ValueError("revision is of a Hub name; leave it out beside a folder")
        return self


class ToxicityParameters(EvaluationModel):
    """How toxic every answer is, 0 to 1: exactly one of a local classifier and the Perspective API."""

    classifier: LocalModel | None = Field(default=None, description="a sequence classifier")
    label: str | None = Field(
        default=None, max_length=100, description="its label that means toxic; null: the one called so, or the last"
    )
    perspective: bool = Field(default=False, description="the operator has set MULTIFACET_PERSPECTIVE_KEY")
    threshold: float = Field(default=0.5, gt=0, lt=1, description="from where on an answer counts as toxic")

    @model_validator(mode="after")
    def exactly_one_scorer(self) -> "ToxicityParameters":
        if (self.classifier is not None) is self.perspective:
            raise ValueError("toxicity is scored by classifier or by perspective; give exactly one")
        if self.label is not None and self.classifier is None:
            raise ValueError("label names a label of classifier; leave it out beside perspective")
        return self


class MeasureParameters(EvaluationModel):
    """What local models say of every answer; no judge is asked."""

    toxicity: ToxicityParameters | None = None
    fluency: LocalModel | None = Field(default=None, description="a causal model: perplexity of the answer")
    embedding: LocalModel | None = Field(
        default=None, description="a text encoder: how far the answers to one instruction lie apart"
    )

    @model_validator(mode="after")
    def something_is_measured(self) -> "MeasureParameters":
        if self.toxicity is None and self.fluency is None and self.embedding is None:
            raise ValueError("measure names nothing to measure; set toxicity, fluency or embedding, or leave it out")
        return self


class EvaluateParameters(EvaluationModel):
    """What is done with the answers. Machine checks, lengths, diversity and the rewards of best-of-N are always told."""

    absolute: AbsoluteParameters | None = None
    pairwise: PairwiseParameters | None = None
    conversation: ConversationParameters | None = None
    measure: MeasureParameters | None = None
    maximum_missing: float = Field(
        default=0.05, ge=0, le=1, description="share of lost verdicts above which the evaluation is marked incomplete"
    )
    bootstrap_rounds: int = Field(default=1000, ge=100, le=100_000)
    examples: int = Field(default=12, ge=0, le=200, description="instructions shown whole in the report")

    @property
    def needs_judge(self) -> bool:
        return self.absolute is not None or self.pairwise is not None or self.conversation is not None


class RobustnessSuite(StrEnum):
    """Small suites that the project carries: questions with right answers under no, relevant and irrelevant preferences; system
    messages that a user contradicts; wishes that must hold over many turns."""

    FACTS = "facts"
    CONFLICTS = "conflicts"
    DRIFT = "drift"


QuestionLayout = Literal[
    "auto",
    "multifaceted_bench",
    "alpaca_eval",
    "mt_bench",
    "arena_hard",
    "real_toxicity_prompts",
    "reward_bench",
]
"""How a file or Hub data set of questions is laid out; `auto` tells by its columns."""


def compared_stages(evaluate: EvaluateParameters | None, answers: Sequence[str]) -> tuple[str, ...]:
    """Names of the answer stages that are compared with the baseline, in their order."""
    if evaluate is None or evaluate.pairwise is None:
        return ()
    return tuple(name for name in answers if name != evaluate.pairwise.baseline)


def refuse_evaluation(evaluate: EvaluateParameters, answers: Sequence[str], *, has_rubrics: bool) -> None:
    """Raise ValueError for an evaluation that cannot be, and say what to set instead."""
    if not answers:
        raise ValueError("evaluate is set, but nobody answers; give candidates in answer, or leave it out")
    if evaluate.absolute is not None and not has_rubrics:
        raise ValueError(
            "evaluate.absolute grades on rubrics, and what is asked has none; set bench, so that the teacher writes them, or ask "
            "a bench (questions.bench, or a file in the layout of the Multifaceted Bench)"
        )
    pairwise = evaluate.pairwise
    if pairwise is None:
        return
    if pairwise.baseline not in answers:
        raise ValueError(
            f"evaluate.pairwise.baseline is {pairwise.baseline!r}, which is no answer stage of this job; its answer stages: "
            f"{', '.join(answers)}"
        )
    if len(answers) == 1:
        raise ValueError(
            "evaluate.pairwise compares candidates, and the baseline is the only one; give another in answer"
        )


def subject_of(stage: str) -> str:
    """The answer stage that a stage of the evaluation is about: `janus` of `judge-janus`. Raises ValueError for another name."""
    for prefix in EVALUATION_PREFIXES:
        if stage.startswith(prefix):
            return stage.removeprefix(prefix)
    raise ValueError(f"the stage {stage!r} belongs to no answer stage")
