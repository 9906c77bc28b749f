"""Renders an evaluation's `report.html`: one file that needs no network."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import orjson
import yaml
from jinja2 import Environment

from shared.charts import Figure, best_of_lines, dimension_radar, interval_dots, win_matrix
from shared.pages import page_environment, report_style
from shared.pages.one_file import json_block, money, page_scripts, script_hashes, shortened

TEXT_LIMIT = 2400
"""Characters of a long text shown in an example."""
LOWEST, HIGHEST = 1.0, 5.0


def render_evaluation(values: Mapping[str, Any]) -> str:
    """The page. `values`: `evaluation` (the document), `spec`, `facts`, `examples`. Every text is escaped by the template."""
    evaluation = values["evaluation"]
    scripts = page_scripts()
    return (
        _environment()
        .get_template("evaluation.html.j2")
        .render(
            **values,
            figures={name: json_block(figure) for name, figure in charts(evaluation).items()},
            ranked=sorted(evaluation["candidates"], key=_place),
            published=_published() if any("absolute" in one for one in evaluation["candidates"]) else None,
            configuration=orjson.dumps(evaluation["configuration"], option=orjson.OPT_INDENT_2).decode(),
            style=report_style(),
            scripts=scripts,
            script_hashes=script_hashes(scripts),
        )
    )


def _place(candidate: Mapping[str, Any]) -> tuple[float, str]:
    """Best first by what a candidate has: grades, ratings, checks."""
    for part, figure in (("absolute", "overall"), ("conversation", "overall"), ("checks", "passed")):
        estimate = candidate.get(part, {}).get(figure, {}).get("estimate")
        if estimate is not None:
            return -float(estimate), str(candidate["name"])
    return 0.0, str(candidate["name"])


def charts(evaluation: Mapping[str, Any]) -> dict[str, Figure]:
    """Figures by the name that the template asks for; one without data is left out."""
    candidates: Sequence[Mapping[str, Any]] = evaluation["candidates"]
    graded = [one for one in candidates if "absolute" in one and one["absolute"]["items_scored"]]
    found: dict[str, Figure] = {}
    for part in ("dimensions", "sources", "levels"):
        series = [{"name": one["name"], "values": one["absolute"][part]} for one in graded]
        if any(len(line["values"]) > 1 for line in series) or (part == "dimensions" and graded):
            found[part] = interval_dots(series, "score, 1 to 5", scale=(LOWEST - 0.1, HIGHEST + 0.1))
        if part == "dimensions" and any(len(line["values"]) > 2 for line in series):
            found["radar"] = dimension_radar(series, (LOWEST, HIGHEST))
    checked = [{"name": one["name"], "values": one["checks"]["kinds"]} for one in candidates if one["checks"]["kinds"]]
    if checked:
        found["checks"] = interval_dots(checked, "checks passed", scale=(-0.02, 1.02), percent=True)
    rates = _rates(evaluation)
    if rates:
        found["wins"] = win_matrix([one["name"] for one in candidates], rates)
    curves = [
        {"name": one["name"], "values": one["rewards"]["best_of"]}
        for one in candidates
        if one["rewards"] and len(one["rewards"]["best_of"]) > 1
    ]
    if curves:
        found["best_of"] = best_of_lines(curves)
    return found


def _rates(evaluation: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    baseline = evaluation["baseline"]
    found: dict[tuple[str, str], float] = {}
    for one in evaluation["candidates"]:
        rate = (one.get("pairwise") or {}).get("win_rate")
        if rate and rate["estimate"] is not None:
            found[one["name"], baseline] = rate["estimate"]
            found[baseline, one["name"]] = 1 - rate["estimate"]
    return found


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
