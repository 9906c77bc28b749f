"""A judge against people: counted by hand."""

import pytest

from shared.statistics.calibration import JudgedPair, judge_against_people

F, S, T = "first", "second", "tie"
PAIRS = [
    # People, the judge in both orders, words of both answers.
    JudgedPair("i1", [F, F, S], (F, F), 100, 50),  # agree; both take the longer
    JudgedPair("i2", [S, S], (F, F), 100, 50),  # the judge takes the longer, people the shorter
    JudgedPair("i3", [S, S, S], (F, S), 50, 100),  # the order decides: a tie, people take the longer
    JudgedPair("i4", [T, T, F], (T, T), 50, 100),  # agree on a tie
    JudgedPair("i5", [S], (S, None), 70, 70),  # one order alone; agree; as long as each other
    JudgedPair("i6", [F, S], (F, F), 10, 20),  # people are undecided
    JudgedPair("i7", [F, F], (None, None), 10, 20),  # no verdict
    JudgedPair("i8", [None, None], (F, T), 10, 20),  # no label
]


def test_every_figure_by_hand() -> None:
    found = judge_against_people(PAIRS)
    assert (found.pairs, found.undecided, found.unjudged) == (8, 2, 1)
    assert found.accuracy.estimate == pytest.approx(3 / 5)
    assert found.accuracy.clusters == 5
    # i1, i2, i5: neither calls a tie.
    assert found.accuracy_decided.estimate == pytest.approx(2 / 3)
    # People F S S T S, the judge F F T T S: 3/5 observed; by chance (1·2 + 3·1 + 1·2) / 25.
    assert found.kappa.estimate == pytest.approx((0.6 - 0.28) / (1 - 0.28))
    # Both orders have verdicts in i1, i2, i3, i4, i6, i8; i3 changes sides.
    assert found.flip_rate.estimate == pytest.approx(1 / 6)
    # i1 to i4 differ in length: the judge takes the longer in 1, 1, 0.5, 0.5 of them, people in 1, 0, 1, 0.5.
    assert found.length_bias.estimate == pytest.approx((3 - 2.5) / 4)


def test_a_judge_who_likes_length_is_found_out() -> None:
    pairs = [JudgedPair(str(n), [F if n % 2 else S] * 3, (F, F), 120, 80) for n in range(100)]
    found = judge_against_people(pairs)
    assert found.length_bias.estimate == pytest.approx(0.5)
    assert found.length_bias.low is not None
    assert found.length_bias.low > 0.3
    assert found.kappa.estimate == pytest.approx(0)
    assert found.accuracy.low is not None
    assert found.accuracy.high is not None
    assert found.accuracy.low < 0.5 < found.accuracy.high


def test_a_judge_who_says_what_people_say_is_right() -> None:
    found = judge_against_people([JudgedPair(str(n), [(F, S, T)[n % 3]], ((F, S, T)[n % 3],) * 2) for n in range(30)])
    assert found.accuracy.estimate == found.accuracy_decided.estimate == found.kappa.estimate == 1.0
    assert (found.accuracy.low, found.accuracy.method) == (None, "no_variation")
    assert found.length_bias.method == "nothing"


def test_where_nothing_can_be_said_the_method_says_why() -> None:
    nothing = judge_against_people([])
    assert {nothing.accuracy.method, nothing.kappa.method, nothing.flip_rate.method} == {"nothing"}
    ties = judge_against_people([JudgedPair(str(n), [T], (T, T), 1, 2) for n in range(5)])
    assert (ties.accuracy.estimate, ties.accuracy_decided.method) == (1.0, "nothing")
    assert (ties.kappa.estimate, ties.kappa.method) == (None, "no_variation")
    assert judge_against_people(PAIRS[:1]).accuracy.method == "one_cluster"


def test_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="'A' is no label"):
        judge_against_people([JudgedPair("i", ["A"], (F, F))])
