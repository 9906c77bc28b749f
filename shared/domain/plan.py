"""The plan of a job: which stages, in which order, with which barriers. One literal that a newcomer can read.

A job is a collection, trainings on it or on other data, candidates that answer, and an evaluation of their answers: each part
alone, or behind the one before.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from shared.domain.evaluations import (
    BENCH,
    COMPARE_PREFIX,
    EVALUATE,
    JUDGE_PREFIX,
    MEASURE_PREFIX,
    RATE_PREFIX,
    RUBRIC,
    TAKE_PREFIX,
    compared_stages,
)

if TYPE_CHECKING:
    from shared.domain.answers import AnswerParameters, OwnDeployment
    from shared.domain.jobs import JobSpec
    from shared.domain.training import TrainParameters


class StageKind(StrEnum):
    CURATE = "curate"
    AUGMENT = "augment"
    COMPOSE = "compose"
    RESPOND = "respond"
    ASSEMBLE = "assemble"
    TRAIN = "train"
    SELECT = "select"
    RUBRIC = "rubric"
    BENCH = "bench"
    DEPLOY = "deploy"
    TAKE = "take"
    ANSWER = "answer"
    MEASURE = "measure"
    JUDGE = "judge"
    RATE = "rate"
    COMPARE = "compare"
    EVALUATE = "evaluate"
    REPORT = "report"


EVALUATION_ROW_STAGES = frozenset(
    {StageKind.RUBRIC, StageKind.MEASURE, StageKind.JUDGE, StageKind.RATE, StageKind.COMPARE}
)
ROW_STAGES = frozenset(
    {StageKind.AUGMENT, StageKind.COMPOSE, StageKind.RESPOND, StageKind.ANSWER, *EVALUATION_ROW_STAGES}
)
JUDGING_STAGES = frozenset({StageKind.JUDGE, StageKind.RATE, StageKind.COMPARE})
"""Row stages in which the judge reads the candidates' answers."""
COLLECTION_ROW_STAGES = frozenset({StageKind.AUGMENT, StageKind.COMPOSE, StageKind.RESPOND})
"""Row stages whose rows the teacher writes and the judge, where there is one, looks at."""


class StagePlan(msgspec.Struct, frozen=True):
    """One node. `barrier`: start only when every step of all `needs` has succeeded; else shard n waits for shard n. The rows of
    a row stage are those of the first stage that it needs."""

    name: str
    kind: StageKind
    service: str
    needs: tuple[str, ...]
    barrier: bool

    @property
    def is_row_stage(self) -> bool:
        return self.kind in ROW_STAGES


COLLECTION_PLAN: tuple[StagePlan, ...] = (
    StagePlan("curate", StageKind.CURATE, "curation", needs=(), barrier=True),
    StagePlan("augment", StageKind.AUGMENT, "augmentation", needs=("curate",), barrier=True),
    StagePlan("compose", StageKind.COMPOSE, "composition", needs=("augment",), barrier=False),
    StagePlan("respond", StageKind.RESPOND, "generation", needs=("compose",), barrier=False),
    StagePlan("assemble", StageKind.ASSEMBLE, "curation", needs=("respond",), barrier=True),
    StagePlan("report", StageKind.REPORT, "curation", needs=("curate", "assemble"), barrier=True),
)


TRAINING_SERVICE = "training"
INFERENCE_SERVICE = "inference"
EVALUATION_SERVICE = "evaluation"
SELECT = "select"
"""Name of the stage that takes out of the data what is asked."""

SERVICES: tuple[str, ...] = tuple(
    sorted({stage.service for stage in COLLECTION_PLAN} | {TRAINING_SERVICE, INFERENCE_SERVICE, EVALUATION_SERVICE})
)
"""Every service that runs steps."""


def plan_until(last: StageKind | None) -> tuple[StagePlan, ...]:
    """The collection plan up to and including the stage of kind `last` (all of it for None)."""
    if last is None:
        return COLLECTION_PLAN
    kinds = [stage.kind for stage in COLLECTION_PLAN]
    return COLLECTION_PLAN[: kinds.index(last) + 1]


def plan_of(spec: "JobSpec") -> tuple[StagePlan, ...]:
    """All stages of a job, in order: the collection as far as it is wanted, the trainings, what answers, and at the end the
    report, which needs them all. A job whose collection stops before the report has none."""
    collection = plan_until(spec.stop_after) if spec.sources else ()
    trainings = tuple(_training_plan(training) for training in spec.train)
    answers = _answer_plans(spec, collection)
    behind = (*trainings, *answers)
    if not behind:
        return collection
    reported = tuple(stage for stage in behind if stage.kind in _REPORTED)
    if not spec.sources:
        return (*behind, _report_plan((), reported))
    if collection != COLLECTION_PLAN:
        return (*collection, *behind)
    *before, report = collection
    return (*before, *behind, _report_plan(report.needs, reported))


_REPORTED = frozenset({StageKind.TRAIN, StageKind.SELECT, StageKind.BENCH, StageKind.ANSWER, StageKind.EVALUATE})
"""Stages behind a collection that a report tells of."""


def _training_plan(training: "TrainParameters") -> StagePlan:
    data = ("assemble",) if training.data.is_own else ()
    base = () if training.base.stage is None else (training.base.stage,)
    return StagePlan(training.name, StageKind.TRAIN, TRAINING_SERVICE, needs=(*data, *base), barrier=True)


def _answer_plans(spec: "JobSpec", collection: tuple[StagePlan, ...]) -> tuple[StagePlan, ...]:
    """What is asked, its rubrics, who answers, and what is made of the answers."""
    from shared.domain.answers import all_deployments, deployments_of

    if not spec.answer and spec.bench is None:
        return ()
    own = spec.questions is None or spec.questions.is_own
    select = StagePlan(
        SELECT, StageKind.SELECT, "curation", needs=asked_stages(collection) if own else (), barrier=True
    )
    rubrics = () if spec.bench is None else _BENCH_PLANS
    # Candidates of the job that makes a bench are asked what the bench kept.
    rows = BENCH if rubrics else SELECT
    deploys = tuple(_deploy_plan(deployment) for deployment in all_deployments(spec.answer))
    answers: list[StagePlan] = []
    for answer in spec.answer:
        answers += _answer_plan(answer, deployments_of(answer), rows)
    return (select, *rubrics, *deploys, *answers, *_evaluation_plans(spec))


_BENCH_PLANS = (
    StagePlan(RUBRIC, StageKind.RUBRIC, EVALUATION_SERVICE, needs=(SELECT,), barrier=True),
    StagePlan(BENCH, StageKind.BENCH, EVALUATION_SERVICE, needs=(RUBRIC,), barrier=True),
)


def _evaluation_plans(spec: "JobSpec") -> tuple[StagePlan, ...]:
    """What is done with each candidate's answers, shard by shard behind them, and at the end the evaluation's report."""
    evaluate = spec.evaluate
    if evaluate is None:
        return ()
    names = [answer.name for answer in spec.answer]
    plans = []
    for name in names:
        if evaluate.measure is not None:
            plans.append(_behind(MEASURE_PREFIX, StageKind.MEASURE, name))
        if evaluate.absolute is not None:
            plans.append(_behind(JUDGE_PREFIX, StageKind.JUDGE, name))
        if evaluate.conversation is not None:
            plans.append(_behind(RATE_PREFIX, StageKind.RATE, name))
    for name in compared_stages(evaluate, names):
        assert evaluate.pairwise is not None
        plans.append(_behind(COMPARE_PREFIX, StageKind.COMPARE, name, evaluate.pairwise.baseline))
    needs = (*names, *(plan.name for plan in plans))
    return (*plans, StagePlan(EVALUATE, StageKind.EVALUATE, EVALUATION_SERVICE, needs=needs, barrier=True))


def _behind(prefix: str, kind: StageKind, *answers: str) -> StagePlan:
    return StagePlan(f"{prefix}{answers[0]}", kind, EVALUATION_SERVICE, needs=answers, barrier=False)


_ROWS_ASKED = ("respond", "compose", "curate")
"""Stages whose rows can be asked, those that hold most first."""


def asked_stages(collection: Iterable[StagePlan]) -> tuple[str, ...]:
    """Of a collection's stages those that questions are taken from: the one whose rows hold most, and assembly, which says
    which of them the collection took."""
    names = [stage.name for stage in collection]
    rows = next((name for name in _ROWS_ASKED if name in names), None)
    return () if rows is None else (rows, *(name for name in ("assemble",) if name in names))


def _deploy_plan(deployment: "OwnDeployment") -> StagePlan:
    """A server is taken once the model is there and there is something to ask it."""
    model = () if deployment.stage is None else (deployment.stage,)
    return StagePlan(deployment.name, StageKind.DEPLOY, INFERENCE_SERVICE, needs=(SELECT, *model), barrier=True)


def _answer_plan(
    answer: "AnswerParameters", deployments: tuple["OwnDeployment", ...], rows: str
) -> tuple[StagePlan, ...]:
    """The stage that answers, behind the one that matches the answers of a file with the questions."""
    deploys = tuple(dict.fromkeys(deployment.name for deployment in deployments))
    if answer.candidate.file is None:
        return (StagePlan(answer.name, StageKind.ANSWER, INFERENCE_SERVICE, needs=(rows, *deploys), barrier=True),)
    take = StagePlan(f"{TAKE_PREFIX}{answer.name}", StageKind.TAKE, EVALUATION_SERVICE, needs=(rows,), barrier=True)
    kept = StagePlan(answer.name, StageKind.ANSWER, INFERENCE_SERVICE, needs=(take.name, *deploys), barrier=True)
    return (take, kept)


def _report_plan(needs: tuple[str, ...], behind: tuple[StagePlan, ...]) -> StagePlan:
    names = tuple(stage.name for stage in behind)
    return StagePlan("report", StageKind.REPORT, "curation", needs=(*needs, *names), barrier=True)


def shard_size(rows: int) -> int:
    """Instructions per shard: clamp(rows / 16, 16, 500), fixed when curation ends."""
    return max(16, min(500, -(-rows // 16)))
