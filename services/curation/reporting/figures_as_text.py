"""Figures with their intervals as report and card show them."""

from collections.abc import Mapping
from typing import Any


def share_text(interval: Mapping[str, Any]) -> str:
    """`84.0% (80.2% to 87.1%)`, a dash where nothing is known; an `Interval` as plain data."""
    return _text(interval, ".1%")


def figure_text(interval: Mapping[str, Any]) -> str:
    """`0.84 (0.80 to 0.87)`, likewise."""
    return _text(interval, ".2f")


def whole_text(interval: Mapping[str, Any]) -> str:
    """`133 (128 to 139)`, likewise."""
    return _text(interval, ",.0f")


def _text(interval: Mapping[str, Any], shown: str) -> str:
    estimate, low, high = interval["estimate"], interval["low"], interval["high"]
    if estimate is None:
        return "–"
    if low is None or high is None:
        return f"{estimate:{shown}}"
    return f"{estimate:{shown}} ({low:{shown}} to {high:{shown}})"


FILTERS = {"share_of": share_text, "figure_of": figure_text, "whole_of": whole_text}
