"""The plan of a job: which stages, in which order, with which barriers. One literal that a newcomer can read.

A job is a collection, or a collection with trainings behind it, or trainings alone.
"""

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from shared.domain.jobs import JobSpec
    from shared.domain.training import TrainParameters


class StageKind(StrEnum):
    CURATE = "curate"
    AUGMENT = "augment"
    COMPOSE = "compose"
    RESPOND = "respond"
    ASSEMBLE = "assemble"
    TRAIN = "train"
    REPORT = "report"


ROW_STAGES = frozenset({StageKind.AUGMENT, StageKind.COMPOSE, StageKind.RESPOND})


class StagePlan(msgspec.Struct, frozen=True):
    """One node. `barrier`: start only when every step of all `needs` has succeeded; else shard n waits for shard n."""

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

SERVICES: tuple[str, ...] = tuple(sorted({stage.service for stage in COLLECTION_PLAN} | {TRAINING_SERVICE}))
"""Every service that runs steps."""


def plan_until(last: StageKind | None) -> tuple[StagePlan, ...]:
    """The collection plan up to and including the stage of kind `last` (all of it for None)."""
    if last is None:
        return COLLECTION_PLAN
    kinds = [stage.kind for stage in COLLECTION_PLAN]
    return COLLECTION_PLAN[: kinds.index(last) + 1]


def plan_of(spec: "JobSpec") -> tuple[StagePlan, ...]:
    """All stages of a job, in order: the collection as far as it is wanted, the trainings, and at the end the report, which
    needs the trainings too. A job that stops before the report has none."""
    collection = plan_until(spec.stop_after) if spec.sources else ()
    if not spec.train:
        return collection
    trainings = tuple(_training_plan(training) for training in spec.train)
    if not spec.sources:
        return (*trainings, _report_plan((), trainings))
    if collection != COLLECTION_PLAN:
        return (*collection, *trainings)
    *before, report = collection
    return (*before, *trainings, _report_plan(report.needs, trainings))


def _training_plan(training: "TrainParameters") -> StagePlan:
    data = ("assemble",) if training.data.is_own else ()
    base = () if training.base.stage is None else (training.base.stage,)
    return StagePlan(training.name, StageKind.TRAIN, TRAINING_SERVICE, needs=(*data, *base), barrier=True)


def _report_plan(needs: tuple[str, ...], trainings: tuple[StagePlan, ...]) -> StagePlan:
    names = tuple(training.name for training in trainings)
    return StagePlan("report", StageKind.REPORT, "curation", needs=(*needs, *names), barrier=True)


def shard_size(rows: int) -> int:
    """Instructions per shard: clamp(rows / 16, 16, 500), fixed when curation ends."""
    return max(16, min(500, -(-rows // 16)))
