"""Renders `report.html`: one file that needs no network. A content security policy in it forbids any load, and lets run
only the two scripts whose hashes it names, so that no text of the data can become a script."""

import base64
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

import orjson
from jinja2 import Environment
from markupsafe import Markup

from services.curation.reporting.facts import money
from services.curation.reporting.figures_as_text import FILTERS
from shared.charts import Figure
from shared.pages import page_environment, report_style
from shared.pages.trainings import seconds_text

TEXT_LIMIT = 1600
"""Characters of a long text shown in an example."""


def render_report(values: Mapping[str, Any], figures: Mapping[str, Figure], template: str = "report.html.j2") -> str:
    """The page: `report.html.j2` of a collection, or `trainings.html.j2` of trainings alone.

    Every value is escaped by the template; figures travel as JSON data blocks.
    """
    scripts = {"plotly": plotly_script(), "draw": _inline_script(_package_text("report.js"))}
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            figures={name: json_block(figure) for name, figure in figures.items()},
            style=report_style(),
            scripts=scripts,
            script_hashes=[_script_hash(text) for text in scripts.values()],
        )
    )


def json_block(value: object) -> Markup:
    """JSON that is safe inside a `<script type="application/json">` element: nothing in it can end the element."""
    text = orjson.dumps(value).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - no markup character is left


@cache
def plotly_script() -> Markup:
    """plotly.js as the plotly package carries it."""
    path = files("plotly").joinpath("package_data/plotly.min.js")
    return _inline_script(path.read_text(encoding="utf-8"))


def shortened(text: str, limit: int = TEXT_LIMIT) -> str:
    return text if len(text) <= limit else f"{text[:limit].rstrip()} … (cut here; {len(text):,} characters in all)"


@cache
def _environment() -> Environment:
    environment = page_environment("services.curation.reporting")
    environment.filters.update(
        count=lambda number: f"{number:,}",
        percent=lambda share: f"{share:.1%}",
        decimal=lambda number: f"{number:.2f}",
        money=money,
        words=lambda name: str(name).replace("_", " "),
        shortened=shortened,
        seconds=seconds_text,
        sentence=lambda text: text[:1].upper() + text[1:],
        **FILTERS,
    )
    return environment


def _package_text(name: str) -> str:
    return files("services.curation.reporting").joinpath("templates", name).read_text(encoding="utf-8")


def _inline_script(text: str) -> Markup:
    """A script as element content. `</script` would end the element; in a string literal `<\\/script` is the same."""
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))  # noqa: S704 - package data


def _script_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(sha256(str(text).encode()).digest()).decode()
