"""The plan of a job: which stages, in which order, with which barriers. One literal that a newcomer can read.

A job is a collection, trainings on it or on other data, and candidates that answer: each part alone, or behind the one before.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

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
    DEPLOY = "deploy"
    ANSWER = "answer"
    REPORT = "report"


ROW_STAGES = frozenset({StageKind.AUGMENT, StageKind.COMPOSE, StageKind.RESPOND, StageKind.ANSWER})


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
SELECT = "select"
"""Name of the stage that takes out of the data what is asked."""

SERVICES: tuple[str, ...] = tuple(
    sorted({stage.service for stage in COLLECTION_PLAN} | {TRAINING_SERVICE, INFERENCE_SERVICE})
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


_REPORTED = frozenset({StageKind.TRAIN, StageKind.SELECT, StageKind.ANSWER})
"""Stages behind a collection that a report tells of."""


def _training_plan(training: "TrainParameters") -> StagePlan:
    data = ("assemble",) if training.data.is_own else ()
    base = () if training.base.stage is None else (training.base.stage,)
    return StagePlan(training.name, StageKind.TRAIN, TRAINING_SERVICE, needs=(*data, *base), barrier=True)


def _answer_plans(spec: "JobSpec", collection: tuple[StagePlan, ...]) -> tuple[StagePlan, ...]:
    from shared.domain.answers import all_deployments, deployments_of

    if not spec.answer:
        return ()
    own = spec.questions is None or spec.questions.is_own
    select = StagePlan(
        SELECT, StageKind.SELECT, "curation", needs=asked_stages(collection) if own else (), barrier=True
    )
    deploys = tuple(_deploy_plan(deployment) for deployment in all_deployments(spec.answer))
    return (select, *deploys, *(_answer_plan(answer, deployments_of(answer)) for answer in spec.answer))


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


def _answer_plan(answer: "AnswerParameters", deployments: tuple["OwnDeployment", ...]) -> StagePlan:
    needs = (SELECT, *dict.fromkeys(deployment.name for deployment in deployments))
    return StagePlan(answer.name, StageKind.ANSWER, INFERENCE_SERVICE, needs=needs, barrier=True)


def _report_plan(needs: tuple[str, ...], behind: tuple[StagePlan, ...]) -> StagePlan:
    names = tuple(stage.name for stage in behind)
    return StagePlan("report", StageKind.REPORT, "curation", needs=(*needs, *names), barrier=True)


def shard_size(rows: int) -> int:
    """Instructions per shard: clamp(rows / 16, 16, 500), fixed when curation ends."""
    return max(16, min(500, -(-rows // 16)))
