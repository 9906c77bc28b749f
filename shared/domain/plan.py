"""The plan of a job: which stages, in which order, with which barriers. One literal that a newcomer can read."""

from enum import StrEnum

import msgspec


class StageKind(StrEnum):
    CURATE = "curate"
    AUGMENT = "augment"
    COMPOSE = "compose"
    RESPOND = "respond"
    ASSEMBLE = "assemble"
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


def plan_until(last: StageKind | None) -> tuple[StagePlan, ...]:
    """The collection plan up to and including the stage of kind `last` (all of it for None)."""
    if last is None:
        return COLLECTION_PLAN
    kinds = [stage.kind for stage in COLLECTION_PLAN]
    return COLLECTION_PLAN[: kinds.index(last) + 1]


def shard_size(rows: int) -> int:
    """Instructions per shard: clamp(rows / 16, 16, 500), fixed when curation ends."""
    return max(16, min(500, -(-rows // 16)))
