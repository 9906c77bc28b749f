"""Ledgers: what goes in comes out or is counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.ledger import Ledger, row_ledger, total
from shared.domain.rows import Facet, InstructionRow, Rejection

STAGES = ["augment", "compose", "respond"]
REASONS = ["empty", "refused", "too_similar"]
_rejections = st.none() | st.builds(Rejection, stage=st.sampled_from(STAGES), reason=st.sampled_from(REASONS))


@st.composite
def rows(draw: st.DrawFn) -> InstructionRow:
    facets = [
        Facet(index, rejection=rejection) for index, rejection in enumerate(draw(st.lists(_rejections, max_size=5)))
    ]
    return InstructionRow("0" * 16, "Explain rain.", "demo", "demo", 0, facets=facets)


@given(st.lists(rows(), max_size=8), st.sampled_from(STAGES))
def test_the_sum_of_row_ledgers_adds_up(finished: list[InstructionRow], stage: str) -> None:
    ledger = total(row_ledger(row, stage) for row in finished)
    ledger.check()
    assert ledger.facets_out == sum(facet.alive for row in finished for facet in row.facets)
    assert ledger.facets_rejected == sum(
        facet.rejection is not None and facet.rejection.stage == stage for row in finished for facet in row.facets
    )
    assert 0 <= ledger.reject_rate <= 1


@given(rows())
def test_stages_one_after_the_other_lose_no_facet(row: InstructionRow) -> None:
    rejected = sum(row_ledger(row, stage).facets_rejected for stage in STAGES)
    assert rejected + sum(facet.alive for facet in row.facets) == len(row.facets)


def test_a_facet_rejected_earlier_is_not_counted_again() -> None:
    facets = [
        Facet(0, rejection=Rejection("augment", "empty")),
        Facet(1),
        Facet(2, rejection=Rejection("respond", "refused")),
    ]
    ledger = row_ledger(InstructionRow("0" * 16, "x", "m", "o", 0, facets=facets), "respond")
    assert ledger == Ledger(1, 1, 0, 2, 1, 1, {"refused": 1})


def test_a_row_that_died_earlier_counts_nothing_and_one_that_dies_here_counts_as_rejected() -> None:
    row = InstructionRow("0" * 16, "x", "m", "o", 0, facets=[Facet(0, rejection=Rejection("compose", "empty"))])
    assert row_ledger(row, "respond") == Ledger()
    assert row_ledger(row, "compose").rows_rejected == 1


@pytest.mark.parametrize(
    ("ledger", "message"),
    [
        (Ledger(rows_in=3, rows_out=1, rows_rejected=1), "rows do not add up: 3 in, 1 out, 1 rejected"),
        (Ledger(facets_in=2, facets_out=2, facets_rejected=1), "facets do not add up"),
        (Ledger(rows_in=1, rows_rejected=1), "reasons do not add up"),
        (Ledger(facets_in=1, facets_rejected=1, reasons={"a": 2}), "reasons do not add up"),
    ],
)
def test_counts_that_do_not_add_up_are_refused(ledger: Ledger, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ledger.check()


def test_reject_rate_is_of_facets_where_there_are_any() -> None:
    assert Ledger().reject_rate == 0
    assert Ledger(rows_in=4, rows_out=3, rows_rejected=1).reject_rate == 0.25
    assert Ledger(rows_in=4, rows_out=4, facets_in=8, facets_out=4, facets_rejected=4).reject_rate == 0.5


def test_total_leaves_its_parts_as_they_are() -> None:
    one = Ledger(rows_in=1, rows_rejected=1, reasons={"a": 1})
    assert total([one, one]).reasons == {"a": 2}
    assert one.reasons == {"a": 1}
