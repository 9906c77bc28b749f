"""What the report says of a job's trainings: what was trained from what on what, its curves, its rows, its figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from shared.charts import Figure, training_curves
from shared.pages.trainings import base_text, data_text, method_text, metric_rows, recipe_rows
from shared.stages.protocol import InputObject

_FILES = ("training.json", "metrics.jsonl")


def trainings(
    inputs: Sequence[InputObject], order: Sequence[str], *, simulator: bool
) -> tuple[list[dict[str, Any]], dict[str, Figure]]:
    """One record per training for the template, in the given order of stages, and their figures by name. One that left no
    `training.json` trained nothing, and says so.

    `simulator`: the job's own collection was made by the simulator.
    """
    found: dict[str, dict[str, InputObject]] = {}
    for item in inputs:
        if item.name in _FILES:
            found.setdefault(item.stage, {})[item.name] = item
    records: list[dict[str, Any]] = []
    figures: dict[str, Figure] = {}
    from_random: set[str] = set()
    for stage in sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name)):
        record, drawn = _training(stage, found[stage], simulator=simulator)
        facts = record["facts"] or {}
        earlier = (facts.get("base") or {}).get("stage")
        if facts.get("random_base") or earlier in from_random:
            from_random.add(stage)
        if earlier in from_random:
            record["warnings"].insert(
                0, f"It goes on from {earlier}, which had random weights before: a trial as well."
            )
        records.append(record)
        figures.update(drawn)
    return records, figures


def _training(
    stage: str, files: Mapping[str, InputObject], *, simulator: bool
) -> tuple[dict[str, Any], dict[str, Figure]]:
    facts = _json(files.get("training.json"))
    curves = training_curves(metrics_rows(files.get("metrics.jsonl")))
    figures = {f"{stage}-{curve.name}": curve.figure for curve in curves}
    parameters = (facts or {}).get("parameters") or {}
    record = {
        "name": stage,
        "facts": facts,
        "what": None if facts is None else method_text(facts["method"], facts["tuning"]),
        "base": None if facts is None else base_text(facts["base"]),
        "data": data_text(parameters.get("data")),
        "curves": [{"name": f"{stage}-{curve.name}", "title": curve.title} for curve in curves],
        "metrics": [] if facts is None else metric_rows(facts["final"], facts["evaluation"]),
        "recipe": recipe_rows(parameters),
        "warnings": _warnings(facts, parameters, simulator=simulator),
    }
    return record, figures


def metrics_rows(item: InputObject | None) -> list[dict[str, Any]]:
    """Rows of a `metrics.jsonl`; a last line that a killed process left half written is passed over."""
    rows: list[dict[str, Any]] = []
    if item is None:
        return rows
    for line in item.path.read_bytes().splitlines():
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _warnings(facts: Mapping[str, Any] | None, parameters: Mapping[str, Any], *, simulator: bool) -> list[str]:
    if facts is None:
        return ["Only the checks ran; nothing was trained."]
    warnings = []
    if facts["random_base"]:
        warnings.append(
            f"It started from random weights ({facts['base'].get('random') or 'made on the spot'}): it shows that training runs, "
            "and the model knows no language beyond what these few rows taught it."
        )
    data = parameters.get("data") or {}
    if simulator and not data.get("job") and not data.get("file"):
        warnings.append(
            "It was trained on texts of the simulator, which no language model wrote: it is no model to be used."
        )
    return warnings


def _json(item: InputObject | None) -> dict[str, Any] | None:
    if item is None:
        return None
    content: dict[str, Any] = orjson.loads(item.path.read_bytes())
    return content
