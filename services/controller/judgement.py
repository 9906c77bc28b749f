"""Whether a job may go on after what one of its stages rejected, and what is told where it may not."""

from collections.abc import Mapping
from typing import Any

import structlog

from shared.domain.ledger import Ledger
from shared.domain.plan import ROW_STAGES, StageKind
from shared.metadata.repositories.scheduling import OpenStage, SchedulingRepository

_log = structlog.get_logger(__name__)

JUDGED_FROM = 100
"""Facets (or rows) that a stage must have seen before its share of rejections is judged; at its end it is judged anyway."""

UNUSABLE_ROW_REASONS = frozenset(
    {"missing_field", "invalid_json", "invalid_csv", "not_utf8", "oversized_line", "empty"}
)
"""Curation's reasons for rows that could not be read as instructions at all."""

_REASONS_TOLD = 5


async def stop_for_rejections(
    scheduling: SchedulingRepository, stage: OpenStage, ledger: Ledger, *, finished: bool
) -> bool:
    """Fail the stage's job where the stage rejected too much; what was made is kept. Returns whether it must not go on."""
    if nothing_left(stage, ledger):
        code, message = "no_instruction_left", _nothing_left_message(ledger)
    elif too_many_rejected(stage, ledger, finished=finished):
        code, message = "too_many_rejected", _too_many_message(stage, ledger)
    else:
        return False
    error: dict[str, Any] = {"code": code, "message": message, "stage": stage.name, "step_id": None}
    if await scheduling.fail_job(stage.job_id, error):
        _log.info("job_failed", job_id=stage.job_id, code=code, stage=stage.name)
    return True


def nothing_left(stage: OpenStage, ledger: Ledger) -> bool:
    """Whether curation has ended and let no instruction through: there is nothing to go on with."""
    ended = stage.succeeded == stage.steps_total > 0
    return StageKind(stage.kind) is StageKind.CURATE and ended and ledger.rows_out == 0


def too_many_rejected(stage: OpenStage, ledger: Ledger, *, finished: bool) -> bool:
    """Whether the stage rejected more than its job allows.

    Judged from 100 facets (rows in a stage without facets) on, and at the stage's end. Only stages that judge quality count:
    curation removes duplicates and contaminated rows by design, but rows it could not read are held against it.
    """
    if StageKind(stage.kind) not in {*ROW_STAGES, StageKind.CURATE}:
        return False
    seen, reasons = _judged(stage, ledger)
    if not seen or (seen < JUDGED_FROM and not finished):
        return False
    return sum(reasons.values()) / seen > stage.max_reject_rate


def _judged(stage: OpenStage, ledger: Ledger) -> tuple[int, dict[str, int]]:
    """What the stage saw, and what it rejected of that for reasons that are held against it."""
    if StageKind(stage.kind) in ROW_STAGES:
        return ledger.facets_in, ledger.reasons
    return ledger.rows_in, {name: count for name, count in ledger.reasons.items() if name in UNUSABLE_ROW_REASONS}


def _too_many_message(stage: OpenStage, ledger: Ledger) -> str:
    seen, reasons = _judged(stage, ledger)
    rejected = sum(reasons.values())
    limit = f"more than max_reject_rate {stage.max_reject_rate:g} allows"
    if StageKind(stage.kind) is StageKind.CURATE:
        return (
            f"the stage {stage.name} could not read {rejected} of {seen} rows ({_told(reasons)}), {limit}; mend the input "
            "or submit with a higher max_reject_rate"
        )
    return (
        f"the stage {stage.name} rejected {rejected} of {seen} facets ({_told(reasons)}), {limit}. The answers are stored, so "
        "the same job would meet them again: submit with another `seed`, or remove stored answers first (`multifacet "
        "purge-cache`, DELETE /v1/cache), or submit with a higher max_reject_rate"
    )


def _nothing_left_message(ledger: Ledger) -> str:
    if not ledger.rows_in:
        return "the sources hold no row; use other sources"
    return f"every row was rejected ({_told(ledger.reasons)}); loosen `curate` or use other sources"


def _told(reasons: Mapping[str, int]) -> str:
    """The most frequent reasons with their counts, and how many all others make up."""
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{name}: {count}" for name, count in ranked[:_REASONS_TOLD]]
    others = sum(count for _, count in ranked[_REASONS_TOLD:])
    return ", ".join([*told, *([f"other reasons: {others}"] if others else [])])
