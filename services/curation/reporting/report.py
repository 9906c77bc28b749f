"""The whole step `report`: figures, page, data card and sample of a finished collection, the job's trainings and answers."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from services.curation.reporting.answers import answers
from services.curation.reporting.card import render_card
from services.curation.reporting.evaluation import evaluation
from services.curation.reporting.facts import job_facts
from services.curation.reporting.flow import flow_of, unit_bars
from services.curation.reporting.inputs import (
    collection_records,
    decontamination,
    find,
    pair_reasons,
    rejected_rows,
    splits,
)
from services.curation.reporting.judging import judge_notes
from services.curation.reporting.page import render_report
from services.curation.reporting.training import trainings
from services.curation.reporting.truth import truth_faults, truth_figures
from shared.charts import (
    Figure,
    coverage_bars,
    flow_bars,
    length_histograms,
    preference_sunburst,
    ranked_bars,
    similarity_distributions,
)
from shared.domain.errors import StepFailed
from shared.domain.ledger import Ledger
from shared.stages.protocol import InputObject, OutputObject, WholeContext, WholeResult
from shared.statistics import STATISTICS_SCHEMA_VERSION, CollectionStatistics, collection_columns

SAMPLE_ROWS = 20
EXAMPLE_INSTRUCTIONS = 4
HIERARCHY_SHOWN = 15
"""Preferences listed per subdimension beside the sunburst."""

PROGRESS_EVERY = 2000
_KINDS = {
    "report.html": ("text/html; charset=utf-8", "report", None),
    "README.md": ("text/markdown; charset=utf-8", "card", None),
    "sample.jsonl": ("application/jsonl", "file", None),
    "statistics.json": ("application/json", "file", STATISTICS_SCHEMA_VERSION),
}
"""Media type, kind and schema version of each output."""

_TABLES = ("collection", "sft", "dpo", "orpo", "rm")


def run(context: WholeContext) -> WholeResult:
    """Make the report.

    Inputs: outputs of curate (`rejected.parquet`, `decontamination.json`, both optional), of assemble
    (`collection/{train,test}.parquet`), of each training (`training.json`, `preflight.json`, `metrics.jsonl`), and the parts of
    each answer stage. Outputs in the job's folder: `report.html`, `README.md`, `sample.jsonl`, `statistics.json`. A job without a
    collection gets `report.html` alone: it has no data for a card to describe, and each of its models carries a card of its own.
    The ledger is empty: nothing is let through or rejected here.

    Raises StepFailed `nothing_to_report` where the inputs hold neither a collection nor a training nor answers.
    """
    facts = job_facts(context.facts, context.spec, context.job_id)
    answered = answers(context.inputs, context.spec, context.stage_ledgers, context.facts)
    trained, curves = trainings(context.inputs, list(context.stage_ledgers), simulator=facts["simulator"])
    if find(context.inputs, "collection/train.parquet") is not None:
        return _collection_report(context, facts, trained, curves, answered)
    if not trained and not answered:
        raise StepFailed(
            "nothing_to_report",
            "neither collection/train.parquet nor a training's training.json nor answers among the inputs: did assemble finish?",
        )
    values = {
        "spec": context.spec.model_dump(mode="json"),
        "facts": facts,
        "trainings": trained,
        "answers": answered,
        "evaluation": evaluation(context.inputs),
    }
    page = render_report(values, curves, "trainings.html.j2")
    return WholeResult(
        outputs=(_output(context, "report.html", page.encode()),),
        ledger=Ledger(),
        summary={"trainings": len(trained), "answers": len(answered)},
    )


def _collection_report(
    context: WholeContext,
    facts: dict[str, Any],
    trained: list[dict[str, Any]],
    curves: dict[str, Figure],
    answered: list[dict[str, Any]],
) -> WholeResult:
    held_out = splits(context.inputs)
    statistics = _statistics(context, held_out)
    examples = _examples(context.inputs)
    statistics["harmful_intent"]["pairs_left_out"] = pair_reasons(context.inputs).get("harmful_intent", 0)
    flow = flow_of(context.stage_ledgers)
    tables = _table_rows(context.inputs)
    context.progress(statistics["facets"], None, "rendering")
    values: dict[str, Any] = {
        "spec": context.spec.model_dump(mode="json"),
        "facts": facts,
        "statistics": statistics,
        "flow": flow,
        "faults": [fault for stage in flow for fault in stage["faults"]],
        "tables": tables,
        "rejected": rejected_rows(context.inputs),
        "decontamination": decontamination(context.inputs),
        "splits": held_out,
        "truth_faults": truth_faults(statistics["truth"]),
        "balance": _balance(statistics["coverage"]),
        "hierarchy": _hierarchy(statistics["hierarchy"]),
        "examples": examples,
        "sources": statistics["sources"],
        "judge": judge_notes(statistics["judge_record"]) if context.spec.judge is not None else None,
        "trainings": trained,
        "answers": answered,
        "evaluation": evaluation(context.inputs),
    }
    texts = {
        "report.html": render_report(values, {**_figures(statistics, flow), **curves}).encode(),
        "README.md": render_card(values).encode(),
        "sample.jsonl": _json_lines(_sample(context.inputs)),
        "statistics.json": orjson.dumps(statistics, option=orjson.OPT_INDENT_2),
    }
    summary = {
        "instructions": statistics["instructions"],
        "facets": statistics["facets"],
        "teacher": "simulator" if facts["simulator"] else f"{facts['provider']}/{facts['model']}",
        "coverage_entropy": round(statistics["coverage_entropy"], 4),
        "harmful_intent": statistics["harmful_intent"],
        "judge": statistics["judge_record"]["verdict"] if context.spec.judge is not None else None,
        "truth_faults": len(values["truth_faults"]),
        "counts_add_up": not values["faults"],
        "trainings": len(trained),
        "answers": len(answered),
    }
    outputs = tuple(_output(context, name, text) for name, text in texts.items())
    return WholeResult(outputs=outputs, ledger=Ledger(), summary=summary)


def _output(context: WholeContext, name: str, text: bytes) -> OutputObject:
    path = context.output_folder / name
    path.write_bytes(text)
    media_type, kind, schema_version = _KINDS[name]
    rows = len(text.splitlines()) if name == "sample.jsonl" else None
    return OutputObject(name, path, media_type, rows, schema_version, kind, job_level=True)


def _statistics(context: WholeContext, held_out: dict[str, Any] | None) -> dict[str, Any]:
    counted = CollectionStatistics(context.taxonomy)
    for done, record in enumerate(collection_records(context.inputs, collection_columns()), start=1):
        counted.add(record)
        if done % PROGRESS_EVERY == 0:
            context.progress(done, None, "facets counted")
    figures = counted.finish()
    context.progress(figures["facets"], None, "verdicts and shortcuts")
    subdimensions = held_out["held_out"]["subdimensions"] if held_out else []
    return {**figures, "truth": truth_figures(context.inputs, context.taxonomy, subdimensions)}


def _figures(statistics: dict[str, Any], flow: list[dict[str, Any]]) -> dict[str, Figure]:
    """Figures by the name that the template asks for; one without data is left out."""
    lengths = [
        {"name": name, **distribution} for name, distribution in statistics["lengths"].items() if distribution["count"]
    ]
    similarity = statistics["rouge_l"]
    figures = {
        "sunburst": preference_sunburst(statistics["hierarchy"]),
        "coverage": coverage_bars(record for record in statistics["coverage"] if record["in_taxonomy"]),
        "lengths": length_histograms(lengths),
        "forms": ranked_bars(statistics["system_forms"], "system messages"),
    }
    for unit, name in (("rows", "instructions"), ("facets", "facets")):
        if bars := unit_bars(flow, unit):
            figures[f"flow_{unit}"] = flow_bars(bars, name)
    if similarity["responses"]["count"]:
        figures["responses"] = similarity_distributions([similarity["responses"]])
    if similarity["descriptions"]:
        figures["descriptions"] = similarity_distributions(similarity["descriptions"])
    return figures


def _table_rows(inputs: Sequence[InputObject]) -> dict[str, dict[str, int]]:
    """Rows of each table by split, as assemble stated them."""
    rows: dict[str, dict[str, int]] = {name: {} for name in _TABLES}
    for item in inputs:
        folder, _, file = item.name.rpartition("/")
        name = folder.removeprefix("exports/")
        if name in rows and file in {"train.parquet", "test.parquet"}:
            rows[name][file.removesuffix(".parquet")] = item.rows or 0
    return {name: counts for name, counts in rows.items() if counts}


def _examples(inputs: Sequence[InputObject]) -> list[list[dict[str, Any]]]:
    """The first instructions that have most facets in one split, each as its facets."""
    found: list[list[dict[str, Any]]] = []
    current: list[dict[str, Any]] = []
    for seen, record in enumerate(collection_records(inputs)):
        if current and current[0]["row_id"] == record["row_id"]:
            current.append(record)
        else:
            found.append(current)
            current = [record]
        if seen >= 50 * EXAMPLE_INSTRUCTIONS:
            break
    found = sorted(filter(None, [*found, current]), key=len, reverse=True)
    return found[:EXAMPLE_INSTRUCTIONS]


def _sample(inputs: Sequence[InputObject]) -> Iterable[dict[str, Any]]:
    for number, record in enumerate(collection_records(inputs)):
        if number == SAMPLE_ROWS:
            return
        yield record


def _json_lines(records: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)


def _balance(coverage: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Coverage by subdimension: `poles` with their shares, `total`, and the gap to equal shares (0 is balanced)."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in coverage:
        groups.setdefault((record["dimension"], record["subdimension"]), []).append(record)
    return [
        {
            "dimension": dimension,
            "subdimension": subdimension,
            "poles": poles,
            "total": (total := sum(pole["count"] for pole in poles)),
            "gap": max(abs(pole["share"] - 1 / len(poles)) for pole in poles) if total else None,
        }
        for (dimension, subdimension), poles in groups.items()
    ]


def _hierarchy(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sunburst as a tree for reading: dimensions, subdimensions, and the most frequent preferences."""
    tree: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for record in records:
        tree.setdefault(record["dimension"], {}).setdefault(record["subdimension"], []).append(record)
    result = []
    for dimension, subdimensions in tree.items():
        branches = []
        for name, found in subdimensions.items():
            named = [record for record in found if record["preference"] is not None]
            branches.append(
                {
                    "name": name,
                    "count": sum(record["count"] for record in found),
                    "distinct": sum(record["distinct"] for record in found),
                    "preferences": named[:HIERARCHY_SHOWN],
                }
            )
        branches.sort(key=lambda branch: (-branch["count"], branch["name"]))
        result.append({"name": dimension, "count": sum(branch["count"] for branch in branches), "branches": branches})
    return result
