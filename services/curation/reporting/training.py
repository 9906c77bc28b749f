"""What the report says of a job's trainings: what was trained from what on what, its curves, its rows, its figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from shared.charts import Figure, length_histograms, training_curves
from shared.domain.models import METRICS_FILE
from shared.pages.trainings import base_text, data_text, method_text, metric_rows, recipe_rows
from shared.stages.protocol import InputObject

_FILES = ("training.json", "preflight.json", METRICS_FILE)
_LENGTHS = (("prompt", "prompt"), ("response", "response"), ("whole", "prompt and response"))
"""Distributions of a preflight, and how each is called."""


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
    for stage in sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name)):
        record, drawn = _training(stage, found[stage], simulator=simulator)
        records.append(record)
        figures.update(drawn)
    return records, figures


def _training(
    stage: str, files: Mapping[str, InputObject], *, simulator: bool
) -> tuple[dict[str, Any], dict[str, Figure]]:
    facts = _json(files.get("training.json"))
    curves = training_curves(metrics_rows(files.get(METRICS_FILE)))
    figures = {f"{stage}-{curve.name}": curve.figure for curve in curves}
    preflight = _json(files.get("preflight.json"))
    if preflight and (lengths := _lengths(preflight["data"]["train"])):
        figures[f"{stage}-lengths"] = length_histograms(lengths, "tokens")
    parameters = (facts or {}).get("parameters") or {}
    record = {
        "name": stage,
        "facts": facts,
        "what": None if facts is None else method_text(facts["method"], facts["tuning"]),
        "base": None if facts is None else base_text(facts["base"]),
        "data": data_text(parameters.get("data")),
        "rows": None if preflight is None else _rows(preflight["data"]),
        "notes": [] if preflight is None else [str(note) for note in preflight["notes"]],
        "memory": None if preflight is None else _memory(preflight),
        "curves": [{"name": f"{stage}-{curve.name}", "title": curve.title} for curve in curves],
        "metrics": [] if facts is None else metric_rows(facts["final"], facts["evaluation"]),
        "recipe": recipe_rows(parameters),
        "warnings": _warnings(facts, parameters, simulator=simulator),
    }
    return record, figures


def _rows(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What became of the rows, as lines of a table: a name, and the counts of training and held-out rows."""
    train, test = data["train"], data["test"] or {}

    def line(name: str, key: str) -> dict[str, Any]:
        return {"name": name, "train": train[key], "test": test.get(key)}

    lost = {reason: None for side in (train, test) for reason in side.get("lost", {})}
    packs = data["packing"]
    return [
        line("rows of the data", "rows"),
        line("drawn of them", "drawn"),
        *(
            {
                "name": f"not used: {reason.replace('_', ' ')}",
                "train": train["lost"].get(reason, 0),
                "test": test["lost"].get(reason, 0) if test else None,
            }
            for reason in lost
        ),
        line("used", "kept"),
        line("tokens of them", "tokens"),
        line("tokens with a loss", "loss_tokens"),
        *(
            []
            if packs is None
            else [{"name": "sequences they are packed into", "train": packs["sequences"], "test": None}]
        ),
    ]


def _lengths(counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The preflight's distributions as series of a histogram. Empty buckets in front are left out: the axis is logarithmic."""
    series = []
    for name, words in _LENGTHS:
        figures = counts["lengths"].get(name)
        if figures is None:
            continue
        first = next(place for place, count in enumerate(figures["counts"]) if count)
        edges = [figures["bounds"][first - 1] if first else 1, *figures["bounds"][first:]]
        series.append({"name": words, "edges": edges, "counts": figures["counts"][first:]})
    return series


def _memory(preflight: Mapping[str, Any]) -> str | None:
    """The memory that was estimated, against what there was."""
    estimate, device = preflight["memory"], preflight["device"]
    if estimate is None:
        return None
    needed = sum(size for name, size in estimate.items() if name != "recompute")
    there = device["memory_bytes"] / 1e9
    return (
        f"Estimated before the first step: {needed / 1e9:,.2f} GB of memory for one process, of {there:,.1f} GB "
        f"({device['name'] or device['kind']})."
    )


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
    if facts["random_base"] and facts["base"].get("random"):
        warnings.append(
            f"It started from random weights ({facts['base']['random']}): it shows that training runs, and the model knows no "
            "language beyond what these few rows taught it."
        )
    elif facts["random_base"]:
        warnings.append(
            f"It goes on from {base_text(facts['base'])}, which had random weights before: a trial as well."
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
