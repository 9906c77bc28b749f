"""The curate step: from sources to clean, unique, single-turn instructions in shards, every rejected row with a reason.

Order: import and mapping (first user turn) → normalisation → length → language → persona → benchmark overlap → exact
duplicates → near duplicates → limit → split. The row that came first stays. An instruction whose evident intent is harm stays
as well, with a tag: its preference sets stand on careful poles only. Rows go through a spool file, so memory holds a few dozen
bytes per row plus what near-duplicate removal needs, not the texts.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from sys import intern
from typing import IO, Any, NamedTuple, get_args

import msgspec
import orjson

from services.curation.harmful_intent import harmful_intent_filter
from services.curation.near_duplicates import Match, NearDuplicates
from services.curation.normalisation import normalise
from services.curation.personas import persona_filter
from services.curation.sources import ImportedRow, OpenedSource, open_sources, upload_title
from services.curation.splitting import SPLITS_SCHEMA_VERSION, Splitter, source_of
from shared.artifacts.layout import part_name
from shared.artifacts.tables import REJECTED_ROW_SCHEMA, TableWriter, write_rows
from shared.domain.errors import InputRefused
from shared.domain.identifiers import row_id_of, seed_of
from shared.domain.language import detect_language
from shared.domain.ledger import Ledger
from shared.domain.plan import shard_size
from shared.domain.rows import HARMFUL_INTENT_TAG, ROW_SCHEMA_VERSION, InstructionRow, RejectedRow
from shared.overlap.decontamination import Contamination, Decontamination, MatchKind
from shared.stages.protocol import OutputObject, WholeContext, WholeResult

REJECTED_TEXT_CHARACTERS = 2000
UNDECIDED_LANGUAGE_TAG = "language-undecided"

_BATCH_ROWS = 2000
_LANGUAGE_CONFIDENCE = 0.5


class _Spool:
    """Accepted rows on disk, in order: written once, read once or more."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="multifacet-curate-")  # noqa: SIM115 (closed by `close`)
        self._encoder = msgspec.msgpack.Encoder()

    def append(self, row: InstructionRow) -> None:
        data = self._encoder.encode(row)
        self._file.write(len(data).to_bytes(4, "little"))
        self._file.write(data)

    def rows(self) -> Iterator[InstructionRow]:
        decoder = msgspec.msgpack.Decoder(InstructionRow)
        self._file.seek(0)
        while head := self._file.read(4):
            yield decoder.decode(self._file.read(int.from_bytes(head, "little")))

    def close(self) -> None:
        self._file.close()


class _Place(NamedTuple):
    """Where an accepted row came from. `name` is its main_source, which several sources may share."""

    source: int
    name: str
    row: int
    group: str
    """What it would be held out with, see `services.curation.splitting.source_of`."""


class _Curation:
    """One run. `accept` takes rows batch by batch; `finish` removes what only the whole shows, and writes the parts."""

    def __init__(self, context: WholeContext, rejected: TableWriter) -> None:
        self.context = context
        self.parameters = context.spec.curate
        self.reasons: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.persona_rules: Counter[str] = Counter()
        self.tags: Counter[str] = Counter()
        self.harmful_intent_rules: Counter[str] = Counter()
        self.contaminated: list[dict[str, Any]] = []
        self.characters = 0
        self.benchmarks = self._benchmarks()
        self._rejected = rejected
        self.splitter: Splitter | None = None
        self._spool = _Spool()
        self._seen: dict[str, int] = {}
        self._places: list[_Place] = []
        threshold = self.parameters.near_duplicate_threshold
        self._near = None if threshold is None else NearDuplicates(threshold)

    def _benchmarks(self) -> Decontamination | None:
        if not self.parameters.decontaminate_against:
            return None
        uploads = {item.name: item for item in self.context.inputs if item.stage == "upload"}
        files = []
        for position, identifier in enumerate(self.parameters.decontaminate_against):
            if identifier not in uploads:
                raise InputRefused(
                    f"there is no uploaded benchmark file {identifier!r}; upload it first",
                    f"/curate/decontaminate_against/{position}",
                )
            files.append((identifier, upload_title(uploads[identifier]), uploads[identifier].path))
        return Decontamination(files, self.parameters.decontamination_ngram)

    def accept(self, batch: list[ImportedRow], source: int) -> None:
        """Filter a batch of rows imported from the source at that position of the spec; what passes is spooled."""
        passed: list[InstructionRow] = []
        for imported in batch:
            row = self._screened(imported, source)
            if row is not None:
                passed.append(row)
        overlaps = self.benchmarks.check([row.instruction for row in passed]) if self.benchmarks else None
        unique: list[str] = []
        for position, row in enumerate(passed):
            overlap = overlaps[position] if overlaps else None
            first = self._seen.get(row.row_id)
            if overlap is not None:
                self._reject_contaminated(row, source, overlap)
            elif first is not None:
                self._reject_row(row, source, "duplicate", f"equal to {self._place(first)}")
            else:
                self._seen[row.row_id] = len(self._places)
                self._places.append(_Place(source, row.main_source, row.source_row, intern(source_of(row))))
                self._spool.append(row)
                unique.append(row.instruction)
        if self._near is not None:
            self._near.add(unique)

    def _screened(self, imported: ImportedRow, source: int) -> InstructionRow | None:
        """The row if it stands on its own merits, None after its rejection."""
        text = normalise(imported.text)
        detected = None if imported.reason else detect_language(text)
        decided = detected is not None and detected[1] >= _LANGUAGE_CONFIDENCE
        language = detected[0] if detected is not None and decided else "en"
        fault = (imported.reason, imported.detail) if imported.reason else self._fault(text, language)
        if fault is not None:
            reason, detail = fault
            self._write_rejected(RejectedRow(source, imported.main_source, imported.source_row, reason, detail, text))
            return None
        return InstructionRow(
            row_id=row_id_of(text),
            instruction=text,
            main_source=imported.main_source,
            original_source=imported.original_source,
            source_row=imported.source_row,
            language=language,
            tags=[] if decided else [UNDECIDED_LANGUAGE_TAG],
        )

    def _fault(self, text: str, language: str) -> tuple[str, str] | None:
        """(reason, detail) of what speaks against a normalised instruction by itself."""
        parameters = self.parameters
        if not text:
            return "empty", "no visible character"
        if len(text) < parameters.minimum_characters:
            return "too_short", f"{len(text)} characters, at least {parameters.minimum_characters} are wanted"
        if len(text) > parameters.maximum_characters:
            return "too_long", f"{len(text):,} characters, at most {parameters.maximum_characters:,} are wanted"
        if parameters.languages and language not in parameters.languages:
            return "language", f"the instruction is in {language}"
        persona = persona_filter().match(text) if parameters.remove_personas else None
        if persona is not None:
            self.persona_rules[persona.rule] += 1
            return "persona", f"{persona.reason} ({persona.rule}): “{persona.found}”"
        return None

    def _reject_row(self, row: InstructionRow, source: int, reason: str, detail: str) -> None:
        self._write_rejected(RejectedRow(source, row.main_source, row.source_row, reason, detail, row.instruction))

    def _reject_contaminated(self, row: InstructionRow, source: int, overlap: Contamination) -> None:
        matched = overlap.text
        detail = {
            "runs": f"shares {overlap.grams} runs of {self.parameters.decontamination_ngram} words with",
            "whole": "equals the whole text of",
            "contained": "has within it the whole text of",
        }[overlap.match]
        self._reject_row(row, source, "contaminated", f"{detail} row {matched.row} of benchmark {matched.benchmark}")
        self.contaminated.append(
            {
                "source": source,
                "main_source": row.main_source,
                "source_row": row.source_row,
                "row_id": row.row_id,
                "benchmark": matched.benchmark,
                "benchmark_row": matched.row,
                "benchmark_field": matched.field,
                "benchmark_text_sha256": matched.sha256,
                "match": overlap.match,
                "grams": overlap.grams,
            }
        )

    def _write_rejected(self, row: RejectedRow) -> None:
        self.reasons[row.reason] += 1
        record = msgspec.to_builtins(row)
        record["text"] = row.text[:REJECTED_TEXT_CHARACTERS].encode("utf-8", "replace").decode()
        self._rejected.write(record)

    def _place(self, ordinal: int) -> str:
        place = self._places[ordinal]
        several = len(self.context.spec.sources) > 1
        return f"row {place.row} of {place.name}" + (f" (source {place.source})" if several else "")

    def finish(self) -> list[OutputObject]:
        """Remove near duplicates and what is over the limit, then write one part per shard; none where nothing is left."""
        accepted = len(self._places)
        self.context.progress(accepted, None, "looking for near duplicates")
        near = self._near.find() if self._near is not None else {}
        over = self._over_limit(near)
        kept = accepted - len(near) - len(over)
        size = shard_size(kept)
        groups = Counter(
            place.group for ordinal, place in enumerate(self._places) if ordinal not in near and ordinal not in over
        )
        self.splitter = Splitter(self.context.taxonomy, self.context.spec, groups)
        survivors = self._survivors(near, over, self.splitter)
        outputs = []
        for shard in range(-(-kept // size)):
            path = self.context.output_folder / part_name(shard)
            rows = write_rows(path, islice(survivors, size))
            outputs.append(_table(path, rows, ROW_SCHEMA_VERSION))
            self.context.progress(min(kept, (shard + 1) * size), kept, "writing shards")
        for _ in survivors:  # rejections behind the last survivor
            raise AssertionError("more rows survived than were counted")
        self._spool.close()
        return outputs

    def _over_limit(self, near: dict[int, Match]) -> set[int]:
        """Ordinals beyond `limit`: a draw by seed that depends on the instructions only, not on their order."""
        limit = self.parameters.limit
        if limit is None:
            return set()
        left = [(row_id, ordinal) for row_id, ordinal in self._seen.items() if ordinal not in near]
        left.sort(key=lambda item: seed_of(self.context.spec.seed, "limit", item[0]))
        return {ordinal for _, ordinal in left[limit:]}

    def _survivors(self, near: dict[int, Match], over: set[int], splitter: Splitter) -> Iterator[InstructionRow]:
        for ordinal, row in enumerate(self._spool.rows()):
            match = near.get(ordinal)
            source = self._places[ordinal].source
            if match is not None:
                detail = f"Jaccard {match.similarity:.2f} with {self._place(match.kept)}"
                self._reject_row(row, source, "near_duplicate", detail)
            elif ordinal in over:
                self._reject_row(row, source, "over_limit", f"not among the {self.parameters.limit} drawn by seed")
            else:
                self.languages[row.language] += 1
                self.characters += len(row.instruction)
                self._tag_harmful_intent(row)
                self.tags.update(row.tags)
                splitter.place(row, self._places[ordinal].group)
                yield row

    def _tag_harmful_intent(self, row: InstructionRow) -> None:
        match = harmful_intent_filter().match(row.instruction)
        if match is not None:
            row.tags.append(HARMFUL_INTENT_TAG)
            self.harmful_intent_rules[match.rule] += 1

    def decontamination_report(self) -> dict[str, Any]:
        """What was compared with what, and every instruction that went."""
        matches = Counter(item["match"] for item in self.contaminated)
        return {
            "ngram_words": self.parameters.decontamination_ngram,
            "removed_by": {match: matches[match] for match in get_args(MatchKind)},
            "benchmarks": [msgspec.to_builtins(summary) for summary in self.benchmarks.summaries]
            if self.benchmarks
            else [],
            "removed": self.contaminated,
        }


def run(context: WholeContext) -> WholeResult:
    """Curate the job's sources. Outputs `part-00000.parquet`…, `rejected.parquet`, `decontamination.json` and `splits.json`.

    Where no instruction is left there is no part: the counts and the rejected rows say why, and the controller fails the job.
    Raises InputRefused for a source or benchmark that cannot be used at all (with its JSON pointer), and StepFailed where
    the Hub is out of reach.
    """
    context.output_folder.mkdir(parents=True, exist_ok=True)
    rejected_path = context.output_folder / "rejected.parquet"
    sources = open_sources(context.spec.sources, context.inputs)
    with TableWriter(rejected_path, REJECTED_ROW_SCHEMA) as rejected:
        curation = _Curation(context, rejected)
        done = 0
        for number, source in enumerate(sources):
            done = _import(source, number, curation, done)
        outputs = curation.finish()
    report_path = context.output_folder / "decontamination.json"
    report_path.write_bytes(orjson.dumps(curation.decontamination_report(), option=orjson.OPT_INDENT_2))
    kept = sum(output.rows or 0 for output in outputs)
    splits_path = context.output_folder / "splits.json"
    splits = curation.splitter.as_json() if curation.splitter else {}
    splits_path.write_bytes(orjson.dumps(splits, option=orjson.OPT_INDENT_2))
    ledger = Ledger(
        rows_in=done, rows_out=kept, rows_rejected=sum(curation.reasons.values()), reasons=dict(curation.reasons)
    )
    ledger.check()
    outputs.append(_table(rejected_path, ledger.rows_rejected, "rejected-row/2"))
    outputs.append(OutputObject(report_path.name, report_path, "application/json", kind="report"))
    outputs.append(
        OutputObject(
            splits_path.name, splits_path, "application/json", schema_version=SPLITS_SCHEMA_VERSION, kind="report"
        )
    )
    return WholeResult(tuple(outputs), ledger, _summary(curation, sources, kept, splits))


def _import(source: OpenedSource, number: int, curation: _Curation, done: int) -> int:
    """Feed one source to the filters; returns how many rows of all sources were read."""
    rows = source.read()
    while batch := list(islice(rows, _BATCH_ROWS)):
        curation.accept(batch, number)
        done += len(batch)
        curation.context.progress(done, None, f"reading {source.name}")
    return done


def _summary(curation: _Curation, sources: list[OpenedSource], kept: int, splits: dict[str, Any]) -> dict[str, Any]:
    return {
        "sources": [{"name": source.name, "mapping": source.mapping.name, "rows": source.rows} for source in sources],
        "rows_out": kept,
        "shard_rows": shard_size(kept),
        "average_characters": round(curation.characters / max(kept, 1), 1),
        "languages": dict(curation.languages.most_common()),
        "reasons": dict(curation.reasons.most_common()),
        "splits": splits,
        "persona_rules": dict(curation.persona_rules.most_common()),
        "tags": dict(curation.tags.most_common()),
        "harmful_intent_rules": dict(curation.harmful_intent_rules.most_common()),
    }


def _table(path: Path, rows: int, schema_version: str) -> OutputObject:
    return OutputObject(
        path.name, path, "application/vnd.apache.parquet", rows=rows, schema_version=schema_version, kind="table"
    )
