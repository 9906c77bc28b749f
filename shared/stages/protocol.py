"""The two shapes of a stage handler, and what a handler is given. Everything else of running a step is shared.

A service's `handlers.py` exports `HANDLERS: tuple[RowStageHandler | WholeStepHandler, ...]`; the worker imports it by the
name of the role (`services/<role>/handlers.py`): the one composition root.
"""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shared.domain.answers import AnswerParameters
from shared.domain.benches import BenchRegistration
from shared.domain.jobs import JobSpec
from shared.domain.ledger import Ledger
from shared.domain.models import WEIGHT_KINDS, ModelRegistration
from shared.domain.plan import StageKind
from shared.domain.rows import InstructionRow
from shared.domain.taxonomy import Taxonomy
from shared.llm.protocol import LanguageModel, Scorer


class RowContext(msgspec.Struct, frozen=True):
    """What `process` may use. `spec` is the job's frozen spec: a handler reads its own part (`spec.augment`, …)."""

    job_id: str
    stage: str
    spec: JobSpec
    taxonomy: Taxonomy
    teacher: LanguageModel
    """Whom the stage asks: the job's teacher, in an answer stage the candidate, in a stage that judges answers the judge."""
    judge: LanguageModel | None
    scorer: Scorer | None = None
    """Of an answer stage: its reward model, where it has one."""
    beside: Mapping[str, Mapping[str, InstructionRow]] = {}
    """Of a stage whose rows are compared with others (`RowStageHandler.joins`): the rows of the further stages that it needs, by
    stage name and row id."""

    @property
    def candidate(self) -> LanguageModel:
        """Who answers, in an answer stage."""
        return self.teacher

    @property
    def answer(self) -> AnswerParameters:
        """The parameters of this answer stage. Raises LookupError in any other."""
        return self.spec.answer_of(self.stage)


class RowStageHandler(msgspec.Struct, frozen=True):
    """A row stage. `process` fills its fields of every living facet, or rejects the facet with a reason, and returns the
    row; it never raises for a fault of one row. StepDeferred, StepFailed and cancellation pass through it."""

    kind: StageKind
    process: Callable[[InstructionRow, RowContext], Awaitable[InstructionRow]]
    prompt_versions: Mapping[str, str]
    """Prompt name -> hash of its content, for manifests."""
    joins: bool = False
    """True: the same shards of all further stages that it needs are read too, see `RowContext.beside`."""
    takes_rejected: bool = False
    """True: rows all of whose facets were rejected before are processed too, so that what they lack is written down."""


class InputObject(msgspec.Struct, frozen=True):
    """An object that a whole step reads: already downloaded to `path`, its sha256 verified. The objects of one stage lie below
    one folder, by their names: a model's files are found together."""

    stage: str
    """Name of the stage that made it, or `upload`."""
    name: str
    """File name within the stage, such as `part-00003.parquet`, `rejected.parquet`; or the id of an upload."""
    path: Path
    rows: int | None
    metadata: dict[str, Any]
    id: str = ""
    """Id of the artifact or upload, as lineage names it."""
    sha256: str = ""


class InputReference(msgspec.Struct, frozen=True):
    """An object that a whole step reads, before it is downloaded: fields as in `InputObject`, `key` says where it lies."""

    stage: str
    name: str
    key: str
    sha256: str
    rows: int | None
    metadata: dict[str, Any]
    id: str = ""


class OutputObject(msgspec.Struct, frozen=True):
    """An object that a whole step made under its `output_folder`. `name` is relative to the stage's (or job's) folder."""

    name: str
    path: Path
    media_type: str
    rows: int | None = None
    schema_version: str | None = None
    kind: str = "file"
    """table | report | card | manifest | file, and those of `shared.domain.models`"""
    job_level: bool = False
    """True: lies in the job's folder (report.html, README.md, sample.jsonl) instead of the stage's."""
    metadata: dict[str, Any] = {}


def _tell_nobody(*_: object) -> None:
    """For contexts outside a worker."""


class WholeContext(msgspec.Struct, frozen=True):
    """What the `run` of a whole step is given. It runs in a child process of its own, without a loop.

    `inputs` are the objects of all stages in `needs`, without the kinds that the handler leaves out (and the job's uploads, for
    curate); a training has its data and its base, see `shared.stages.training_inputs`. `progress(done, total, note)`
    may be called as often as wished; it is thinned out by the runner. `stage_ledgers` holds the totals of all finished
    stages of the job, by stage name; `facts` what else the report prints (job id, times, cost, usage per stage).

    `attempt_id` is in the keys of all that this attempt writes to the store itself, which it opens with its own settings.
    `emit(type, data)` adds an event to the job while the step runs, of a type in `child_lines.EVENT_TYPES`.
    `starts_from(point)` says what earlier work the step goes on from, such as `step 120`: only crashes that start from the same
    point count as repeats of each other, and three of those end the step.
    """

    job_id: str
    stage: str
    spec: JobSpec
    taxonomy: Taxonomy
    inputs: tuple[InputObject, ...]
    output_folder: Path
    progress: Callable[[int, int | None, str], None]
    stage_ledgers: Mapping[str, Ledger] = {}
    facts: Mapping[str, Any] = {}
    attempt_id: int = 0
    emit: Callable[[str, dict[str, Any]], None] = _tell_nobody
    starts_from: Callable[[str], None] = _tell_nobody


class WholeResult(msgspec.Struct, frozen=True):
    outputs: tuple[OutputObject, ...]
    ledger: Ledger
    summary: dict[str, Any] = {}
    """Small JSON kept with the step and shown on the job page."""
    model: ModelRegistration | None = None
    """Registered in the transaction that commits the step, as is the next."""
    bench: BenchRegistration | None = None


class WholeStepHandler(msgspec.Struct, frozen=True):
    """A whole step. `run` is `package.module:function` taking a WholeContext and returning a WholeResult: named, not
    imported, so that the worker process never loads what only the child needs."""

    kind: StageKind
    run: str
    leaves_out: frozenset[str] = WEIGHT_KINDS
    """Kinds of objects of the needed stages that are not downloaded. A training is given what `training_inputs` finds instead."""
    stops_itself: bool = False
    """True: when the step shall stop, its process is sent SIGTERM at once. It then has the grace to put away what it did and to
    raise StepInterrupted, or to come to its end."""
