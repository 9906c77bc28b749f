"""Logged figures are thinned out evenly, and evaluations stay."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.metric_rows import read_metrics, thinned


def rows_of(count: int, evaluated: set[int]) -> list[dict[str, Any]]:
    return [{"step": step, ("eval_loss" if step in evaluated else "loss"): 1.0} for step in range(count)]


@given(st.integers(0, 300), st.integers(1, 100), st.sets(st.integers(0, 299)))
def test_no_more_than_asked_for_in_order_with_the_last_and_all_where_they_fit(
    count: int, points: int, evaluated: set[int]
) -> None:
    rows = rows_of(count, evaluated)
    kept = thinned(rows, points)
    steps = [row["step"] for row in kept]
    assert len(kept) == min(count, points)
    assert steps == sorted(set(steps))
    assert not rows or rows[-1] in kept
    assert points < 2 or not rows or len(evaluated) > 0 or rows[0] in kept


@given(st.integers(50, 300), st.integers(20, 40), st.sets(st.integers(0, 49), max_size=10))
def test_evaluations_that_fill_no_more_than_half_all_stay(count: int, points: int, evaluated: set[int]) -> None:
    kept = thinned(rows_of(count, evaluated), points)
    assert {row["step"] for row in kept if "eval_loss" in row} == evaluated


def test_what_is_kept_is_spread_evenly() -> None:
    steps = [row["step"] for row in thinned(rows_of(1000, set()), 11)]
    assert steps == [0, 100, 200, 300, 400, 500, 599, 699, 799, 899, 999]


def test_rows_are_read_line_by_line_and_nothing_else_is_taken() -> None:
    assert read_metrics(b'{"step": 1}\n\n{"step": 2}\n') == [{"step": 1}, {"step": 2}]
    with pytest.raises(ValueError, match="invalid literal"):
        read_metrics(b"no rows")
