"""Builders of Plotly figures, for the report and for the web pages.

Each takes plain records and returns a figure as plain dicts and lists (`{"data": …, "layout": …}`), ready for JSON and
`Plotly.newPlot`: the plotly package itself is not imported, and every text is escaped for Plotly's own small markup.
Draw a figure in an element whose height is set to `layout.height`: on a resize Plotly takes the height of the element.
"""

from shared.charts.bars import coverage_bars, flow_bars, ranked_bars
from shared.charts.distributions import length_histograms, similarity_distributions
from shared.charts.evaluation import best_of_lines, dimension_radar, interval_dots, win_matrix
from shared.charts.hierarchy import preference_sunburst
from shared.charts.theme import Figure, label_text
from shared.charts.training import TrainingCurve, series_points, thinned, training_curves

__all__ = [
    "Figure",
    "TrainingCurve",
    "best_of_lines",
    "coverage_bars",
    "dimension_radar",
    "flow_bars",
    "interval_dots",
    "label_text",
    "length_histograms",
    "preference_sunburst",
    "ranked_bars",
    "series_points",
    "similarity_distributions",
    "thinned",
    "training_curves",
    "win_matrix",
]
