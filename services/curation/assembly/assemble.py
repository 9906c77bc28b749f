"""The whole step `assemble`: from the parts of the last row stage to the collection and its exports.

Three passes over the parts, all streaming: the first reads the wording of the test rows that training must not come close to, the
second which facets may train and what they hold, the third flattens, pairs and writes. Memory holds the test rows' held-out
texts, one integer per system message, per combination of poles and per facet that fell.
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa

from services.curation.assembly.exports import PARQUET, PENDING_ROWS, ExportWriter, export_outputs
from services.curation.assembly.layouts import (
    COLLECTION_SCHEMA,
    COLLECTION_SCHEMA_VERSION,
    FACET_MATRIX_SCHEMA,
    FACET_MATRIX_SCHEMA_VERSION,
    PAIR_PROVENANCE_SCHEMA,
    PREFERENCE_SCHEMA,
    REWARD_SCHEMA,
    SFT_PROVENANCE_SCHEMA,
    SFT_SCHEMA,
    collection_record,
    matrix_records,
    preference_record,
    reward_record,
    sft_record,
)
from services.curation.assembly.pairs import draw_pairs
from services.curation.assembly.placing import (
    TrainingFacts,
    TrainingGate,
    hardest,
    held_out_preferences,
    held_out_texts,
)
from shared.artifacts.tables import TableWriter, iterate_rows
from shared.domain.errors import StepFailed
from shared.domain.identifiers import seed_of
from shared.domain.jobs import JobSpec
from shared.domain.ledger import Ledger
from shared.domain.no_system import trains_without_system
from shared.domain.rows import HARMFUL_INTENT_TAG, Facet, InstructionRow
from shared.domain.splits import HeldOut, Split, SplitLevel, hold_out
from shared.domain.taxonomy import stances_of
from shared.stages.protocol import InputObject, OutputObject, WholeContext, WholeResult

READ_BATCH = 200
"""Instructions read at once, each with its nested facets."""

PENDING_VERDICTS = 5000
"""Verdicts are short, and an instruction has dozens of them."""

PROGRESS_EVERY = 500

_PAIR_REASONS = ("harmful_intent", "below_margin", "shared_wishes", "unverified")
"""See `DrawnPairs`."""


class SystemMessages:
    """Those seen so far: a model cannot learn to tell people apart who say the same, so each is taken once. Persistent people
    say the same on purpose, for many instructions, but once for each."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def is_new(self, row: InstructionRow, facet: Facet) -> bool:
        """Whether this one was not seen before; it is from now on."""
        key = seed_of("system", facet.system, "" if facet.profile is None else row.row_id)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True


class Selection:
    """Which facets go into the collection, decided once for all passes; what falls is counted by reason."""

    def __init__(self, gate: TrainingGate) -> None:
        self._gate = gate
        self._messages = SystemMessages()
        self._fallen: set[int] = set()
        self.ledger = Ledger()
        self.facts = TrainingFacts()
        self.test_rows = 0

    def read(self, row: InstructionRow) -> None:
        """Decide on the row's living facets and note what training holds."""
        reasons = []
        kept = 0
        for facet in row.facets:
            if not facet.alive:
                continue
            reason = self._reason(row, facet)
            if reason is None:
                kept += 1
                if row.split == Split.TRAIN:
                    self.facts.add(facet)
            else:
                reasons.append(reason)
                self._fallen.add(seed_of(row.row_id, facet.index))
        self._count(row, kept, reasons)

    def _reason(self, row: InstructionRow, facet: Facet) -> str | None:
        """Why a living facet cannot go into the collection, or None."""
        if not facet.system or not facet.response:
            return "no_response" if facet.system else "no_system_message"
        if not self._messages.is_new(row, facet):
            return "duplicate_system_message"
        fault = self._gate.fault(facet) if row.split == Split.TRAIN else None
        return None if fault is None else fault.reason

    def _count(self, row: InstructionRow, kept: int, reasons: Sequence[str]) -> None:
        if not kept and not reasons:
            return
        ledger = self.ledger
        for reason in reasons:
            ledger.reasons[reason] = ledger.reasons.get(reason, 0) + 1
        ledger.rows_in += 1
        ledger.rows_out += bool(kept)
        ledger.rows_rejected += not kept
        ledger.facets_in += kept + len(reasons)
        ledger.facets_out += kept
        ledger.facets_rejected += len(reasons)
        self.test_rows += bool(kept) and row.split == Split.TEST

    def of(self, row: InstructionRow) -> list[Facet]:
        """The row's facets that go into the collection."""
        return [facet for facet in row.facets if facet.alive and seed_of(row.row_id, facet.index) not in self._fallen]


class Placed:
    """A facet with the level that it turned out to have."""

    __slots__ = ("facet", "held_out", "level")

    def __init__(self, facet: Facet, level: SplitLevel, held_out: list[str]) -> None:
        self.facet = facet
        self.level = level
        self.held_out = held_out


def run(context: WholeContext) -> WholeResult:
    """Assemble the collection.

    Inputs: `part-*.parquet` of the stage before. Outputs: `collection/{train,test}.parquet`, the verdicts on its answers in
    `facet_matrix/{train,test}.parquet`, and `exports/{sft,dpo,orpo,rm}/{train,test}.{parquet,jsonl}` with
    `provenance.parquet`. The ledger counts living facets;
    `summary` holds splits and levels, what is held out, what was dropped, and pairs with the reasons of those that could
    not be made.

    Raises StepFailed `nothing_to_assemble` where no facet lives.
    """
    spec = context.spec
    parameters, seed = spec.assemble, spec.seed
    parts = part_files(context.inputs)
    held_out = hold_out(context.taxonomy, spec.splits, seed)
    selection = _select(context, parts, held_out)
    ledger = selection.ledger
    stances = frozenset(stances_of(context.taxonomy))
    constants = _constants(context)
    origin_constants = {"teacher": constants["teacher"], "job_id": context.job_id}

    facets: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    margins: Counter[str] = Counter()
    neutral: Counter[str] = Counter()
    unpaired: Counter[str] = Counter()
    total = sum(part.rows or 0 for part in parts) or None
    folder = context.output_folder
    written_rows: dict[str, dict[Split, int]] = {}

    with ExitStack() as stack:
        collection = _tables(stack, folder / "collection", COLLECTION_SCHEMA, PENDING_ROWS)
        matrix = _tables(stack, folder / "facet_matrix", FACET_MATRIX_SCHEMA, PENDING_VERDICTS)
        sft = stack.enter_context(ExportWriter(folder, "sft", SFT_SCHEMA, SFT_PROVENANCE_SCHEMA))
        dpo = stack.enter_context(ExportWriter(folder, "dpo", PREFERENCE_SCHEMA, PAIR_PROVENANCE_SCHEMA))
        reward = stack.enter_context(ExportWriter(folder, "rm", REWARD_SCHEMA, PAIR_PROVENANCE_SCHEMA))

        for done, row in enumerate(_rows(parts), start=1):
            if done % PROGRESS_EVERY == 0:
                context.progress(done, total, "instructions assembled")
            split = Split(row.split)
            placed = [_placed(facet, split, selection.facts, held_out) for facet in selection.of(row)]
            if row.neutral is not None:
                neutral[row.neutral.rejection.reason if row.neutral.rejection else "made"] += 1
            if not placed:
                continue
            origin = {"row_id": row.row_id, **origin_constants}
            without_system = _neutral_answer(row, len(placed), spec)
            neutral["trains"] += without_system is not None
            written = [*placed, Placed(without_system, SplitLevel.SEEN, [])] if without_system is not None else placed
            for item in written:
                if item.facet is not without_system:
                    facets[f"{split.value}/{item.level.value}"] += 1
                collection[split].write(
                    collection_record(
                        row,
                        item.facet,
                        split=split,
                        level=item.level,
                        held_out=item.held_out,
                        constants=constants,
                    )
                )
                sft.write(
                    split,
                    sft_record(row, item.facet),
                    {**origin, "split_level": item.level.value, "facet_index": item.facet.index},
                )
            for record in matrix_records(row, {item.facet.index for item in placed}):
                matrix[split].write(record)
            drawn = draw_pairs(
                [item.facet for item in placed],
                parameters.pairing,
                seed,
                row.row_id,
                split,
                matrix=row.matrix,
                judged=spec.judge is not None,
                minimum_margin=parameters.minimum_pair_margin,
                stances=stances if HARMFUL_INTENT_TAG in row.tags else (),
            )
            margins.update(drawn.counts)
            if not drawn.kept:
                unpaired[_why_unpaired(len(placed), drawn.counts)] += 1
            level_of = {item.facet.index: item.level for item in placed}
            for pair in drawn.kept:
                level = hardest((level_of[pair.own.index], level_of[pair.other.index]))
                pairs[f"{split.value}/{level.value}"] += 1
                pair_origin = {
                    **origin,
                    "split_level": level.value,
                    "chosen_facet_index": pair.own.index,
                    "rejected_facet_index": pair.other.index,
                    "pairing": parameters.pairing,
                }
                dpo.write(split, preference_record(row, pair), pair_origin)
                reward.write(split, reward_record(row, pair), pair_origin)
        for name, tables in (("collection", collection), ("facet_matrix", matrix)):
            written_rows[name] = {split: writer.rows for split, writer in tables.items()}

    if not ledger.facets_out:
        raise StepFailed("nothing_to_assemble", _nothing_left(ledger, context.stage_ledgers))
    ledger.check()
    context.progress(ledger.rows_in, total, "instructions assembled")
    # The released -DPO and -ORPO sets have one layout, and ours hold the same pairs: the bytes are written once.
    orpo_folder = shutil.copytree(dpo.folder, dpo.folder.with_name("orpo"), dirs_exist_ok=True)
    pair_margins = {reason: margins[reason] for reason in _PAIR_REASONS}
    outputs = [
        *_table_outputs(folder, "collection", written_rows["collection"], COLLECTION_SCHEMA_VERSION),
        *_table_outputs(folder, "facet_matrix", written_rows["facet_matrix"], FACET_MATRIX_SCHEMA_VERSION),
        *sft.outputs(),
        *dpo.outputs(pair_margins=pair_margins),
        *export_outputs(orpo_folder, "orpo", dpo.rows),
        *reward.outputs(),
    ]
    summary = {
        "instructions": {
            "total": ledger.rows_out,
            "train": ledger.rows_out - selection.test_rows,
            "test": selection.test_rows,
        },
        "facets": dict(sorted(facets.items(), reverse=True)),
        "dropped": dict(sorted(ledger.reasons.items())),
        "held_out": held_out.as_json(),
        "pairing": parameters.pairing,
        "pairs": dict(sorted(pairs.items(), reverse=True)),
        "pair_margins": pair_margins,
        "unpaired": dict(sorted(unpaired.items())),
        "neutral_answers": dict(sorted(neutral.items())),
        "teacher": constants["teacher"],
    }
    return WholeResult(outputs=tuple(outputs), ledger=ledger, summary=summary)


def part_files(inputs: Sequence[InputObject]) -> list[InputObject]:
    """The parts among the inputs, by stage and name: the order of the shards."""
    parts = [item for item in inputs if item.name.startswith("part-") and item.name.endswith(".parquet")]
    return sorted(parts, key=lambda item: (item.stage, item.name))


def _rows(parts: Sequence[InputObject]) -> Iterator[InstructionRow]:
    for part in parts:
        yield from iterate_rows(part.path, READ_BATCH)


def _select(context: WholeContext, parts: Sequence[InputObject], held_out: HeldOut) -> Selection:
    """The first two passes."""
    tests = (row for row in _rows(parts) if row.split == Split.TEST)
    texts = held_out_texts(context.taxonomy, held_out, tests, context.spec.splits.maximum_containment)
    selection = Selection(TrainingGate(held_out, texts))
    for done, row in enumerate(_rows(parts), start=1):
        if done % PROGRESS_EVERY == 0:
            context.progress(done, None, "instructions read")
        selection.read(row)
    return selection


def _placed(facet: Facet, split: Split, facts: TrainingFacts, held_out: HeldOut) -> Placed:
    level = facts.level_of(facet) if split is Split.TEST else SplitLevel.SEEN
    return Placed(facet, level, held_out_preferences(facet, held_out))


def _neutral_answer(row: InstructionRow, facets: int, spec: JobSpec) -> Facet | None:
    """The row's neutral answer where it trains as an example without a system message."""
    neutral = row.neutral
    if neutral is None or not neutral.alive or row.split != Split.TRAIN:
        return None
    wanted = trains_without_system(row.row_id, facets, spec.respond.no_system_share, spec.seed)
    return neutral if wanted else None


def _why_unpaired(in_row: int, margins: Mapping[str, int]) -> str:
    if in_row == 1:
        return "single_facet"
    if margins:
        return max(sorted(margins), key=lambda reason: margins[reason])
    return "equal_responses_or_systems"


def _constants(context: WholeContext) -> dict[str, Any]:
    teacher = context.spec.require_teacher()
    simulated = bool(context.facts.get("teacher_is_simulator", teacher.provider == "simulator"))
    return {
        "teacher": "simulator" if simulated else f"{teacher.provider}/{teacher.model}",
        "teacher_provider": teacher.provider,
        "teacher_model": teacher.model,
        "taxonomy": context.taxonomy.name,
        "taxonomy_version": context.taxonomy.version,
        "job_id": context.job_id,
        "job_seed": context.spec.seed,
    }


def _nothing_left(ledger: Ledger, stages: Mapping[str, Ledger]) -> str:
    told = [
        f"{name} rejected {stage.facets_rejected} of {stage.facets_in} "
        f"({', '.join(f'{reason}: {count}' for reason, count in sorted(stage.reasons.items()))})"
        for name, stage in stages.items()
        if stage.facets_rejected
    ]
    if ledger.facets_rejected:
        told.append(f"assemble itself rejected {ledger.facets_rejected}: {dict(sorted(ledger.reasons.items()))}")
    return (
        "no facet lives that could go into a collection: "
        + ("; ".join(told) or "the stages before made none")
        + ". Look at the rejected rows, loosen the checks that reject most, or use another teacher."
    )


def _tables(stack: ExitStack, folder: Path, schema: pa.Schema, pending: int) -> dict[Split, TableWriter]:
    """A table for each split, open as long as the stack is."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        split: stack.enter_context(TableWriter(folder / f"{split.value}.parquet", schema, pending)) for split in Split
    }


def _table_outputs(folder: Path, name: str, rows: Mapping[Split, int], schema_version: str) -> list[OutputObject]:
    return [
        OutputObject(
            name=f"{name}/{split.value}.parquet",
            path=folder / name / f"{split.value}.parquet",
            media_type=PARQUET,
            rows=rows[split],
            schema_version=schema_version,
            kind="table",
            metadata={"split": split.value},
        )
        for split in Split
    ]
