"""The whole step `assemble`: from the parts of the last row stage to the collection and its exports.

Two passes over the parts, both streaming: the first reads which instructions live (one integer each is kept), the second
flattens, splits, pairs and writes. Memory does not grow with the collection beyond that and one integer per system message.
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from services.curation.assembly.exports import PARQUET, PENDING_ROWS, ExportWriter, export_outputs
from services.curation.assembly.layouts import (
    COLLECTION_SCHEMA,
    COLLECTION_SCHEMA_VERSION,
    PAIR_PROVENANCE_SCHEMA,
    PREFERENCE_SCHEMA,
    REWARD_SCHEMA,
    SFT_PROVENANCE_SCHEMA,
    SFT_SCHEMA,
    collection_record,
    preference_record,
    reward_record,
    sft_record,
)
from services.curation.assembly.pairs import draw_pairs
from services.curation.assembly.splits import HeldOut, Split, SplitLevel, held_out_seeds, place, split_instructions
from shared.artifacts.tables import TableWriter, iterate_records, iterate_rows
from shared.domain.errors import StepFailed
from shared.domain.identifiers import seed_of
from shared.domain.ledger import Ledger
from shared.domain.rows import Facet, InstructionRow
from shared.stages.protocol import InputObject, OutputObject, WholeContext, WholeResult

READ_BATCH = 200
"""Instructions read at once, each with its nested facets."""

PROGRESS_EVERY = 500


class SystemMessages:
    """Those seen so far: a model cannot learn to tell people apart who say the same, so each is taken once."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def is_new(self, system: str) -> bool:
        """Whether this one was not seen before; it is from now on."""
        key = seed_of("system", system)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True


class Placed:
    """A facet with the place that the split gave it."""

    __slots__ = ("facet", "held_out", "level", "split")

    def __init__(self, facet: Facet, split: Split, level: SplitLevel, held_out: list[str]) -> None:
        self.facet = facet
        self.split = split
        self.level = level
        self.held_out = held_out


def run(context: WholeContext) -> WholeResult:
    """Assemble the collection.

    Inputs: `part-*.parquet` of the stage before. Outputs: `collection/{train,test}.parquet` and
    `exports/{sft,dpo,orpo,rm}/{train,test}.{parquet,jsonl}` with `provenance.parquet`. The ledger counts living facets;
    `summary` holds splits, held-out seeds and pairs with the reasons of those that could not be made.

    Raises StepFailed `nothing_to_assemble` where no facet lives.
    """
    parameters, seed = context.spec.assemble, context.spec.seed
    parts = part_files(context.inputs)
    instructions = split_instructions(_living_row_ids(parts), parameters.test_instruction_share, seed)
    held_out = HeldOut.from_taxonomy(
        context.taxonomy, held_out_seeds(context.taxonomy, parameters.held_out_preference_share, seed)
    )
    constants = _constants(context)
    origin_constants = {"teacher": constants["teacher"], "job_id": context.job_id}

    ledger = Ledger()
    messages = SystemMessages()
    facets: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    margins: Counter[str] = Counter()
    unpaired: Counter[str] = Counter()
    total = sum(part.rows or 0 for part in parts) or None
    collection_rows: dict[Split, int] = {}
    folder = context.output_folder
    (folder / "collection").mkdir(parents=True, exist_ok=True)

    with ExitStack() as stack:
        collection = {
            split: stack.enter_context(
                TableWriter(folder / "collection" / f"{split.value}.parquet", COLLECTION_SCHEMA, PENDING_ROWS)
            )
            for split in Split
        }
        sft = stack.enter_context(ExportWriter(folder, "sft", SFT_SCHEMA, SFT_PROVENANCE_SCHEMA))
        dpo = stack.enter_context(ExportWriter(folder, "dpo", PREFERENCE_SCHEMA, PAIR_PROVENANCE_SCHEMA))
        reward = stack.enter_context(ExportWriter(folder, "rm", REWARD_SCHEMA, PAIR_PROVENANCE_SCHEMA))

        for done, row in enumerate(_rows(parts), start=1):
            if done % PROGRESS_EVERY == 0:
                context.progress(done, total, "instructions assembled")
            complete = _complete_facets(row, messages, ledger)
            if not complete:
                continue
            is_test = instructions.is_test(row.row_id)
            placed = [
                Placed(facet, *place(is_test, unseen), unseen)
                for facet, unseen in ((facet, held_out.of(facet)) for facet in complete)
            ]
            in_train = any(item.split is Split.TRAIN for item in placed)
            origin = {"row_id": row.row_id, "instruction_in_train": in_train, **origin_constants}
            for item in placed:
                facets[f"{item.split.value}/{item.level.value}"] += 1
                if item.split is Split.TEST and not is_test:
                    facets["moved_to_test"] += 1
                collection[item.split].write(
                    collection_record(
                        row,
                        item.facet,
                        split=item.split,
                        level=item.level,
                        instruction_in_train=in_train,
                        held_out=item.held_out,
                        constants=constants,
                    )
                )
                sft.write(
                    item.split,
                    sft_record(row, item.facet),
                    {**origin, "split_level": item.level.value, "facet_index": item.facet.index},
                )
            for split in Split:
                group = [item for item in placed if item.split is split]
                if not group:
                    continue
                drawn = draw_pairs(
                    [item.facet for item in group],
                    parameters.pairing,
                    seed,
                    row.row_id,
                    split,
                    matrix=row.matrix,
                    judged=context.spec.judge is not None,
                    minimum_margin=parameters.minimum_pair_margin,
                )
                margins.update(drawn.counts)
                if not drawn.kept:
                    unpaired[_why_unpaired(len(group), len(placed), drawn.counts)] += 1
                level_of = {item.facet.index: item.level for item in group}
                for pair in drawn.kept:
                    levels = {level_of[pair.own.index], level_of[pair.other.index]}
                    level = SplitLevel.UNSEEN_PREFERENCE if SplitLevel.UNSEEN_PREFERENCE in levels else SplitLevel.SEEN
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
        collection_rows = {split: writer.rows for split, writer in collection.items()}

    if not ledger.facets_out:
        raise StepFailed("nothing_to_assemble", _nothing_left(ledger, context.stage_ledgers))
    ledger.check()
    context.progress(ledger.rows_in, total, "instructions assembled")
    # The released -DPO and -ORPO sets have one layout, and ours hold the same pairs: the bytes are written once.
    orpo_folder = shutil.copytree(dpo.folder, dpo.folder.with_name("orpo"), dirs_exist_ok=True)
    outputs = [
        *_collection_outputs(folder, collection_rows),
        *sft.outputs(),
        *dpo.outputs(),
        *export_outputs(orpo_folder, "orpo", dpo.rows),
        *reward.outputs(),
    ]
    summary = {
        "instructions": {
            "total": ledger.rows_out,
            "train": ledger.rows_out - instructions.test_instructions,
            "test": instructions.test_instructions,
        },
        "facets": {
            "train": collection_rows[Split.TRAIN],
            "test_seen": facets["test/seen"],
            "test_unseen_preference": facets["test/unseen_preference"],
            "moved_to_test": facets["moved_to_test"],
        },
        "held_out_seeds": list(held_out.seeds),
        "pairing": parameters.pairing,
        "pairs": {
            "train": dpo.rows[Split.TRAIN],
            "test_seen": pairs["test/seen"],
            "test_unseen_preference": pairs["test/unseen_preference"],
        },
        "pair_margins": {reason: margins[reason] for reason in ("below_margin", "shared_wishes", "unverified")},
        "unpaired": dict(sorted(unpaired.items())),
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


def _living_row_ids(parts: Sequence[InputObject]) -> Iterator[str]:
    """Ids of the rows that `_complete_facets` will give something for; reads only the columns that say so."""
    needed = [
        "row_id",
        *(f"facets.list.element.{field}" for field in ("rejection", "system", "response")),
    ]
    messages = SystemMessages()
    for part in parts:
        for record in iterate_records(part.path, needed, READ_BATCH):
            complete = [
                facet["system"]
                for facet in record["facets"] or ()
                if facet["rejection"] is None and facet["system"] and facet["response"]
            ]
            new = [messages.is_new(system) for system in complete]  # all of them are seen from now on
            if any(new):
                yield record["row_id"]


def _complete_facets(row: InstructionRow, messages: SystemMessages, ledger: Ledger) -> list[Facet]:
    """The row's living facets that hold all a record needs and say what none before did; both they and the others are counted."""
    complete: list[Facet] = []
    rejected = 0
    for facet in row.facets:
        if not facet.alive:
            continue
        if not facet.system or not facet.response:
            reason = "no_response" if facet.system else "no_system_message"
        elif messages.is_new(facet.system):
            complete.append(facet)
            continue
        else:
            reason = "duplicate_system_message"
        rejected += 1
        ledger.reasons[reason] = ledger.reasons.get(reason, 0) + 1
    if complete or rejected:
        ledger.rows_in += 1
        ledger.rows_out += bool(complete)
        ledger.rows_rejected += not complete
        ledger.facets_in += len(complete) + rejected
        ledger.facets_out += len(complete)
        ledger.facets_rejected += rejected
    return complete


def _why_unpaired(in_group: int, in_row: int, margins: Mapping[str, int]) -> str:
    if in_row == 1:
        return "single_facet"
    if in_group == 1:
        return "single_facet_in_split"
    if margins:
        return max(sorted(margins), key=lambda reason: margins[reason])
    return "equal_responses_or_systems"


def _constants(context: WholeContext) -> dict[str, Any]:
    teacher = context.spec.teacher
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


def _collection_outputs(folder: Path, rows: Mapping[Split, int]) -> list[OutputObject]:
    return [
        OutputObject(
            name=f"collection/{split.value}.parquet",
            path=folder / "collection" / f"{split.value}.parquet",
            media_type=PARQUET,
            rows=rows[split],
            schema_version=COLLECTION_SCHEMA_VERSION,
            kind="table",
            metadata={"split": split.value},
        )
        for split in Split
    ]
