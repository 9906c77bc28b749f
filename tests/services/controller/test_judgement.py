"""When a stage has rejected too much, and what is told then."""

from typing import Any, cast

import msgspec
import pytest

from services.controller.judgement import nothing_left, stop_for_rejections, too_many_rejected
from shared.domain.ledger import Ledger
from shared.metadata.repositories.scheduling import OpenStage, SchedulingRepository

STAGE = OpenStage(
    id="stage_1",
    job_id="job_1",
    project_id="p",
    ordinal=1,
    name="augment",
    kind="augment",
    state="running",
    steps_total=4,
    steps_succeeded=0,
    rows_expected=None,
    ledger=Ledger(),
    max_reject_rate=0.5,
    succeeded=0,
    running=1,
)


CURATE = msgspec.structs.replace(STAGE, name="curate", kind="curate", steps_total=1, succeeded=1)


class _Scheduling:
    """Takes the error that fails a job."""

    def __init__(self) -> None:
        self.error: dict[str, Any] = {}

    async def fail_job(self, job_id: str, error: dict[str, Any]) -> bool:
        self.error = error
        return True


async def told(stage: OpenStage, ledger: Ledger) -> tuple[str, str]:
    """(code, message) of the error that fails the job."""
    scheduling = _Scheduling()
    assert await stop_for_rejections(cast("SchedulingRepository", scheduling), stage, ledger, finished=True)
    assert scheduling.error["stage"] == stage.name
    return scheduling.error["code"], scheduling.error["message"]


def facets(seen: int, rejected: int) -> Ledger:
    return Ledger(facets_in=seen, facets_out=seen - rejected, facets_rejected=rejected, reasons={"r": rejected})


@pytest.mark.parametrize(
    ("ledger", "finished", "failed"),
    [
        (facets(99, 99), False, False),
        (facets(100, 50), False, False),
        (facets(100, 51), False, True),
        (facets(10, 6), False, False),
        (facets(10, 6), True, True),
        (facets(10, 5), True, False),
        (facets(0, 0), True, False),
    ],
)
def test_row_stages_are_judged_from_100_facets_and_at_the_end(ledger: Ledger, finished: bool, failed: bool) -> None:
    assert too_many_rejected(STAGE, ledger, finished=finished) is failed


def test_a_rate_of_one_never_fails_and_zero_fails_at_the_first() -> None:
    assert not too_many_rejected(msgspec.structs.replace(STAGE, max_reject_rate=1.0), facets(9, 9), finished=True)
    assert too_many_rejected(msgspec.structs.replace(STAGE, max_reject_rate=0.0), facets(900, 1), finished=False)


def test_curation_is_judged_by_rows_it_could_not_read_only() -> None:
    removed = Ledger(rows_in=200, rows_out=10, rows_rejected=190, reasons={"near_duplicate": 190})
    assert not too_many_rejected(CURATE, removed, finished=True)
    broken = Ledger(rows_in=200, rows_out=10, rows_rejected=190, reasons={"invalid_json": 120, "near_duplicate": 70})
    assert too_many_rejected(CURATE, broken, finished=True)


def test_assembly_is_not_judged() -> None:
    assert not too_many_rejected(msgspec.structs.replace(STAGE, kind="assemble"), facets(500, 499), finished=True)


async def test_for_curation_only_the_rows_that_were_judged_are_told() -> None:
    reasons = {"invalid_json": 5, "missing_field": 2, "too_short": 2}
    code, message = await told(CURATE, Ledger(rows_in=12, rows_out=3, rows_rejected=9, reasons=reasons))
    assert code == "too_many_rejected"
    assert "could not read 7 of 12 rows (invalid_json: 5, missing_field: 2), more than max_reject_rate 0.5" in message
    assert "purge-cache" not in message


async def test_rejected_answers_are_told_with_their_reasons_and_how_to_get_others() -> None:
    reasons = {f"reason_{number}": 7 - number for number in range(7)}
    ledger = Ledger(rows_in=10, rows_out=10, facets_in=30, facets_out=2, facets_rejected=28, reasons=reasons)
    code, message = await told(STAGE, ledger)
    assert code == "too_many_rejected"
    assert (
        "rejected 28 of 30 facets (reason_0: 7, reason_1: 6, reason_2: 5, reason_3: 4, reason_4: 3, other reasons: 3)"
        in message
    )
    for remedy in ("another `seed`", "multifacet purge-cache", "DELETE /v1/cache", "higher max_reject_rate"):
        assert remedy in message


async def test_a_curation_that_lets_nothing_through_says_why_whatever_share_is_allowed() -> None:
    everything = msgspec.structs.replace(CURATE, max_reject_rate=1.0)
    ledger = Ledger(rows_in=4, rows_rejected=4, reasons={"too_short": 1, "persona": 3})
    code, message = await told(everything, ledger)
    assert (code, message) == (
        "no_instruction_left",
        "every row was rejected (persona: 3, too_short: 1); loosen `curate` or use other sources",
    )
    assert await told(everything, Ledger()) == (
        "no_instruction_left",
        "the sources hold no row; use other sources",
    )


def test_only_a_curation_that_has_ended_can_have_left_nothing() -> None:
    running = msgspec.structs.replace(CURATE, succeeded=0)
    empty = Ledger(rows_in=3, rows_rejected=3, reasons={"persona": 3})
    assert nothing_left(CURATE, empty)
    assert not nothing_left(running, Ledger())
    assert not nothing_left(CURATE, Ledger(rows_in=3, rows_out=1, rows_rejected=2, reasons={"persona": 2}))
    assert not nothing_left(msgspec.structs.replace(CURATE, kind="augment"), Ledger())


async def test_what_is_within_the_limit_lets_the_job_go_on() -> None:
    scheduling = _Scheduling()
    stopped = await stop_for_rejections(cast("SchedulingRepository", scheduling), STAGE, facets(10, 5), finished=True)
    assert (stopped, scheduling.error) == (False, {})
