"""Agreement beyond chance: published worked examples, scikit-learn's figures, and what holds for all ratings."""

import json
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from shared.statistics.agreement import (
    Metric,
    Weights,
    cohen_kappa,
    cohen_kappa_interval,
    fleiss_kappa,
    fleiss_kappa_interval,
    krippendorff_alpha,
    krippendorff_alpha_interval,
    majority,
)
from tests.support.reference import PANDALM_TEST_SET

KRIPPENDORFF_2011 = [
    # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers of twelve units, some missing.
    (1, 1, None, 1), (2, 2, 3, 2), (3, 3, 3, 3), (3, 3, 3, 3), (2, 2, 2, 2), (1, 2, 3, 4), (4, 4, 4, 4), (1, 1, 2, 1),
    (2, 2, 2, 2), (None, 5, 5, 5), (None, None, 1, 1), (None, 3, None, None),
]  # fmt: skip
FLEISS_EXAMPLE = [
    # The example of the article "Fleiss' kappa" in Wikipedia: fourteen raters put ten subjects into five categories.
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1), (7, 7, 0, 0, 0), (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip
PAIRS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=40)
ITEMS = st.integers(2, 4).flatmap(
    lambda raters: st.lists(
        st.lists(st.none() | st.integers(1, 4), min_size=raters, max_size=raters), min_size=1, max_size=25
    )
)


def spread(tables: list[tuple[int, ...]]) -> list[list[int]]:
    """Counts by category as ratings."""
    return [[category for category, count in enumerate(table) for _ in range(count)] for table in tables]


def test_cohen_of_fifty_proposals() -> None:
    """Two readers of fifty grant proposals: 20 twice yes, 15 twice no, 5 and 10 apart: (0.7 - 0.5) / (1 - 0.5)."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


@settings(max_examples=60)
@given(PAIRS, st.sampled_from([None, "linear", "quadratic"]))
def test_cohen_is_what_scikit_learn_finds(pairs: list[tuple[int, int]], weights: Weights) -> None:
    first, second = zip(*pairs, strict=True)
    found = cohen_kappa(first, second, weights)
    if len({*first, *second}) == 1:
        assert found is None
    else:
        # scikit-learn weighs categories by their place among those that were used, as here.
        assert found == pytest.approx(cohen_kappa_score(first, second, weights=weights), abs=1e-9)


def test_fleiss_published_example() -> None:
    assert fleiss_kappa(spread(FLEISS_EXAMPLE)) == pytest.approx(0.210, abs=5e-4)


@pytest.mark.parametrize(("metric", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_published_example(metric: Metric, published: float) -> None:
    assert krippendorff_alpha(KRIPPENDORFF_2011, metric) == pytest.approx(published, abs=5e-4)


def test_krippendorff_published_binary_example() -> None:
    """The same source, section A: two observers, ten units, two values."""
    units = list(zip([0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0], strict=True))
    assert krippendorff_alpha(units) == pytest.approx(0.095, abs=5e-4)


@settings(max_examples=60)
@given(ITEMS, st.sampled_from(["nominal", "ordinal", "interval"]))
def test_krippendorff_is_one_minus_observed_by_expected_disagreement(
    items: list[list[int | None]], metric: Metric
) -> None:
    """By the definition: mean differences within units and between all values that can be paired."""
    units = [[value for value in item if value is not None] for item in items]
    units = [unit for unit in units if len(unit) > 1]
    values = sorted(value for unit in units for value in unit)
    counts = Counter(values)

    def difference(one: int, other: int) -> float:
        low, high = sorted((one, other))
        if metric == "nominal":
            return float(low != high)
        if metric == "interval":
            return float((high - low) ** 2)
        between = sum(number for value, number in counts.items() if low <= value <= high)
        return 0.0 if low == high else float((between - (counts[low] + counts[high]) / 2) ** 2)

    observed = sum(
        difference(one, other) * 2 / (len(unit) - 1) for unit in units for one, other in combinations(unit, 2)
    )
    expected = sum(difference(one, other) * 2 for one, other in combinations(values, 2))
    found = krippendorff_alpha(items, metric)
    if expected == 0:
        assert found is None
    else:
        assert found == pytest.approx(1 - (len(values) - 1) * observed / expected, abs=1e-9)


@settings(max_examples=40)
@given(ITEMS)
def test_intervals_are_those_of_items_drawn_by_hand(items: list[list[int | None]]) -> None:
    """The sums of a round are the same as the ratings of the drawn items, written out."""
    from shared.statistics.bootstrap import cluster_draws, percentile_interval

    paired = [item for item in items if sum(value is not None for value in item) > 1]
    found = krippendorff_alpha_interval(items, rounds=25)
    estimate = krippendorff_alpha(items)
    assert found.estimate == estimate
    if estimate is None:
        assert found.method in ("nothing", "no_variation")
        return
    drawn = []
    for draws in cluster_draws(len(paired), 25):
        for counts in draws:
            again = krippendorff_alpha(
                [item for item, count in zip(paired, counts, strict=True) for _ in range(int(count))]
            )
            drawn.append(np.nan if again is None else again)
    wanted = percentile_interval(estimate, np.array(drawn), len(paired))
    assert found.method == wanted.method
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@settings(max_examples=40)
@given(ITEMS)
def test_names_of_categories_and_the_order_of_raters_do_not_matter(items: list[list[int | None]]) -> None:
    renamed = [[None if value is None else f"label {9 - value}" for value in reversed(item)] for item in items]
    for coefficient in (fleiss_kappa, krippendorff_alpha):
        one, other = coefficient(items), coefficient(renamed)
        assert (one is None) == (other is None)
        assert one is None or one == pytest.approx(other)


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=20))
def test_perfect_agreement_is_one(labels: list[str]) -> None:
    ratings = [(label, label, label) for label in labels]
    wanted = None if len(set(labels)) == 1 else pytest.approx(1.0)
    assert cohen_kappa(labels, labels) == wanted
    assert fleiss_kappa(ratings) == wanted
    assert krippendorff_alpha(ratings) == wanted


def test_raters_who_answer_by_chance_have_an_interval_around_zero() -> None:
    generator = np.random.default_rng(2)
    ratings = generator.integers(3, size=(400, 3)).tolist()
    for found in (
        cohen_kappa_interval([item[0] for item in ratings], [item[1] for item in ratings]),
        fleiss_kappa_interval(ratings),
        krippendorff_alpha_interval(ratings),
    ):
        assert found.low is not None
        assert found.high is not None
        assert found.low < 0 < found.high
        assert found.high - found.low < 0.25
        assert (found.clusters, found.method) == (400, "bootstrap_clusters")


def test_where_nothing_can_be_said_the_method_says_why() -> None:
    assert cohen_kappa([], []) is None
    assert cohen_kappa_interval([], []).method == "nothing"
    assert fleiss_kappa([]) is None
    assert fleiss_kappa_interval([("a", None), (None, "b")]).method == "nothing"
    assert krippendorff_alpha_interval([("a", None), (None, "b")]).method == "nothing"
    assert krippendorff_alpha([]) is None
    assert krippendorff_alpha_interval([("tie", "tie")] * 5).method == "no_variation"
    assert cohen_kappa_interval(["tie"] * 5, ["tie"] * 5).method == "no_variation"
    assert cohen_kappa_interval(["a"], ["b"]).method == "one_cluster"
    assert fleiss_kappa([("a",), ("b",)]) is None


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="2 and 1 ratings"):
        cohen_kappa(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="have no order"):
        cohen_kappa(["a", 1], ["a", "a"], "linear")
    with pytest.raises(ValueError, match="one place per rater"):
        fleiss_kappa([("a", "b"), ("a",)])
    with pytest.raises(ValueError, match="no numbers"):
        krippendorff_alpha([("a", "b")], "interval")


@pytest.mark.parametrize(
    ("labels", "label"),
    [
        (["a", "a", "b"], "a"),
        (["a", "b"], None),
        (["a", "b", "c"], None),
        (["tie", "tie", "a"], "tie"),
        ([None, "a", None], "a"),
        ([None, None], None),
        ([], None),
    ],
)
def test_the_majority(labels: list[str | None], label: str | None) -> None:
    assert majority(labels) == label


@pytest.mark.skipif(
    not PANDALM_TEST_SET.is_file(),
    reason="set MULTIFACET_REFERENCE_DATA to the folder with agreement/pandalm_testset_v1.json",
)
def test_three_people_agree_on_the_pandalm_test_set_as_published() -> None:
    rows = json.loads(PANDALM_TEST_SET.read_text(encoding="utf-8"))
    labels = [[row[f"annotator{number}"] for row in rows] for number in (1, 2, 3)]
    kappas = [cohen_kappa(labels[one], labels[other]) for one, other in ((0, 1), (0, 2), (1, 2))]
    assert [round(kappa or 0, 3) for kappa in kappas] == [0.852, 0.879, 0.862]
    assert Counter(map(majority, zip(*labels, strict=True))) == {0: 105, 1: 422, 2: 472}
