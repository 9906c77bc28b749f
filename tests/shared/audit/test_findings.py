"""Verdicts: what few instructions can show, and what is said of intervals that are too short or missing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.audit.findings import FEWEST_CLUSTERS, NOMINAL_FROM, Threshold, finding
from shared.audit.measures.system_shape import VARIATION, variation_interval
from shared.audit.page import interval_text
from shared.statistics.intervals import Interval, cluster_mean_interval, quantile_interval


def _verdicts_of_clean_lengths(sets: int, instructions: int) -> list[str]:
    """Verdicts about system messages whose true variation, 0.4, is above both limits."""
    generator = np.random.default_rng(7)
    verdicts = []
    for _ in range(sets):
        lengths = np.exp(0.385 * generator.normal(size=instructions)) * 500
        interval = variation_interval(lengths.tolist(), [str(i) for i in range(instructions)])
        verdicts.append(
            finding("system_length_variation", "Variation", interval, instructions, "messages", VARIATION).verdict
        )
    return verdicts


@pytest.mark.parametrize("instructions", [2, 3, 5, 9, 19])
def test_no_tiny_clean_set_is_bad_by_a_bootstrap(instructions: int) -> None:
    assert "bad" not in _verdicts_of_clean_lengths(120, instructions)


def test_without_the_rule_tiny_clean_sets_would_be_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.audit.findings.FEWEST_CLUSTERS", 0)
    assert _verdicts_of_clean_lengths(120, 3).count("bad") >= 5


@given(
    method=st.sampled_from(["bootstrap_percentile", "bootstrap_reflected", "woodruff_clustered", "no_variation"]),
    clusters=st.integers(1, 60),
    ends=st.tuples(st.floats(-2, 3), st.floats(-2, 3)),
    worse=st.sampled_from(["above", "below", "apart"]),
)
def test_a_resampled_figure_is_bad_from_twenty_instructions_on_only(
    method: str, clusters: int, ends: tuple[float, float], worse: str
) -> None:
    low, high = sorted(ends)
    interval = Interval((low + high) / 2, low, high, 0.95, clusters, method)
    found = Threshold(0.6, 0.8, worse=worse).verdict(interval)  # type: ignore[arg-type]
    enough = Threshold(0.6, 0.8, worse=worse).verdict(Interval((low + high) / 2, low, high, 0.95, 60, method))  # type: ignore[arg-type]
    if clusters >= FEWEST_CLUSTERS:
        assert found == enough
    else:
        assert found == ("warn" if enough == "bad" else enough)


def test_shares_and_means_of_few_instructions_can_be_bad() -> None:
    limits = Threshold(0.1, 0.3)
    assert limits.verdict(cluster_mean_interval([1.0] * 12, range(12))) == "bad"
    assert limits.verdict(cluster_mean_interval([0.9, 0.8, 0.95, 0.85], range(4))) == "bad"
    assert limits.verdict(quantile_interval([0.9, 0.8, 0.95, 0.85], range(4), 0.5)) == "warn"
    assert limits.verdict(quantile_interval(np.linspace(0.8, 0.9, 40), range(40), 0.5)) == "bad"


def test_a_threshold_without_a_second_limit_is_never_bad() -> None:
    limits = Threshold(0.2, None, worse="below")
    assert limits.verdict(Interval(0.0, 0.0, 0.01, 0.95, 500, "wilson_clustered")) == "warn"
    assert str(limits) == "below 0.2 / never"


@pytest.mark.parametrize("name", sorted(NOMINAL_FROM))
def test_an_interval_that_is_too_short_says_so(name: str) -> None:
    least = NOMINAL_FROM[name]
    notes = []
    for clusters in (least - 1, least):
        interval = Interval(0.5, 0.4, 0.6, 0.95, clusters, "bootstrap_percentile")
        notes.append(finding(name, "Title", interval, 1, "texts", Threshold(0.8, 0.9)).interval_note)
    assert notes == [f"interval too short below {least} instructions: nominal", ""]
    no_ends = Interval(0.5, None, None, 0.95, 3, "no_variation")
    assert finding(name, "Title", no_ends, 1, "texts", Threshold(0.8, 0.9)).interval_note == ""


def test_a_missing_interval_says_why_in_words() -> None:
    assert interval_text(Interval(1.0, None, None, 0.95, 30, "no_variation")) == "none: the same in every instruction"
    assert interval_text(Interval(1.0, None, None, 0.95, 1, "one_cluster")) == "none: only one"
    assert interval_text(Interval(0.5, 0.5, 0.5, 0.95, 30, "both_orders")) == "exact: both orders"
    assert interval_text(None) == "–"
