"""The order of business of one training: base, rows, checks, checkpoint, training, and what is left behind."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the libraries below are imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from transformers import AutoConfig
from transformers.utils.logging import disable_progress_bar

from services.training.base_model import digest_of_base, place_base
from services.training.chat_template import install
from services.training.checkpoints.blocking_store import BlockingStore
from services.training.checkpoints.finding import fetch_newest
from services.training.checkpoints.manifest import fingerprint_of
from services.training.data.prepared import PreparedData, prepare
from services.training.models.loading import give_pad_token, load_tokenizer
from services.training.preflight import PreflightReport, run_preflight, this_device
from services.training.processes import check_devices, run_training
from services.training.reference import reference_key
from services.training.registering import register
from services.training.registration.hub import check_hub
from services.training.request import TrainingOutcome, TrainingRequest
from services.training.results import training_outputs
from services.training.telling import Tell
from services.training.watching.stopping import StopRequest
from shared.artifacts import open_store
from shared.artifacts.layout import checkpoint_prefix
from shared.domain.errors import InputRefused, StepInterrupted
from shared.domain.ledger import Ledger
from shared.domain.training import TrainParameters
from shared.settings import get_settings
from shared.stages.protocol import InputObject, WholeContext, WholeResult
from shared.stages.training_inputs import BASE_STAGE, UPLOAD_STAGE

COURSE_FREE = frozenset(
    {
        "preset",
        "name",
        "log_every_steps",
        "checkpoint_every_steps",
        "checkpoint_every_seconds",
        "maximum_lost_share",
        "dry_run",
        "push_to_hub",
    }
)
"""Parameters that do not change what is learnt: a checkpoint is of use whatever they are."""


def run(context: WholeContext) -> WholeResult:
    """Run the training of this stage. Raises InputRefused for what the user has to change, StepInterrupted when it was
    told to stop and its checkpoint is stored."""
    number, parameters = next(
        (number, training) for number, training in enumerate(context.spec.train) if training.name == context.stage
    )
    disable_progress_bar()  # type: ignore[no-untyped-call]
    stop = StopRequest()
    with stop.on_sigterm():
        try:
            return _Training(context, parameters, stop).run()
        except InputRefused as error:
            # Everything below points into the training; the user's spec has it at its place in the list.
            raise InputRefused(str(error), f"/train/{number}{error.pointer or ''}") from error


class _Training:
    """One attempt at a training."""

    def __init__(self, context: WholeContext, parameters: TrainParameters, stop: StopRequest) -> None:
        self.context = context
        self.parameters = parameters
        self.stop = stop
        self.tell = Tell(context.emit, context.progress)
        self.work = context.output_folder.parent / "work"
        self.work.mkdir()
        self.settings = get_settings()
        self.project_id = str(context.facts["project_id"])

    def run(self) -> WholeResult:
        train_file, test_file = _data_files(self.context.inputs)
        check_devices(self.parameters.processes)
        check_hub(self.parameters, pointer="/push_to_hub")
        self.context.progress(0, None, "fetching the base model")
        base = place_base(
            self.parameters, self.context.inputs, self.settings.models_folder, train_file, self.work / "base"
        )
        self._stop_if_asked()
        data, report = self._prepare(base, train_file, test_file)
        if self.parameters.dry_run:
            return WholeResult(
                outputs=training_outputs(self.context.output_folder), ledger=_ledger(data), summary={"dry_run": True}
            )
        self._stop_if_asked()
        with BlockingStore(open_store(self.settings)) as store:
            request = self._request(store, base, data, report)
            self._stop_if_asked()
            outcome = run_training(request, self.work / "processes", self.stop, self.tell)
            if outcome.stopped:
                kept = "is stored" if outcome.checkpoint_stored else "could not be stored in time"
                raise StepInterrupted(f"the training stopped at step {outcome.steps}; its checkpoint {kept}")
            return self._finish(request, outcome, data)

    def _prepare(self, base: Path, train_file: Path, test_file: Path | None) -> tuple[PreparedData, PreflightReport]:
        tokenizer = load_tokenizer(base)
        install(tokenizer)
        give_pad_token(tokenizer)
        data = prepare(self.parameters, tokenizer, train_file, test_file, self.work / "data", progress=self._progress)
        self._stop_if_asked()
        self.context.progress(0, None, "checking memory, disk and store")
        report = run_preflight(
            self.parameters,
            tokenizer,
            data,
            AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True),
            this_device(),
            self.work,
            open_store(self.settings),
            self.context.output_folder,
        )
        return data, report

    def _request(
        self, store: BlockingStore, base: Path, data: PreparedData, report: PreflightReport
    ) -> TrainingRequest:
        base_digest = digest_of_base(base)
        counts = data.counts
        digests = [counts.train.digest, None if counts.test is None else counts.test.digest]
        fingerprint = fingerprint_of(
            parameters=self.parameters.model_dump(mode="json", exclude=set(COURSE_FREE)),
            data=digests,
            base=base_digest,
            world_size=self.parameters.processes,
        )
        return TrainingRequest(
            parameters=self.parameters.model_dump(mode="json"),
            project_id=self.project_id,
            job_id=self.context.job_id,
            stage=self.context.stage,
            attempt_id=self.context.attempt_id,
            base_folder=base,
            base_name=_base_name(self.parameters),
            base_digest=base_digest,
            data_folder=self.work / "data",
            reference_key=reference_key(self.parameters, base_digest, digests),
            resume_folder=self._resume_folder(store, fingerprint),
            work_folder=self.work,
            output_folder=self.context.output_folder,
            fingerprint=fingerprint,
            recompute=bool(report.recompute),
            finish_seconds=self.settings.cancel_grace_seconds,
        )

    def _resume_folder(self, store: BlockingStore, fingerprint: str) -> Path | None:
        """Where the checkpoint to go on from was put; None to begin at the first step."""
        prefix = checkpoint_prefix(self.project_id, self.context.job_id, self.context.stage)
        found = fetch_newest(store, prefix, fingerprint, self.work / "resumed")
        for refused in found.refused:
            self.tell.note(self.context.stage, f"did not go on from a checkpoint: {refused}")
        step = 0 if found.manifest is None else found.manifest.step
        self.context.starts_from(f"step {step}")
        if found.manifest is not None:
            self.tell.note(self.context.stage, f"goes on from the checkpoint of step {step}")
        return found.folder

    def _finish(self, request: TrainingRequest, outcome: TrainingOutcome, data: PreparedData) -> WholeResult:
        self.context.progress(outcome.steps, outcome.steps, "saving the model")
        registration, pushed = register(self.context, self.parameters, request, outcome, data)
        if pushed is not None:
            self.tell.note(self.context.stage, pushed.problem or f"pushed the model: {pushed.address}")
        summary = {
            "name": self.parameters.name,
            "method": self.parameters.method.value,
            "tuning": self.parameters.tuning.value,
            "base": self.parameters.base.model_dump(mode="json", exclude_none=True),
            "random_base": registration.lineage["random_weights"],
            "rows": data.counts.train.kept,
            "test_rows": 0 if data.counts.test is None else data.counts.test.kept,
            "steps": outcome.steps,
            "tokens": outcome.tokens,
            "seconds": outcome.seconds,
            "world_size": outcome.world_size,
            "device": outcome.device,
            "resumed_from": outcome.resumed_from,
            "final": outcome.final,
            "evaluation": outcome.evaluation,
        }
        record = {
            **summary,
            "parameters": request.parameters,
            "finished_at": datetime.now(UTC).isoformat("T", "seconds"),
        }
        path = self.context.output_folder / "training.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
        outputs = training_outputs(self.context.output_folder)
        # The checkpoints stay until the stage has succeeded: the model is still to be uploaded and committed.
        return WholeResult(outputs=outputs, ledger=_ledger(data), summary=summary, model=registration)

    def _progress(self, done: int, total: int | None, note: str) -> None:
        self._stop_if_asked()
        self.context.progress(done, total, note)

    def _stop_if_asked(self) -> None:
        if self.stop.asked:
            raise StepInterrupted("the training was told to stop before its first step")


def _data_files(inputs: Sequence[InputObject]) -> tuple[Path, Path | None]:
    """The file that is trained on, and the test rows where there are any: an upload has none."""
    uploads = [item for item in inputs if item.stage == UPLOAD_STAGE]
    if uploads:
        # Formats are told by suffix, which a user's file has in its name alone.
        target = uploads[0].path.with_name(f"rows{Path(str(uploads[0].metadata.get('name', ''))).suffix.lower()}")
        uploads[0].path.rename(target)
        return target, None
    files = {item.name: item.path for item in inputs if item.stage != BASE_STAGE}
    return files["train.parquet"], files.get("test.parquet")


def _ledger(data: PreparedData) -> Ledger:
    counts = data.counts.train
    return Ledger(
        rows_in=counts.drawn, rows_out=counts.kept, rows_rejected=counts.drawn - counts.kept, reasons=dict(counts.lost)
    )


def _base_name(parameters: TrainParameters) -> str:
    base = parameters.base
    return str(base.hub or base.registry or base.folder or base.stage or base.random)
