"""Renders an evaluation's `report.html`: one file that needs no network."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import orjson
import yaml
from jinja2 import Environment

from shared.pages import page_environment, report_style
from shared.pages.evaluations import evaluation_charts, place
from shared.pages.one_file import json_block, money, page_scripts, script_hashes, shortened

TEXT_LIMIT = 2400
"""Characters of a long text shown in an example."""


def render_evaluation(values: Mapping[str, Any]) -> str:
    """The page. `values`: `evaluation` (the document), `spec`, `facts`, `examples`. Every text is escaped by the template."""
    evaluation = values["evaluation"]
    scripts = page_scripts()
    return (
        _environment()
        .get_template("evaluation.html.j2")
        .render(
            **values,
            figures={name: json_block(figure) for name, figure in evaluation_charts(evaluation).items()},
            ranked=sorted(evaluation["candidates"], key=place),
            published=_published() if any("absolute" in one for one in evaluation["candidates"]) else None,
            configuration=orjson.dumps(evaluation["configuration"], option=orjson.OPT_INDENT_2).decode(),
            style=report_style(),
            scripts=scripts,
            script_hashes=script_hashes(scripts),
        )
    )


@cache
def _published() -> dict[str, Any]:
    text = files("services.evaluation.reporting").joinpath("published.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@cache
def _environment() -> Environment:
    environment = page_environment("services.evaluation.reporting")
    environment.filters.update(
        count=lambda number: f"{number:,}",
        money=money,
        words=lambda name: str(name).replace("_", " "),
        shortened=lambda text, limit=TEXT_LIMIT: shortened(text, limit),
        sentence=lambda text: text[:1].upper() + text[1:],
    )
    return environment
