"""Figures are valid Plotly, add up, and show hostile names as text."""

from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.charts import (
    Figure,
    coverage_bars,
    flow_bars,
    label_text,
    length_histograms,
    preference_sunburst,
    ranked_bars,
    similarity_distributions,
)

HOSTILE = '<a href="https://example.org">tone</a><script>x</script>'
SERIES = [{"name": HOSTILE, "edges": [0.0, 0.5, 1.0], "counts": [3, 1]}, {"name": "b", "edges": [], "counts": []}]
PREFERENCES = [
    {"dimension": "style", "subdimension": f"s{number % 4}", "preference": f"{HOSTILE}{number}", "count": number + 1}
    for number in range(30)
]
FIGURES: dict[str, Figure] = {
    "sunburst": preference_sunburst(PREFERENCES, top_subdimensions=2, top_preferences=3),
    "empty sunburst": preference_sunburst([]),
    "coverage": coverage_bars(
        {"dimension": HOSTILE, "subdimension": sub, "pole": pole, "count": count}
        for sub, pole, count in [("a", "x", 3), ("a", "y", 1), ("b", "x", 0), ("b", "y", 0), ("b", "z", 0)]
    ),
    "flow": flow_bars(
        [{"stage": HOSTILE, "out": 5, "rejected": 0}, {"stage": "respond", "out": 3, "rejected": 2}], "facets"
    ),
    "ranked": ranked_bars([{"name": f"{HOSTILE}{n}", "count": n} for n in range(40)], "messages", top=5),
    "lengths": length_histograms(SERIES),
    "similarity": similarity_distributions(SERIES),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_valid_plotly_and_neutralises_markup(name: str) -> None:
    text = go.Figure(FIGURES[name]).to_json()
    assert "<a" not in text
    assert "<script" not in text
    assert "\\u003ca" not in text


records = st.lists(
    st.fixed_dictionaries(
        {
            "dimension": st.sampled_from("AB"),
            "subdimension": st.sampled_from("uvwxyz"),
            "preference": st.none() | st.text(max_size=4),
            "count": st.integers(1, 50),
            "distinct": st.integers(1, 9),
        }
    ),
    max_size=60,
)


@given(records, st.integers(0, 4), st.integers(0, 4))
def test_rings_of_the_sunburst_add_up_to_their_parents(found: list[dict[str, Any]], top: int, leaves: int) -> None:
    trace = preference_sunburst(found, top_subdimensions=top, top_preferences=leaves)["data"][0]
    children: dict[str, int] = {}
    for parent, value in zip(trace["parents"], trace["values"], strict=True):
        children[parent] = children.get(parent, 0) + value
    values = dict(zip(trace["ids"], trace["values"], strict=True))
    assert children.pop("", 0) == sum(record["count"] for record in found)
    assert all(values[parent] == value for parent, value in children.items())
    assert len(values) == len(trace["ids"])


def test_the_rest_is_named_with_its_number() -> None:
    labels = FIGURES["sunburst"]["data"][0]["labels"]
    assert "other (2 subdimensions)" in labels
    assert FIGURES["ranked"]["data"][0]["y"][-1] == "other (35)"


@given(st.text())
def test_labels_are_short_lines_without_markup(text: str) -> None:
    label = label_text(text, 20)
    assert "<" not in label
    assert "\n" not in label
    assert len(label) <= 20 * len("&amp;")
