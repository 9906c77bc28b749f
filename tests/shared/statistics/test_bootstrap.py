"""Means by bootstrap over clusters: the same as drawing by hand, from the same draws for all groups, and as wide as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.evaluation_statistics import coverage
from shared.statistics.bootstrap import (
    bootstrap_correlation,
    bootstrap_difference,
    bootstrap_means,
    cluster_draws,
    percentile_interval,
)

OBSERVED = st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 5), st.sampled_from("xyz")), min_size=1, max_size=40)


@settings(max_examples=50)
@given(OBSERVED)
def test_every_group_has_the_interval_of_clusters_drawn_by_hand(observed: list[tuple[float, int, str]]) -> None:
    values, clusters, groups = zip(*observed, strict=True)
    found = bootstrap_means(values, clusters, groups, rounds=40)
    order = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    for group in dict.fromkeys(groups):
        members = [(value, order[cluster]) for value, cluster, name in observed if name == group]
        means = []
        for draws in cluster_draws(len(order), 40):
            for counts in draws:
                drawn = [value for value, cluster in members for _ in range(int(counts[cluster]))]
                means.append(np.mean(drawn) if drawn else np.nan)
        assert found[group].estimate == pytest.approx(np.mean([value for value, _ in members]))
        wanted = percentile_interval(float(np.mean([v for v, _ in members])), np.array(means), found[group].clusters)
        assert found[group].method == wanted.method
        assert (found[group].low, found[group].high) == pytest.approx((wanted.low, wanted.high))


@given(OBSERVED, st.floats(0.5, 20), st.floats(-50, 50))
def test_scaling_and_moving_the_values_scales_and_moves_the_interval(
    observed: list[tuple[float, int, str]], factor: float, shift: float
) -> None:
    values, clusters, _ = zip(*observed, strict=True)
    plain = bootstrap_means(values, clusters, rounds=30)[None]
    moved = bootstrap_means([factor * value + shift for value in values], clusters, rounds=30)[None]
    if plain.low is not None and plain.high is not None and plain.high - plain.low > 1e-6:
        assert moved.low == pytest.approx(factor * plain.low + shift, abs=1e-6)
        assert moved.high == pytest.approx(factor * plain.high + shift, abs=1e-6)


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    held, repeats, clusters = 0, 600, np.repeat(np.arange(100), 4)
    for _ in range(repeats):
        values = np.repeat(generator.normal(size=100), 4) + generator.normal(size=400)
        found = bootstrap_means(values, clusters, rounds=300)[None]
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
    # The standard error of a coverage of 95% is 0.9 points; percentiles of 100 clusters are a little short.
    assert 0.91 <= held / repeats <= 0.97


@pytest.mark.parametrize("figure", ["difference of two means, paired", "win rate of 30%", "Cohen's kappa of 1/3"])
def test_so_do_intervals_of_other_figures(figure: str) -> None:
    """More of them, and of ratings and rates at equal length, stand in docs/statistics.md. Standard error 1.5 points."""
    assert coverage(figure, 100, 200) >= 0.9


def test_what_two_figures_share_cancels_out_of_their_difference() -> None:
    generator = np.random.default_rng(4)
    hard = generator.normal(size=200) * 10
    first, second = hard + generator.normal(size=200) + 1, hard + generator.normal(size=200)
    clusters = list(range(200))
    paired = bootstrap_difference(first, clusters, second, clusters)
    apart = bootstrap_difference(first, clusters, second, [f"other {cluster}" for cluster in clusters])
    assert paired.estimate == pytest.approx(float(first.mean() - second.mean()))
    assert paired.low is not None
    assert paired.high is not None
    assert 0 < paired.low < 1 < paired.high
    assert apart.low is not None
    assert apart.high is not None
    assert apart.high - apart.low > 5 * (paired.high - paired.low)


@given(OBSERVED)
def test_a_figure_does_not_differ_from_itself(observed: list[tuple[float, int, str]]) -> None:
    values, clusters, _ = zip(*observed, strict=True)
    found = bootstrap_difference(values, clusters, values, clusters, rounds=20)
    assert (found.estimate, found.low, found.high) == (0.0, None, None)
    assert found.method == ("no_variation" if len(set(clusters)) > 1 else "one_cluster")


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 5)), min_size=2, max_size=30))
def test_a_correlation_is_that_of_the_observations_and_its_draws(observed: list[tuple[int, int, int]]) -> None:
    first, second, clusters = (np.array(column) for column in zip(*observed, strict=True))
    found = bootstrap_correlation(first, second, clusters, rounds=30)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert (found.estimate, found.method) == (None, "no_variation")
        return
    assert found.estimate == pytest.approx(np.corrcoef(first, second)[0, 1])
    order = {name: number for number, name in enumerate(dict.fromkeys(clusters.tolist()))}
    drawn = []
    for draws in cluster_draws(len(order), 30):
        for counts in draws:
            times = counts[[order[name] for name in clusters.tolist()]].astype(int)
            one, other = np.repeat(first, times), np.repeat(second, times)
            constant = np.ptp(one) == 0 or np.ptp(other) == 0
            drawn.append(np.nan if constant else np.corrcoef(one, other)[0, 1])
    wanted = percentile_interval(found.estimate, np.array(drawn), len(order))
    assert found.method == wanted.method
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_the_ends_leave_out_as_much_as_they_say_however_few_rounds_there_are() -> None:
    """Of the numbers 1 to n drawn in n rounds, k / (n + 1) of all that could be drawn lie below the k-th."""
    for rounds in (39, 199, 999):
        found = percentile_interval(0.0, np.arange(1.0, rounds + 1), 50)
        assert (found.low, found.high) == pytest.approx((0.025 * (rounds + 1), 0.975 * (rounds + 1)))


def test_seeds_give_the_same_draws_and_other_seeds_others() -> None:
    values, clusters = np.random.default_rng(6).normal(size=50), list(range(50))
    assert bootstrap_means(values, clusters) == bootstrap_means(values, clusters)
    assert bootstrap_means(values, clusters) != bootstrap_means(values, clusters, seed=1)


def test_draws_come_in_blocks_that_add_up_to_the_clusters() -> None:
    blocks = list(cluster_draws(3_000_000, 3))
    assert [len(block) for block in blocks] == [1, 1, 1]
    assert all(block.sum() == 3_000_000 for block in blocks)


def test_where_nothing_can_be_said_the_method_says_why() -> None:
    assert bootstrap_means([], [])[None].method == "nothing"
    assert bootstrap_means([], [], []) == {}
    assert bootstrap_means([1.0, 2.0], ["a", "a"])[None].method == "one_cluster"
    assert bootstrap_means([0.5, 0.5], ["a", "b"])[None].method == "no_variation"
    assert bootstrap_difference([], [], [1.0], ["a"]).method == "nothing"
    # One instruction among hundreds has the group: in a third of the draws there is nothing to take the mean of.
    rare = bootstrap_means([1.0, *range(500)], list(range(501)), ["rare", *["common"] * 500])
    assert (rare["rare"].estimate, rare["rare"].low, rare["rare"].method) == (1.0, None, "one_cluster")


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="2 values and 1 clusters"):
        bootstrap_means([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="name of its group"):
        bootstrap_means([1.0, 2.0], ["a", "b"], ["x"])
    with pytest.raises(ValueError, match="infinite or not a number"):
        bootstrap_means([float("nan")], ["a"])
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap_means([1.0], ["a"], level=95)
    with pytest.raises(ValueError, match="0 rounds"):
        bootstrap_means([1.0, 2.0], ["a", "b"], rounds=0)
