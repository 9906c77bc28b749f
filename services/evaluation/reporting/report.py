"""The whole step `evaluate`: figures, tables and page of what the judges, people's checks and local models found."""

from typing import Any

import orjson

from services.evaluation.figures.evaluation import Evaluation
from services.evaluation.reporting.examples import examples
from services.evaluation.reporting.page import render_evaluation
from services.evaluation.reporting.tables import comparisons_table, items_table, scores_table
from shared.domain.errors import StepFailed
from shared.domain.evaluation_figures import EVALUATION_FILE, EVALUATION_SCHEMA_VERSION, ITEMS_FILE, checked_document
from shared.domain.ledger import Ledger
from shared.stages.protocol import OutputObject, WholeContext, WholeResult

_MEDIA_TYPES = {
    EVALUATION_FILE: "application/json",
    "report.html": "text/html; charset=utf-8",
    ITEMS_FILE: "text/csv; charset=utf-8",
    "scores.csv": "text/csv; charset=utf-8",
    "comparisons.csv": "text/csv; charset=utf-8",
}


def run(context: WholeContext) -> WholeResult:
    """Report the evaluation of the job's candidates.

    Inputs: the parts of each answer stage, and of the stages that judged, compared and measured its answers. Outputs in the
    stage's folder: `evaluation.json`, `items.csv`, `report.html`, and where something was judged `scores.csv` and
    `comparisons.csv`. The same inputs give the same bytes. The ledger is empty: nothing is let through or rejected here.

    Raises StepFailed `nothing_to_evaluate` where no candidate was asked anything.
    """
    spec = context.spec
    context.progress(0, None, "reading answers and verdicts")
    evaluation = Evaluation(spec, context.inputs, {"job_id": context.job_id, **context.facts})
    if not evaluation.items:
        raise StepFailed("nothing_to_evaluate", "no candidate was asked anything: did the answer stages finish?")
    document = evaluation.document
    checked_document(document)
    evaluate = spec.evaluate
    context.progress(len(evaluation.items), None, "rendering")
    shown = examples(evaluation, context.inputs, spec, evaluate.examples if evaluate is not None else 0)
    texts: dict[str, bytes] = {
        EVALUATION_FILE: orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS),
        ITEMS_FILE: items_table(evaluation),
        "report.html": render_evaluation(
            {"evaluation": document, "spec": spec.model_dump(mode="json"), "facts": _facts(context), "examples": shown}
        ).encode(),
    }
    if evaluate is not None and (evaluate.absolute is not None or evaluate.conversation is not None):
        texts["scores.csv"] = scores_table(evaluation, context.inputs)
    if evaluation.battles:
        texts["comparisons.csv"] = comparisons_table(evaluation, context.inputs, document["baseline"])
    summary = {
        "items": document["items"],
        "incomplete": document["completeness"]["incomplete"],
        "reasons": document["completeness"]["reasons"],
        "flags": document["flags"],
        "candidates": [_headline(one) for one in document["candidates"]],
    }
    outputs = tuple(_output(context, name, text) for name, text in texts.items())
    return WholeResult(outputs=outputs, ledger=Ledger(), summary=summary)


def _headline(candidate: dict[str, Any]) -> dict[str, Any]:
    """The figures of one candidate that lists and pages show first."""
    told: dict[str, Any] = {"name": candidate["name"], "words": candidate["words"]["mean"]["estimate"]}
    if "absolute" in candidate:
        told["score"] = candidate["absolute"]["overall"]["estimate"]
    if "conversation" in candidate:
        told["rating"] = candidate["conversation"]["overall"]["estimate"]
    if candidate.get("pairwise") and candidate["pairwise"]["win_rate"]:
        told["win_rate"] = candidate["pairwise"]["win_rate"]["estimate"]
    if candidate["checks"]["passed"]["estimate"] is not None:
        told["checks"] = candidate["checks"]["passed"]["estimate"]
    return told


def _facts(context: WholeContext) -> dict[str, Any]:
    """Money and calls of the stages that the page prints, with defaults for what is not known."""
    usage = [dict(entry) for entry in context.facts.get("usage") or ()]
    costs = [entry.get("cost_micro_usd") for entry in usage]
    return {
        "job_id": context.job_id,
        "created_at": context.facts.get("created_at"),
        "code_version": context.facts.get("code_version"),
        "usage": usage,
        "cost_micro_usd": context.facts.get("cost_micro_usd", sum(cost for cost in costs if cost is not None)),
    }


def _output(context: WholeContext, name: str, text: bytes) -> OutputObject:
    path = context.output_folder / name
    path.write_bytes(text)
    rows = text.count(b"\n") - 1 if name.endswith(".csv") else None
    version = EVALUATION_SCHEMA_VERSION if name == EVALUATION_FILE else None
    kind = "report" if name == "report.html" else "file"
    return OutputObject(name, path, _MEDIA_TYPES[name], rows, version, kind)
