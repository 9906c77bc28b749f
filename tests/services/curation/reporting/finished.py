"""A job that went up to its report, with rejections at every stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from services.curation.assembly.assemble import run as assemble
from shared.artifacts.tables import REJECTED_ROW_SCHEMA, write_records
from shared.domain.jobs import JobSpec
from shared.domain.ledger import Ledger, row_ledger, total
from shared.domain.rows import InstructionRow
from shared.stages.protocol import InputObject, WholeContext
from tests.services.curation.assembly.synthetic import make_context, make_spec, respond_parts

REJECTED = [
    ("exact_duplicate", "the same as row 3", "What is a river?"),
    ("near_duplicate", "Jaccard 0.91 with row 17", "What is a river, then?"),
    ("near_duplicate", "Jaccard 0.84 with row 20", "Tell me what a river is."),
    ("persona", "states who the assistant should be", "You are a pirate. What is a river?"),
    ("contaminated", "shares 13 words with bench.jsonl", "A question from a benchmark"),
]
DECONTAMINATION = {
    "ngram_words": 13,
    "removed_by": {"runs": 1, "whole": 0, "contained": 0},
    "benchmarks": [
        {"benchmark": "file_bench", "texts": 805, "long_texts": 600, "short_texts": 200, "left_out": 5, "grams": 40211}
    ],
    "removed": [
        {"main_source": "prompts", "source_row": 4, "benchmark": "file_bench", "benchmark_row": 17, "grams": 3},
    ],
}


def facts(simulator: bool = True) -> dict[str, Any]:
    usage = [
        {
            "stage": stage,
            "calls": calls,
            "cached_calls": calls // 10,
            "prompt_tokens": calls * 700,
            "completion_tokens": calls * 300,
            "cost_micro_usd": calls * 1600,
            "retries": 3,
            "rate_limited": 1,
        }
        for stage, calls in (("augment", 120), ("compose", 355), ("respond", 350))
    ]
    return {
        "job_id": "job_01jtest",
        "created_at": "2026-11-24T01:00:00Z",
        "started_at": "2026-11-24T01:00:01Z",
        "teacher_is_simulator": simulator,
        "provider": "simulator" if simulator else "openai",
        "model": "simulator-large" if simulator else "some-model",
        "cost_micro_usd": sum(entry["cost_micro_usd"] for entry in usage),
        "unpriced_calls": 0,
        "usage": usage,
        "code_version": "0.1.0",
    }


def report_context(
    folder: Path,
    rows: Sequence[InstructionRow],
    *,
    spec: JobSpec | None = None,
    rejected: Sequence[tuple[str, str, str]] = REJECTED,
    given_facts: dict[str, Any] | None = None,
) -> WholeContext:
    """Assemble `rows`, and give what a report gets: the objects of curate and assemble, ledgers and facts."""
    spec = spec or make_spec()
    made = assemble(make_context(folder, respond_parts(folder / "respond", rows), spec=spec))
    curated = folder / "curate"
    curated.mkdir()
    count = write_records(
        curated / "rejected.parquet",
        (
            {"main_source": "prompts", "source_row": row, "reason": reason, "detail": detail, "text": text}
            for row, (reason, detail, text) in enumerate(rejected)
        ),
        REJECTED_ROW_SCHEMA,
    )
    (curated / "decontamination.json").write_bytes(orjson.dumps(DECONTAMINATION))
    inputs = [
        InputObject("curate", "rejected.parquet", curated / "rejected.parquet", count, {}),
        InputObject("curate", "decontamination.json", curated / "decontamination.json", None, {}),
        *(InputObject("assemble", item.name, item.path, item.rows, item.metadata) for item in made.outputs),
    ]
    reasons: dict[str, int] = {}
    for reason, _, _ in rejected:
        reasons[reason] = reasons.get(reason, 0) + 1
    respond = total(row_ledger(row, "respond") for row in rows)
    facets = respond.facets_in
    ledgers = {
        "curate": Ledger(len(rows) + count, len(rows), count, reasons=reasons),
        "augment": Ledger(len(rows), len(rows), 0, facets + 7, facets + 2, 5, {"sets_too_similar": 3, "unfit": 2}),
        "compose": Ledger(len(rows), len(rows), 0, facets + 2, facets, 2, {"answer_leaked": 2}),
        "respond": respond,
        "assemble": made.ledger,
    }
    return make_context(
        folder,
        inputs,
        stage="report",
        spec=spec,
        stage_ledgers=ledgers,
        facts=facts() if given_facts is None else given_facts,
    )
