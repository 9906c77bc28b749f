"""The whole step `take`: answers of a file, matched with the questions that are asked."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from services.evaluation.taking.file_answers import FileAnswer, read_answers
from shared.artifacts.tables import iterate_rows, read_rows, write_rows
from shared.domain.answers import MAXIMUM_SAMPLES
from shared.domain.errors import StepFailed
from shared.domain.evaluations import subject_of
from shared.domain.ledger import row_ledger, total
from shared.domain.rows import ROW_SCHEMA_VERSION, Answer, Facet, InstructionRow, Rejection
from shared.sources.readers import BadRecord
from shared.stages.protocol import InputObject, OutputObject, WholeContext, WholeResult
from shared.stages.training_inputs import UPLOAD_STAGE

LEAST_MATCHED = 0.5
"""Share of the questions that must have an answer: with fewer the file answers something else."""
_PARQUET = "application/vnd.apache.parquet"

ItemKey = tuple[str, int]


def run(context: WholeContext) -> WholeResult:
    """Match a file of answers with the questions. Outputs the parts of the questions, with `answers` of every facet that has one.

    Facets without an answer are rejected as `no_answer`. Of the file's lines those that became no answer are counted in the
    summary: `another_bench` (nothing like it is asked), `another_system` (it is, but under other system messages), `ambiguous`
    (the prompt is asked under several system messages, and the line names none of them), `duplicate` (the same answer to the
    same question again, or the same sample of it), `too_many` (more than 64 to one question), `empty`, and those that cannot
    be read.

    Raises StepFailed `answers_of_other_questions` where less than half of the questions have an answer.
    """
    answer = context.spec.answer_of(subject_of(context.stage))
    number = [one.name for one in context.spec.answer].index(answer.name)
    upload = next(item for item in context.inputs if item.stage == UPLOAD_STAGE)
    parts = sorted(
        (item for item in context.inputs if item.stage != UPLOAD_STAGE and item.name.startswith("part-")), key=_name
    )
    questions = _Questions(parts)
    for record in read_answers(upload.path, f"/answer/{number}/candidate/file"):
        questions.take(record)
    if questions.living and len(questions.answers) < LEAST_MATCHED * questions.living:
        raise StepFailed(
            "answers_of_other_questions",
            f"the file of {answer.name} answers {len(questions.answers):,} of {questions.living:,} questions "
            f"({_told(questions.left_out) or 'every line was used'}); name the file of answers to these questions, or ask what "
            "it answers",
        )
    ledgers, outputs = [], []
    for part in parts:
        rows = read_rows(part.path)
        for row in rows:
            _fill(row, questions.answers, context.stage)
            ledgers.append(row_ledger(row, context.stage))
        path = context.output_folder / part.name
        written = write_rows(path, rows)
        outputs.append(OutputObject(part.name, path, _PARQUET, written, ROW_SCHEMA_VERSION, kind="table"))
    ledger = total(ledgers)
    ledger.check()
    summary: dict[str, Any] = {
        "lines": questions.lines,
        "answers": sum(map(len, questions.answers.values())),
        "left_out": dict(sorted(questions.left_out.items())),
    }
    return WholeResult(outputs=tuple(outputs), ledger=ledger, summary=summary)


class _Questions:
    """What is asked, by how a line may name it, and the answers found so far."""

    def __init__(self, parts: Sequence[InputObject]) -> None:
        self.answers: dict[ItemKey, list[FileAnswer]] = {}
        self.left_out: Counter[str] = Counter()
        self.living = 0
        self.lines = 0
        self._facets: dict[str, list[tuple[ItemKey, str]]] = {}
        for part in parts:
            for row in iterate_rows(part.path):
                for facet in row.facets:
                    if facet.alive:
                        self.living += 1
                        key = (row.row_id, facet.index)
                        self._facets.setdefault(row.row_id, []).append((key, facet.system or ""))

    def take(self, record: FileAnswer | BadRecord) -> None:
        """Keep a line's answer, or count why it is none."""
        self.lines += 1
        if isinstance(record, BadRecord):
            self.left_out[record.reason] += 1
            return
        found = self._asked(record)
        if len(found) != 1:
            is_asked = record.item is None and record.row_id in self._facets
            self.left_out["ambiguous" if found else "another_system" if is_asked else "another_bench"] += 1
            return
        given = self.answers.setdefault(found[0], [])
        if any(_is_same(record, one) for one in given):
            self.left_out["duplicate"] += 1
        elif len(given) >= MAXIMUM_SAMPLES:
            self.left_out["too_many"] += 1
        else:
            given.append(record)

    def _asked(self, record: FileAnswer) -> list[ItemKey]:
        if record.item is not None:
            row_id, _, index = record.item.rpartition(":")
            return [key for key, _ in self._facets.get(row_id, ()) if str(key[1]) == index]
        members = self._facets.get(record.row_id or "", [])
        if record.system is not None:
            return [key for key, system in members if system == record.system]
        return [key for key, _ in members]


def _is_same(first: FileAnswer, second: FileAnswer) -> bool:
    """Whether two lines are one answer: samples that are numbered may well say the same."""
    if first.sample is not None or second.sample is not None:
        return first.sample == second.sample
    return (first.text, first.later) == (second.text, second.later)


def _fill(row: InstructionRow, answers: dict[ItemKey, list[FileAnswer]], stage: str) -> None:
    for facet in row.facets:
        if facet.alive:
            _fill_facet(facet, answers.get((row.row_id, facet.index), []), stage)


def _fill_facet(facet: Facet, given: Sequence[FileAnswer], stage: str) -> None:
    facet.answers = [Answer(one.text, "stop", 0, 0, best=len(given) == 1, later=one.later) for one in given]
    if not given:
        facet.rejection = Rejection(stage, "no_answer", "the file has no answer to this question")


def _name(item: InputObject) -> str:
    return item.name


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{reason}: {count:,}" for reason, count in sorted(counts.items()))
