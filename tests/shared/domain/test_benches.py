"""What reviewers together say of an item."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.benches import Outcome, outcome_of, outcomes


@pytest.mark.parametrize(
    ("decisions", "outcome"),
    [
        ([], Outcome.UNDECIDED),
        (["keep"], Outcome.KEPT),
        (["drop"], Outcome.DROPPED),
        (["drop", "keep"], Outcome.KEPT),
        (["drop", "keep", "drop"], Outcome.DROPPED),
    ],
)
def test_an_item_is_dropped_when_more_say_drop_than_keep(decisions: list[str], outcome: Outcome) -> None:
    assert outcome_of(decisions) is outcome


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["keep", "drop"]))))
def test_items_are_told_apart_whatever_the_order_of_their_reviews(reviews: list[tuple[str, str]]) -> None:
    told = outcomes(reviews)
    assert told == outcomes(reversed(reviews))
    assert set(told) == {item for item, _ in reviews}
    assert Outcome.UNDECIDED not in told.values()
