"""Curves hold what the rows say: gaps where nothing is known, resumed steps once, and extremes however long the run was."""

import math
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.charts import series_points, thinned, training_curves

ROWS: list[dict[str, Any]] = [
    {"step": step, "loss": 3.0 - step / 10, "learning_rate": 1e-5, "grad_norm": 1.0, "tokens_per_second": 900.0}
    for step in range(1, 11)
]
PAIRS = [{**row, "rewards/margins": 0.1, "rewards/accuracies": 0.6} for row in ROWS]
EVALUATION = {"step": 10, "eval_loss": 2.5, "eval_rewards/accuracies": 0.7}


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (ROWS, ["loss", "learning_rate", "gradient_norm", "speed"]),
        (PAIRS, ["loss", "accuracy", "margin", "learning_rate", "gradient_norm", "speed"]),
        ([EVALUATION], ["loss", "accuracy"]),
        ([], []),
    ],
)
def test_what_was_logged_is_drawn_and_nothing_else(rows: list[dict[str, Any]], names: list[str]) -> None:
    curves = training_curves(rows)
    assert [curve.name for curve in curves] == names
    for curve in curves:
        go.Figure(curve.figure)


def test_training_and_evaluation_share_a_figure() -> None:
    loss = training_curves([*PAIRS, EVALUATION])[0].figure
    assert [trace["name"] for trace in loss["data"]] == ["training", "evaluation"]
    assert loss["data"][1]["x"] == [10]
    assert loss["layout"]["showlegend"]


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "nan", True])
def test_a_value_that_is_no_number_leaves_a_gap(value: object) -> None:
    loss = training_curves([*ROWS[:4], {"step": 5, "loss": value}, *ROWS[5:]])[0].figure
    assert loss["data"][0]["y"][4] is None
    assert loss["data"][0]["x"] == list(range(1, 11))


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        ([{"step": 5, "loss": 9.0}, {"step": 6, "loss": 8.0}], [(4, 2.6), (5, 9.0), (6, 8.0)]),
        ([{"step": 5, "loss": 9.0}], [(4, 2.6), (5, 9.0)]),
        ([{"step": 1, "loss": 4.0}], [(1, 4.0)]),
        ([{"step": 6, "loss": 7.0}], [(4, 2.6), (5, 2.5), (6, 7.0)]),
    ],
)
def test_steps_that_were_done_again_stand_in_place_of_all_that_came_after_them(
    again: list[dict[str, Any]], expected: list[tuple[int, float]]
) -> None:
    assert series_points([*ROWS[:6], *again], "loss")[-len(expected) :] == expected


def test_an_evaluation_between_two_steps_takes_nothing_back() -> None:
    rows = [*ROWS[:5], {"step": 5, "eval_loss": 2.0}, *ROWS[5:]]
    assert len(series_points(rows, "loss")) == 10
    assert series_points(rows, "eval_loss") == [(5, 2.0)]


points = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=400).map(
    lambda values: list(enumerate(values))
)


@given(points, st.integers(3, 500))
def test_a_thinned_series_is_short_and_keeps_ends_extremes_and_order(
    series: list[tuple[int, float | None]], most: int
) -> None:
    kept = thinned(series, most)
    assert kept == [point for point in series if point in set(kept)]
    assert len(kept) <= most + 5
    assert (kept[0], kept[-1]) == (series[0], series[-1])
    known = [value for _, value in series if value is not None]
    if known:
        values = [value for _, value in kept if value is not None]
        assert (min(values), max(values)) == (min(known), max(known))
    if len(series) <= most:
        assert kept == series
