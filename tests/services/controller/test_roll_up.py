"""When a stage has rejected too much."""

import msgspec
import pytest

from services.controller.roll_up import too_many_rejected
from shared.domain.ledger import Ledger
from shared.metadata.repositories.scheduling import OpenStage

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
    curate = msgspec.structs.replace(STAGE, name="curate", kind="curate")
    removed = Ledger(rows_in=200, rows_out=10, rows_rejected=190, reasons={"near_duplicate": 190})
    assert not too_many_rejected(curate, removed, finished=True)
    broken = Ledger(rows_in=200, rows_out=10, rows_rejected=190, reasons={"invalid_json": 120, "near_duplicate": 70})
    assert too_many_rejected(curate, broken, finished=True)


def test_assembly_is_not_judged() -> None:
    assert not too_many_rejected(msgspec.structs.replace(STAGE, kind="assemble"), facets(500, 499), finished=True)
