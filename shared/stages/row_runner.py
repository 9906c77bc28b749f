"""Running one shard of a row stage: read the part, process its rows side by side, write and upload the new part."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import structlog

from shared.artifacts import layout
from shared.artifacts.protocol import ArtifactStore
from shared.artifacts.tables import read_rows, write_rows
from shared.domain.benches import BenchRegistration
from shared.domain.errors import InputRefused, StepDeferred, StepFailed
from shared.domain.ledger import Ledger, row_ledger, total
from shared.domain.models import ModelRegistration
from shared.domain.rows import ROW_SCHEMA_VERSION, Facet, InstructionRow, Rejection
from shared.metadata.repositories.steps import NewArtifact
from shared.metadata.tables import Artifact
from shared.queue.lease import Lease
from shared.stages.outputs import upload_outputs
from shared.stages.protocol import OutputObject, RowContext, RowStageHandler
from shared.telemetry.logs import error_place

_log = structlog.get_logger(__name__)

_REPORT_SECONDS = 1.0

ReportProgress = Callable[[Ledger, dict[str, Any]], Awaitable[None]]
"""Shows a ledger and `{done, total}` of the running attempt."""


@cache
def _table_thread() -> ThreadPoolExecutor:
    """The one thread that reads and writes parts. Several would each keep an allocator's arena and gain nothing: the work
    holds the interpreter's lock. Arrow's own pool never gives memory back, which costs 40 MB over the system's allocator."""
    pa.set_memory_pool(pa.system_memory_pool())
    return ThreadPoolExecutor(1, thread_name_prefix="tables")


class StepStopped(Exception):
    """The step ended early because it was asked to; nothing is committed."""


class StepProduct(msgspec.Struct, frozen=True):
    """What a finished attempt commits."""

    ledger: Ledger
    artifacts: list[NewArtifact]
    summary: dict[str, Any] | None = None
    model: ModelRegistration | None = None
    bench: BenchRegistration | None = None


async def run_row_step(
    *,
    lease: Lease,
    handler: RowStageHandler,
    context: RowContext,
    part: Artifact,
    beside: Mapping[str, Artifact],
    store: ArtifactStore,
    folder: Path,
    maximum_rows_at_once: int,
    lineage: dict[str, Any],
    report: ReportProgress,
    flush: Callable[[], Awaitable[None]],
    rows_started: Callable[[], None],
) -> StepProduct:
    """Process the rows of `part` with `handler` and upload the result. `beside`: the parts of further stages that the handler
    reads with it, by stage name.

    `folder` is this attempt's scratch folder; `flush` makes the LLM answers of the step durable; `rows_started` is called
    when no row is left to start. A shard holds at most 500
    rows, so it is kept whole in memory. Raises StepStopped when the lease asked to stop before all rows were done,
    StepDeferred, StepFailed and InputRefused as the handler raised them, ValueError when counts do not add up, and
    ArtifactCorrupt when the input's bytes are not those on record.
    """
    claim = lease.claim
    loop = asyncio.get_running_loop()

    async def rows_of(artifact: Artifact, name: str) -> list[InstructionRow]:
        path = folder / name
        await store.get_file(artifact.key, path, artifact.sha256)
        return await loop.run_in_executor(_table_thread(), read_rows, path)

    rows = await rows_of(part, "input.parquet")
    if beside:
        found = {
            stage: await rows_of(one, f"beside-{number}.parquet") for number, (stage, one) in enumerate(beside.items())
        }
        context = msgspec.structs.replace(
            context, beside={stage: {row.row_id: row for row in of_stage} for stage, of_stage in found.items()}
        )
    ledger = await _process_all(lease, handler, context, rows, maximum_rows_at_once, report, rows_started)
    await flush()
    ledger.check()
    target = folder / layout.part_name(claim.shard)
    written = await loop.run_in_executor(_table_thread(), write_rows, target, rows)
    output = OutputObject(
        name=target.name,
        path=target,
        media_type="application/vnd.apache.parquet",
        rows=written,
        schema_version=ROW_SCHEMA_VERSION,
        kind="table",
    )
    artifacts = await upload_outputs(store, claim, [output], lineage)
    return StepProduct(ledger, artifacts)


async def _process_all(
    lease: Lease,
    handler: RowStageHandler,
    context: RowContext,
    rows: list[InstructionRow],
    maximum_rows_at_once: int,
    report: ReportProgress,
    rows_started: Callable[[], None],
) -> Ledger:
    """Process the rows in place; returns the sum of their ledgers."""
    done: list[Ledger] = []
    waiting = iter(range(len(rows)))
    reported_at = time.monotonic()

    async def process_rows() -> None:
        """One of several that take the next row until none is left or the step shall stop."""
        nonlocal reported_at
        for position in waiting:
            if position == len(rows) - 1:
                rows_started()
            row = await _process_one(handler, context, rows[position])
            rows[position] = row
            done.append(row_ledger(row, context.stage))
            if time.monotonic() - reported_at >= _REPORT_SECONDS:
                reported_at = time.monotonic()
                await report(total(done), {"done": len(done), "total": len(rows)})
            if lease.stop.is_set():
                return

    # An error of one task cancels the others and comes out of the group, alone or with more of its kind.
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(maximum_rows_at_once, len(rows))):
                group.create_task(process_rows())
    except ExceptionGroup as errors:
        gravest = _gravest(errors)
        if lease.stop.is_set() and isinstance(gravest, StepDeferred):
            raise StepStopped from None  # a step that shall stop is refused new calls
        raise gravest from None
    if len(done) < len(rows):
        raise StepStopped
    return total(done)


async def _process_one(handler: RowStageHandler, context: RowContext, row: InstructionRow) -> InstructionRow:
    """One row; a fault of the handler rejects the row's living facets instead of failing the shard."""
    if row.facets and not row.alive and not handler.takes_rejected:
        return row  # all facets were rejected and counted before
    try:
        result = await handler.process(row, context)
        if result.row_id != row.row_id or len(result.facets) < max(1, len(row.facets)):
            raise ValueError("the handler returned another row or dropped facets")
        return result
    except (StepDeferred, StepFailed, InputRefused):
        raise
    except Exception as error:  # noqa: BLE001  a bad row must not take its shard along
        _log.error("row_failed", row_id=row.row_id, stage=context.stage, error=error_place(error))
        rejection = Rejection(context.stage, "internal_error", type(error).__name__)
        if not row.facets:
            # The stage that makes the facets failed: those it should have made are counted as rejected.
            row.facets = [Facet(index) for index in range(context.spec.augment.sets_per_instruction)]
        for facet in row.facets:
            if facet.rejection is None:
                facet.rejection = rejection
        return row


def _gravest(errors: ExceptionGroup[Exception]) -> Exception:
    """Of several rows' errors the one that decides about the step: final ones first, then a wait, then anything else."""
    for kind in (StepFailed, InputRefused, StepDeferred):
        for error in errors.exceptions:
            if isinstance(error, kind):
                return error
    return errors.exceptions[0]
