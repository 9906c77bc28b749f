"""Win rates: both orders of a pair are one observation, and nothing that was lost is counted as anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.statistics.pairwise import Battle, between, pair_outcomes, swapped, win_rate

BATTLES = st.lists(
    st.builds(
        Battle,
        instruction=st.sampled_from(["i1", "i2", "i3", "i4"]),
        first=st.just("a"),
        second=st.just("b"),
        outcome=st.sampled_from([0.0, 0.5, 1.0, None]),
        order=st.sampled_from([0, 1]),
        pair=st.sampled_from(["", "person 2"]),
    ),
    min_size=1,
    max_size=30,
)


def battle(instruction: str, outcome: float | None, order: int = 0, **more: object) -> Battle:
    return Battle(instruction, "ours", "theirs", outcome, order=order, **more)  # type: ignore[arg-type]


def test_both_orders_of_a_pair_count_once_and_ties_half() -> None:
    found = win_rate(
        [
            battle("won in both orders", 1.0), battle("won in both orders", 1.0, 1),
            battle("the order decides", 1.0), battle("the order decides", 0.0, 1),
            battle("won once, tied once", 1.0), battle("won once, tied once", 0.5, 1),
            battle("lost in the one order that has a verdict", 0.0), battle("lost in the one order that has a verdict", None, 1),
            battle("no verdict at all", None), battle("no verdict at all", None, 1),
        ]
    )  # fmt: skip
    assert (found.first, found.second) == ("ours", "theirs")
    assert found.interval.estimate == pytest.approx((1 + 0.5 + 0.75 + 0) / 4)
    assert (found.pairs, found.wins, found.ties, found.losses) == (4, 2, 1, 1)
    assert (found.missing, found.unjudged) == (3, 1)
    # One of the three pairs with both verdicts changes sides; a win beside a tie does not.
    assert found.flip_rate.estimate == pytest.approx(1 / 3)
    assert found.interval.clusters == 4


def test_repeated_runs_of_one_order_do_not_outweigh_the_other_order() -> None:
    (pair,) = pair_outcomes([battle("i", 1.0), battle("i", 1.0), battle("i", 1.0), battle("i", 0.0, 1)])
    assert pair.outcome == 0.5
    assert pair.flipped


def test_ties_are_told_apart_where_all_verdicts_on_the_pair_say_the_same() -> None:
    found = win_rate(
        [
            battle("i1", 0.5, kind="both_good"), battle("i1", 0.5, 1, kind="both_good"),
            battle("i2", 0.5, kind="both_bad"), battle("i2", 0.5, 1, kind="both_good"),
            battle("i3", 0.5, kind="both_bad"), battle("i3", None, 1), battle("i4", 0.5),
        ]
    )  # fmt: skip
    assert (found.ties, found.both_good, found.both_bad) == (4, 1, 1)
    assert (found.interval.estimate, found.interval.method) == (0.5, "no_variation")


@given(BATTLES)
def test_swapping_the_models_mirrors_everything(battles: list[Battle]) -> None:
    one, other = win_rate(battles, rounds=30), win_rate([swapped(found) for found in battles], rounds=30)
    assert (one.wins, one.losses, one.ties) == (other.losses, other.wins, other.ties)
    assert (one.missing, one.unjudged, one.flip_rate) == (other.missing, other.unjudged, other.flip_rate)
    if one.interval.estimate is not None:
        assert other.interval.estimate == pytest.approx(1 - one.interval.estimate)
    if one.interval.low is not None:
        assert other.interval.high == pytest.approx(1 - one.interval.low)
    assert [swapped(swapped(found)) for found in battles] == battles


@given(BATTLES)
def test_every_pair_is_won_lost_tied_or_unjudged(battles: list[Battle]) -> None:
    found = win_rate(battles, rounds=5)
    assert found.pairs == found.wins + found.losses + found.ties
    assert found.pairs + found.unjudged == len({(one.instruction, one.pair) for one in battles})
    assert found.interval.estimate is None or 0 <= found.interval.estimate <= 1


def test_battles_are_turned_to_the_model_that_is_asked_about() -> None:
    battles = [
        Battle("i", "a", "b", 1.0, order=0, first_words=7, second_words=9),
        Battle("i", "b", "a", 1.0, order=0, first_words=9, second_words=7),
        Battle("i", "a", "c", 1.0),
    ]
    mine = between(battles, "a", "b")
    assert [(one.outcome, one.order, one.first_words, one.second_words) for one in mine] == [(1, 0, 7, 9), (0, 1, 7, 9)]
    assert pair_outcomes(mine)[0].flipped


def test_where_nothing_can_be_said_the_method_says_why() -> None:
    lost = win_rate([battle("i", None), battle("i", None, 1)])
    assert (lost.interval.estimate, lost.interval.method, lost.flip_rate.method) == (None, "nothing", "nothing")
    assert win_rate([battle("i", 1.0)]).interval.method == "one_cluster"
    empty = win_rate([])
    assert (empty.first, empty.pairs, empty.interval.method, empty.flip_rate.method) == ("", 0, "nothing", "nothing")


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="several pairs of models"):
        win_rate([battle("i", 1.0), Battle("i", "ours", "a third", 1.0)])
    with pytest.raises(ValueError, match="order 2 is none"):
        win_rate([battle("i", 1.0, order=2)])
