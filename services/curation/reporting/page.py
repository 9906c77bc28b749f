"""Renders `report.html`: one file that needs no network."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment

from services.curation.reporting.figures_as_text import FILTERS
from shared.charts import Figure
from shared.pages import page_environment, report_style
from shared.pages.one_file import json_block, money, page_scripts, script_hashes, shortened
from shared.pages.trainings import seconds_text

TEXT_LIMIT = 1600
"""Characters of a long text shown in an example."""


def render_report(values: Mapping[str, Any], figures: Mapping[str, Figure], template: str = "report.html.j2") -> str:
    """The page: `report.html.j2` of a collection, or `trainings.html.j2` of trainings alone.

    Every value is escaped by the template; figures travel as JSON data blocks.
    """
    scripts = page_scripts()
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            figures={name: json_block(figure) for name, figure in figures.items()},
            style=report_style(),
            scripts=scripts,
            script_hashes=script_hashes(scripts),
        )
    )


@cache
def _environment() -> Environment:
    environment = page_environment("services.curation.reporting")
    environment.filters.update(
        count=lambda number: f"{number:,}",
        percent=lambda share: f"{share:.1%}",
        decimal=lambda number: f"{number:.2f}",
        money=money,
        words=lambda name: str(name).replace("_", " "),
        shortened=lambda text, limit=TEXT_LIMIT: shortened(text, limit),
        seconds=seconds_text,
        sentence=lambda text: text[:1].upper() + text[1:],
        **FILTERS,
    )
    return environment
