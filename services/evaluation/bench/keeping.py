"""The bench step: what has complete rubrics is kept as a bench, in the layout of the Multifaceted Bench beside our own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from shared.artifacts.layout import part_name
from shared.artifacts.tables import TableWriter, batched, iterate_rows, write_rows
from shared.bench_layout.files import write_bench_lines, write_bench_table
from shared.domain.benches import BENCH_FILE, BENCH_ROWS_FILE, BenchRegistration, why_incomplete
from shared.domain.errors import StepFailed
from shared.domain.evaluations import RUBRIC
from shared.domain.ledger import Ledger
from shared.domain.plan import shard_size
from shared.domain.rows import ROW_SCHEMA_VERSION, Facet, InstructionRow, Provenance
from shared.stages.protocol import InputObject, OutputObject, WholeContext, WholeResult

LAYOUT_SCHEMA_VERSION = "multifaceted-bench/1"
PROVENANCE_SCHEMA_VERSION = "bench-provenance/1"
_PARQUET = "application/vnd.apache.parquet"
_TABLE_FILE = "bench.parquet"
_PROVENANCE_FILE = "provenance.parquet"

PROVENANCE_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("row_id", pa.string()),
        pa.field("facet_index", pa.int64()),
        pa.field("teacher", pa.string()),
        pa.field("prompt_version", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("level", pa.string()),
    ],
    metadata={"schema_version": PROVENANCE_SCHEMA_VERSION},
)
"""Of each line of the bench, by its position from 0: whose it is, and who wrote its rubrics."""


def run(context: WholeContext) -> WholeResult:
    """Keep the items whose rubrics are complete. Outputs `bench-rows.parquet`, the same rows in shards (`part-00000.parquet`…,
    which the job's own candidates are asked), `bench.jsonl`, `bench.parquet` and `provenance.parquet`; the latter three have
    one line per item, in the same order.

    The ledger counts facets that the stage `rubric` let through; those left out have a reason of
    `shared.domain.benches.why_incomplete`. Raises StepFailed `empty_bench` where none is left.
    """
    assert context.spec.bench is not None, "the plan has a bench only where the spec has one"
    parts = sorted((item for item in context.inputs if item.stage == RUBRIC), key=lambda item: item.name)
    ledger = Ledger()
    kept = list(_complete(context, parts, ledger))
    if not kept:
        reasons = (
            ", ".join(f"{reason}: {count}" for reason, count in sorted(ledger.reasons.items())) or "there were none"
        )
        raise StepFailed(
            "empty_bench",
            f"no item is left for the bench ({reasons}); look at what the stage {RUBRIC} rejected, or make the bench of other "
            "questions",
        )
    ledger.check()
    folder = context.output_folder
    write_rows(folder / BENCH_ROWS_FILE, kept)
    items = write_bench_lines(folder / BENCH_FILE, kept)
    write_bench_table(folder / _TABLE_FILE, kept)
    _write_provenance(folder / _PROVENANCE_FILE, kept)
    outputs = (
        *_parts(folder, kept),
        OutputObject(BENCH_ROWS_FILE, folder / BENCH_ROWS_FILE, _PARQUET, len(kept), ROW_SCHEMA_VERSION, kind="table"),
        OutputObject(BENCH_FILE, folder / BENCH_FILE, "application/jsonl", items, LAYOUT_SCHEMA_VERSION),
        OutputObject(_TABLE_FILE, folder / _TABLE_FILE, _PARQUET, items, LAYOUT_SCHEMA_VERSION, kind="table"),
        OutputObject(
            _PROVENANCE_FILE, folder / _PROVENANCE_FILE, _PARQUET, items, PROVENANCE_SCHEMA_VERSION, kind="table"
        ),
    )
    teacher = context.spec.teacher
    registration = BenchRegistration(
        name=context.spec.bench.name,
        rows=len(kept),
        items=items,
        teacher=None if teacher is None else f"{teacher.provider}/{teacher.model}",
    )
    summary = {"rows": len(kept), "items": items, "left_out": dict(sorted(ledger.reasons.items()))}
    return WholeResult(outputs=outputs, ledger=ledger, summary=summary, bench=registration)


def _parts(folder: Path, rows: Sequence[InstructionRow]) -> Iterator[OutputObject]:
    for number, members in enumerate(batched(rows, shard_size(len(rows)))):
        path = folder / part_name(number)
        written = write_rows(path, members)
        yield OutputObject(path.name, path, _PARQUET, written, ROW_SCHEMA_VERSION, kind="table")


def _complete(context: WholeContext, parts: Sequence[InputObject], ledger: Ledger) -> Iterator[InstructionRow]:
    """Rows with the facets that are kept; the ledger counts all that came in alive."""
    for number, part in enumerate(parts):
        for row in iterate_rows(part.path):
            alive = [facet for facet in row.facets if facet.alive]
            if not alive:
                continue
            row.facets = [facet for facet in alive if _is_complete(facet, ledger)]
            ledger.rows_in += 1
            if row.facets:
                ledger.rows_out += 1
                yield row
            else:
                ledger.rows_rejected += 1
        context.progress(number + 1, len(parts), "looking for complete rubrics")


def _is_complete(facet: Facet, ledger: Ledger) -> bool:
    ledger.facets_in += 1
    fault = why_incomplete(facet)
    if fault is None:
        ledger.facets_out += 1
        return True
    ledger.facets_rejected += 1
    ledger.reasons[fault.reason] = ledger.reasons.get(fault.reason, 0) + 1
    return False


def _write_provenance(path: Path, rows: Sequence[InstructionRow]) -> None:
    with TableWriter(path, PROVENANCE_SCHEMA) as table:
        for row in rows:
            for facet in row.facets:
                written = _written_by(facet)
                table.write(
                    {
                        "row": table.rows,
                        "row_id": row.row_id,
                        "facet_index": facet.index,
                        "teacher": None if written is None else f"{written.provider}/{written.model}",
                        "prompt_version": None if written is None else written.prompt_version,
                        "seed": None if written is None else written.seed,
                        "level": row.level,
                    }
                )


def _written_by(facet: Facet) -> Provenance | None:
    """Who wrote the rubrics; None where they came with the question."""
    return next((one for one in reversed(facet.provenance) if one.stage == RUBRIC), None)
