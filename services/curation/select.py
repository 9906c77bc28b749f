"""The select step: what the candidates of a job are asked, in shards as curation writes them.

Rows come from a collection (of this job or another), a bench, an upload, or a robustness suite that the project carries. A facet
is asked its instruction under its system message; what cannot be asked, or is not wanted, is left out and counted with a reason.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from services.curation.bench_questions import bench_contents, without_dropped
from services.curation.sources import HubDataSet, hub_records
from shared.artifacts.layout import part_name
from shared.artifacts.tables import (
    REJECTED_ROW_SCHEMA,
    TableWriter,
    batched,
    iterate_records,
    iterate_rows,
    write_rows,
)
from shared.domain.answers import QuestionParameters
from shared.domain.errors import InputRefused, StepFailed
from shared.domain.evaluations import RobustnessSuite
from shared.domain.identifiers import row_id_of, seed_of
from shared.domain.ledger import Ledger
from shared.domain.plan import shard_size
from shared.domain.rows import ROW_SCHEMA_VERSION, Facet, InstructionRow, RejectedRow
from shared.question_layouts.reading import (
    Lines,
    read_question_file,
    read_question_records,
    read_references,
)
from shared.robustness.suites import suite_rows
from shared.sources.readers import BadRecord
from shared.stages.answer_inputs import COLLECTION_STAGE, REFERENCES_STAGE, ROWS_STAGE
from shared.stages.protocol import InputObject, OutputObject, WholeContext, WholeResult
from shared.stages.training_inputs import UPLOAD_STAGE

_PARQUET = "application/vnd.apache.parquet"
_POINTER = "/questions/file"
_REJECTED_CHARACTERS = 2000


def run(context: WholeContext) -> WholeResult:
    """Choose what is asked. Outputs `part-00000.parquet`…, and `rejected.parquet` of an upload that holds unusable rows.

    The ledger counts facets: those left out are `other_split`, `not_drawn` (by `maximum_rows`), `not_in_collection` (assembly
    left them out), `no_system_message`, were rejected by an earlier stage (`rejected_before`), or of a bench `dropped_in_review`.
    Of an upload every line counts as a facet: `duplicate`, `empty`, why it cannot be read, and in the layout of the Multifaceted
    Bench why it is no item of a bench (`shared.bench_layout.records`).

    Raises StepFailed `nothing_to_ask` where nothing is left, InputRefused for an upload that cannot be used at all.
    """
    upload = next((item for item in context.inputs if item.stage == UPLOAD_STAGE), None)
    rejected_path = context.output_folder / "rejected.parquet"
    with TableWriter(rejected_path, REJECTED_ROW_SCHEMA) as rejected:
        if context.spec.asked.suite is not None:
            rows, ledger = _of_suite(context, context.spec.asked.suite)
        elif context.spec.asked.bench is not None:
            rows, ledger = _of_bench(context, rejected)
        elif upload is not None:
            rows, ledger = _of_lines(
                context, str(upload.metadata.get("name") or upload.name), _lines(context, upload), rejected
            )
        elif context.spec.asked.hub is not None:
            rows, ledger = _of_lines(context, context.spec.asked.hub, _hub_lines(context.spec.asked), rejected)
        else:
            rows, ledger = _of_collection(context)
    if not ledger.rows_out:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(ledger.reasons.items())) or "there is none"
        raise StepFailed(
            "nothing_to_ask",
            f"no row is left to ask ({reasons}); set questions.split to all, or ask other data",
        )
    ledger.check()
    outputs = _write(context, rows, ledger.rows_out)
    if rejected.rows:
        outputs.append(
            OutputObject("rejected.parquet", rejected_path, _PARQUET, rejected.rows, "rejected-row/2", kind="table")
        )
    summary = {"rows": ledger.rows_out, "facets": ledger.facets_out, "left_out": dict(sorted(ledger.reasons.items()))}
    return WholeResult(outputs=tuple(outputs), ledger=ledger, summary=summary)


def _write(context: WholeContext, rows: Iterator[InstructionRow], count: int) -> list[OutputObject]:
    outputs: list[OutputObject] = []
    done = 0
    for part in batched(rows, shard_size(count)):
        path = context.output_folder / part_name(len(outputs))
        written = write_rows(path, part)
        outputs.append(OutputObject(path.name, path, _PARQUET, written, ROW_SCHEMA_VERSION, kind="table"))
        done += written
        context.progress(done, count, "writing shards")
    return outputs


def _of_collection(context: WholeContext) -> tuple[Iterator[InstructionRow], Ledger]:
    """Two passes over the rows, so that memory holds their names alone."""
    parts = sorted((item for item in context.inputs if item.stage == ROWS_STAGE), key=lambda item: item.name)
    taken = _taken(context.inputs)
    split = context.spec.asked.split
    ledger = Ledger()
    facets: dict[str, int] = {}
    for row in _rows(parts):
        ledger.rows_in += 1
        ledger.facets_in += len(row.facets)
        if split not in ("all", row.split):
            _leave_out(ledger, "other_split", len(row.facets))
            continue
        reasons = [_why_not(row, facet, taken) for facet in row.facets]
        for reason in filter(None, reasons):
            _leave_out(ledger, reason, 1)
        if kept := reasons.count(""):
            facets[row.row_id] = kept
    drawn = _draw(context, facets, ledger)

    def chosen() -> Iterator[InstructionRow]:
        for row in _rows(parts):
            if row.row_id in drawn:
                row.facets = [facet for facet in row.facets if not _why_not(row, facet, taken)]
                yield row

    return chosen(), ledger


def _rows(parts: Sequence[InputObject]) -> Iterator[InstructionRow]:
    """The rows of the parts. An instruction without preference sets is a question by itself: one facet without a system
    message."""
    for part in parts:
        for row in iterate_rows(part.path):
            if not row.facets:
                row.facets = [Facet(0)]
            yield row


def _taken(inputs: Sequence[InputObject]) -> set[tuple[str, int]] | None:
    """Row and facet of all that the collection took; None where none was assembled."""
    tables = [item for item in inputs if item.stage == COLLECTION_STAGE]
    if not tables:
        return None
    columns = ("row_id", "facet_index")
    return {
        (record["row_id"], record["facet_index"]) for item in tables for record in iterate_records(item.path, columns)
    }


def _why_not(row: InstructionRow, facet: Facet, taken: set[tuple[str, int]] | None) -> str:
    if not facet.alive:
        return "rejected_before"
    if not facet.system and facet.preferences:
        return "no_system_message"
    if taken is not None and (row.row_id, facet.index) not in taken:
        return "not_in_collection"
    return ""


def _leave_out(ledger: Ledger, reason: str, facets: int) -> None:
    ledger.reasons[reason] = ledger.reasons.get(reason, 0) + facets


def _draw(context: WholeContext, facets: Mapping[str, int], ledger: Ledger) -> set[str]:
    """Ids of at most `maximum_rows` of the rows, drawn by seed whatever their order; the ledger is closed. `facets` are the
    numbers of facets of those that can be asked."""
    most = context.spec.asked.maximum_rows
    drawn = sorted(facets, key=lambda row_id: seed_of(context.spec.seed, "questions", row_id))[:most]
    ledger.rows_out = len(drawn)
    ledger.facets_out = sum(facets[row_id] for row_id in drawn)
    if left := sum(facets.values()) - ledger.facets_out:
        _leave_out(ledger, "not_drawn", left)
    ledger.rows_rejected = ledger.rows_in - ledger.rows_out
    ledger.facets_rejected = ledger.facets_in - ledger.facets_out
    return set(drawn)


def _of_suite(context: WholeContext, suite: RobustnessSuite) -> tuple[Iterator[InstructionRow], Ledger]:
    """The rows of a suite, which has no splits."""
    rows = suite_rows(suite)
    ledger = Ledger(rows_in=len(rows), facets_in=sum(len(row.facets) for row in rows))
    drawn = _draw(context, {row.row_id: len(row.facets) for row in rows}, ledger)
    return (row for row in rows if row.row_id in drawn), ledger


def _of_bench(context: WholeContext, rejected: TableWriter) -> tuple[Iterator[InstructionRow], Ledger]:
    """The items of a bench but for those that its review dropped; lines of an uploaded one that are no items are rejected."""
    held = context.inputs[0]
    title = str(held.metadata.get("name") or held.name)
    contents = bench_contents(held)
    items = contents.items
    ledger = Ledger()
    for fault in contents.faults:
        _leave_out(ledger, fault.reason, 1)
        _reject(rejected, title, fault)
    ledger.rows_in = len(contents.rows) + len(contents.faults)
    ledger.facets_in = items + len(contents.faults)
    rows = without_dropped(contents.rows, held)
    if dropped := items - sum(len(row.facets) for row in rows):
        _leave_out(ledger, "dropped_in_review", dropped)
    drawn = _draw(context, {row.row_id: len(row.facets) for row in rows}, ledger)
    return (row for row in rows if row.row_id in drawn), ledger


def _reject(rejected: TableWriter, title: str, fault: BadRecord) -> None:
    text = fault.text[:_REJECTED_CHARACTERS]
    record = msgspec.to_builtins(RejectedRow(0, title, fault.row, fault.reason, fault.detail, text))
    record["text"] = record["text"].encode("utf-8", "replace").decode()
    rejected.write(record)


def _lines(context: WholeContext, upload: InputObject) -> Lines:
    """The questions of an upload, with reference answers of a second one where it is named."""
    references = next((item for item in context.inputs if item.stage == REFERENCES_STAGE), None)
    known = None if references is None else read_references(references.path, "/questions/references")
    return read_question_file(upload.path, context.spec.asked.layout, _POINTER, known)


def _hub_lines(asked: QuestionParameters) -> Lines:
    wanted = HubDataSet(asked.hub or "", asked.hub_config, asked.hub_split, asked.hub_revision)
    _, records = hub_records(wanted, "/questions/hub", "/questions")
    return read_question_records(records, asked.layout, "/questions/hub")


def _of_lines(
    context: WholeContext, title: str, questions: Lines, rejected: TableWriter
) -> tuple[Iterator[InstructionRow], Ledger]:
    """Lines of one prompt become one row, each a facet of it. All rows are kept in memory, as texts."""
    rows: dict[str, InstructionRow] = {}
    seen: set[tuple[str, str, tuple[str, ...]]] = set()
    ledger = Ledger()

    def leave_out(number: int, reason: str, detail: str, text: str) -> None:
        _leave_out(ledger, reason, 1)
        _reject(rejected, title, BadRecord(number, reason, detail, text))

    unusable = lines = 0
    for line in questions:
        lines += 1
        ledger.facets_in += 1
        if isinstance(line, BadRecord):
            leave_out(line.row, line.reason, line.detail, line.text)
            unusable += 1
            continue
        row_id = row_id_of(line.identity)
        given = tuple(answer.text for answer in line.facet.answers)
        if (key := (row_id, line.facet.system or "", given)) in seen:
            leave_out(
                line.row, "duplicate", "the same prompt under the same system message stands before", line.instruction
            )
            continue
        seen.add(key)
        row = rows.get(row_id)
        if row is None:
            main = line.main_source or title
            row = rows[row_id] = InstructionRow(
                row_id,
                line.instruction,
                main,
                line.original_source or main,
                line.row,
                category=line.category,
                turns=line.turns,
                split="test",
            )
        line.facet.index = len(row.facets)
        row.facets.append(line.facet)
        if lines % 5000 == 0:
            context.progress(lines, None, "reading the file")
    if not lines:
        raise InputRefused("there are no rows; name a file or data set with at least one row", _POINTER)
    ledger.rows_in = len(rows) + unusable
    drawn = _draw(context, {row.row_id: len(row.facets) for row in rows.values()}, ledger)
    return (row for row in rows.values() if row.row_id in drawn), ledger
