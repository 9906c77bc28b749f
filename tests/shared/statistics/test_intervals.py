"""Intervals: how often they hold the truth, and what they say where there is nothing to say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.interval_coverage import difference_coverage, mean_coverage
from shared.statistics.intervals import (
    Interval,
    bootstrap_interval,
    cluster_mean_interval,
    difference_interval,
    proportion_interval,
    quantile_interval,
)

REPEATS = 1000
"""The standard error of a coverage of 95% is then 0.7 points."""


@pytest.mark.parametrize("clusters", [20, 50, 99, 150, 400])
@pytest.mark.parametrize("kind", ["equal", "unequal"])
@pytest.mark.parametrize("name", ["normal", "binary 0.5", "lognormal 0.5"])
def test_the_interval_of_a_mean_holds_it_as_often_as_it_says(name: str, kind: str, clusters: int) -> None:
    coverage = mean_coverage(name, kind, clusters, REPEATS, seed=11)
    # A few clusters of very different size tell less than the method can see: there it errs on the wide side.
    assert 0.93 <= coverage <= (0.985 if kind == "unequal" and clusters == 20 else 0.97)


@pytest.mark.parametrize("clusters", [20, 50, 99, 150, 400])
@pytest.mark.parametrize("kind", ["equal", "unequal"])
def test_the_interval_of_a_rare_share_is_never_short_and_seldom_long(kind: str, clusters: int) -> None:
    """Coverage of a count of a few events can only jump; the method errs on the wide side, most with fewest events."""
    coverage = mean_coverage("binary 0.05", kind, clusters, REPEATS, seed=12)
    assert 0.93 <= coverage <= (0.98 if clusters > 100 else 0.99)


@pytest.mark.parametrize("clusters", [(50, 99), (99, 150)])
@pytest.mark.parametrize("name", ["normal", "binary 0.5"])
def test_the_interval_of_a_difference_holds_it_as_often_as_it_says(name: str, clusters: tuple[int, int]) -> None:
    assert 0.93 <= difference_coverage(name, clusters, REPEATS, seed=13) <= 0.97


def test_ignoring_the_clusters_would_be_short() -> None:
    """The reason for all this: intervals over observations of which ten each are alike."""
    generator = np.random.default_rng(5)
    held = 0
    for _ in range(400):
        values = np.repeat(generator.normal(size=50), 10)
        naive = cluster_mean_interval(values, range(500))
        assert naive.low is not None
        assert naive.high is not None
        held += naive.low <= 0 <= naive.high
    assert held / 400 < 0.6


def test_known_values() -> None:
    wilson = proportion_interval(5, 50)
    assert (wilson.estimate, round(wilson.low or 0, 4), round(wilson.high or 0, 4)) == (0.1, 0.0435, 0.2136)
    student = cluster_mean_interval([1.0, 2.0, 3.0, 4.0], ["a", "b", "c", "d"])
    assert student.method == "t_clustered"
    # mean 2.5, standard error sqrt(5/3)/2, t quantile 3.1824 with 3 degrees of freedom
    assert (student.estimate, round(student.low or 0, 3), round(student.high or 0, 3)) == (2.5, 0.446, 4.554)


def test_the_method_follows_the_number_of_clusters() -> None:
    generator = np.random.default_rng(1)
    methods = [
        cluster_mean_interval(generator.normal(size=count), range(count)).method for count in (99, 100, 1999, 2000)
    ]
    assert methods == ["t_clustered", "bootstrap_t_clustered", "bootstrap_t_clustered", "t_clustered"]


def test_nothing_one_cluster_and_equal_values_have_no_interval() -> None:
    nothing = cluster_mean_interval([], [])
    assert nothing == Interval(None, None, None, 0.95, 0, "nothing")
    assert cluster_mean_interval([1.0, 3.0], ["a", "a"]) == Interval(2.0, None, None, 0.95, 1, "one_cluster")
    assert cluster_mean_interval([2.5, 2.5], ["a", "b"]) == Interval(2.5, None, None, 0.95, 2, "no_variation")
    assert bootstrap_interval(lambda weights: 1.0, 0).method == "nothing"
    assert bootstrap_interval(lambda weights: 1.0, 9).method == "no_variation"
    assert quantile_interval([], [], 0.95) == Interval(None, None, None, 0.95, 0, "nothing")
    assert quantile_interval([1.0, 1.0], ["a", "b"], 0.95).method == "no_variation"
    assert proportion_interval(0, 0).method == "nothing"


def test_a_share_of_none_has_an_interval() -> None:
    found = cluster_mean_interval([0.0] * 60, [number // 3 for number in range(60)])
    assert (found.estimate, found.low, found.method) == (0.0, 0.0, "wilson_clustered")
    assert found.high is not None
    assert 0.05 < found.high < 0.15


def test_the_quantile_lies_between_values_that_were_seen() -> None:
    values = np.random.default_rng(2).normal(size=600)
    found = quantile_interval(values, [number // 3 for number in range(600)], 0.95)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1.645 < found.high
    assert {found.low, found.estimate, found.high} <= set(values.tolist())


def test_a_reflected_bootstrap_takes_the_shift_of_entropy_back() -> None:
    counts = np.random.default_rng(3).multinomial(3, np.full(10, 0.1), size=100).astype(float)

    def entropy(weights: np.ndarray) -> float:
        shares = (weights @ counts) / (weights @ counts).sum()
        return float(-(shares * np.log(shares)).sum() / np.log(10))

    plain, reflected = (bootstrap_interval(entropy, 100, reflected=value) for value in (False, True))
    assert plain.high is not None
    assert reflected.high is not None
    assert plain.high < 1.0 <= reflected.high


def test_a_difference_without_an_interval_says_why() -> None:
    whole = cluster_mean_interval([1.0, 2.0, 4.0], "abc")
    lone = cluster_mean_interval([5.0], ["a"])
    found = difference_interval(lone, whole)
    assert (found.low, found.high, found.method) == (None, None, "one_cluster")
    assert found.estimate == pytest.approx(5 - 7 / 3)
    assert difference_interval(cluster_mean_interval([], []), whole).estimate is None


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [([1.0], ["a", "b"], "1 values and 2 clusters"), ([float("nan"), 1.0], ["a", "b"], "not a number")],
)
def test_unfit_input_is_refused(values: list[float], clusters: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_mean_interval(values, clusters)
    with pytest.raises(ValueError, match="successes"):
        proportion_interval(3, 2)
    with pytest.raises(ValueError, match="level"):
        proportion_interval(1, 2, level=95)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 12)), min_size=2, max_size=60))
def test_the_estimate_is_the_mean_and_lies_inside(observed: list[tuple[float, int]]) -> None:
    values, clusters = zip(*observed, strict=True)
    found = cluster_mean_interval(values, clusters)
    assert found.estimate == pytest.approx(float(np.mean(values)))
    assert found == cluster_mean_interval(values, clusters)
    if found.low is not None:
        assert found.estimate is not None
        assert found.high is not None
        assert found.low <= found.estimate <= found.high
