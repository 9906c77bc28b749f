"""One process of a training: `python -m services.training.rank FOLDER`, or `train` where there is only one.

Every process loads the base and the rows; the first one reports, stores checkpoints and saves the model.
"""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import Trainer

from services.training.chat_template import install
from services.training.checkpoints.blocking_store import BlockingStore
from services.training.checkpoints.manifest import CheckpointManifest
from services.training.checkpoints.uploading import CheckpointUploader
from services.training.data.prepared import PreparedData, load_prepared
from services.training.fused_heads import own_model
from services.training.models.loading import LoadedModel, load_base, training_device, training_dtype
from services.training.ranks import end_with_parent, is_first
from services.training.reference import ReferenceLogProbabilities, StoredParts, compute_reference
from services.training.registration.saving import SavedModel, save_model
from services.training.request import (
    OUTCOME_FILE,
    RankAnswer,
    RankFault,
    TrainingOutcome,
    TrainingRequest,
    read_request,
    write_json,
)
from services.training.speed import flops_per_token, peak_flops
from services.training.telling import Tell, tell_lines, tell_nobody
from services.training.trainers.build import build_trainer
from services.training.watching.agreement import any_process, wait_for_all
from services.training.watching.callbacks import Watchers, build_watchers
from services.training.watching.metrics import read_rows
from services.training.watching.stopping import StopRequest
from shared.artifacts import open_store
from shared.artifacts.layout import checkpoint_prefix
from shared.domain.errors import InputRefused, StepFailed, StepInterrupted
from shared.domain.training import Method, TrainParameters, Tuning
from shared.settings import get_settings
from shared.telemetry.logs import configure_logging, error_place

LINES_FILE = "lines.jsonl"
FIRST_PID_FILE = "first.pid"
_EVALUATION_TIMES = frozenset({"eval_runtime", "eval_samples_per_second", "eval_steps_per_second"})


def train(request: TrainingRequest, stop: StopRequest, tell: Tell) -> TrainingOutcome:
    """Train from the base or on from a checkpoint, to the end or until `stop` asks; the model is saved at the end.

    Raises InputRefused for a base or parameters that do not go together, and StepFailed where the watchdog ends it.
    """
    parameters = request.training()
    PartialState()  # knows which GPU is this process's, before anything is put there
    loaded = _load(parameters, request.base_folder)
    data = load_prepared(request.data_folder)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with ExitStack() as stack:
        store = stack.enter_context(BlockingStore(open_store(get_settings()))) if is_first() else None
        reference = _reference(request, parameters, loaded, data, store, stop, tell)
        uploader = None if store is None else _uploader(request, parameters, store, tell)
        watchers = build_watchers(
            parameters,
            folder=request.output_folder,
            stop=stop,
            uploader=uploader,
            resumed_from=request.resume_folder,
            emit=tell.emit,
            progress=tell.progress,
            mfu=_share_of_peak(parameters, loaded, data),
        )
        trainer = build_trainer(
            parameters,
            loaded.model,
            loaded.tokenizer,
            data,
            request.work_folder / "trainer",
            watchers.callbacks,
            reference,
            recompute=request.recompute,
        )
        trained = sum(parameter.numel() for parameter in loaded.model.parameters() if parameter.requires_grad)
        stored, saved = True, None
        try:
            trainer.train(resume_from_checkpoint=None if request.resume_folder is None else str(request.resume_folder))
            if not watchers.stop.stopped:
                saved = _save(request, parameters, loaded, trainer)
            elif uploader is not None:
                stored = uploader.finish(request.finish_seconds)
        finally:
            watchers.recorder.flush()
            if uploader is not None:
                uploader.close()
        wait_for_all()
        return _outcome(parameters, trainer, watchers, trained, saved, stored=stored)


def _load(parameters: TrainParameters, folder: Path) -> LoadedModel:
    try:
        loaded = load_base(parameters, folder)
    except InputRefused as error:
        raise InputRefused(str(error), error.pointer or "/base") from error
    install(loaded.tokenizer)
    return loaded


def _reference(
    request: TrainingRequest,
    parameters: TrainParameters,
    loaded: LoadedModel,
    data: PreparedData,
    store: BlockingStore | None,
    stop: StopRequest,
    tell: Tell,
) -> ReferenceLogProbabilities | None:
    """Taken from the store where an earlier attempt or another training computed it, else computed and kept there, part by
    part. Raises StepInterrupted where `stop` asks."""
    if parameters.method is not Method.DPO:
        return None

    def watch(done: int, total: int) -> None:
        if any_process(stop.asked):
            raise StepInterrupted(
                f"the training stopped at {done:,} of {total:,} pairs of its reference log-probabilities; whole parts are stored"
            )
        tell.progress(done, total, "reference log-probabilities")

    parts = None if store is None else StoredParts(store, request.project_id, request.reference_key)
    made = compute_reference(loaded.model, data.train, data.test, device=training_device(), parts=parts, watch=watch)
    pairs = len(data.train) + (0 if data.test is None else len(data.test))
    tell.note(
        request.stage,
        f"computed the reference log-probabilities of {made.computed:,} of {pairs:,} pairs; the others were stored"
        if 0 < made.computed < pairs
        else f"computed the reference log-probabilities of {pairs:,} pairs"
        if made.computed
        else f"took the reference log-probabilities of {pairs:,} pairs from an earlier training or attempt",
    )
    return made


def _uploader(
    request: TrainingRequest, parameters: TrainParameters, store: BlockingStore, tell: Tell
) -> CheckpointUploader:
    def on_stored(manifest: CheckpointManifest) -> None:
        tell.note(request.stage, f"stored the checkpoint of step {manifest.step} ({manifest.size / 2**20:,.1f} MiB)")

    return CheckpointUploader(
        store,
        checkpoint_prefix(request.project_id, request.job_id, request.stage),
        attempt_id=request.attempt_id,
        fingerprint=request.fingerprint,
        world_size=parameters.processes,
        spool=request.work_folder / "spool",
        tell=lambda text: tell.note(request.stage, text),
        on_stored=on_stored,
    )


def _share_of_peak(
    parameters: TrainParameters, loaded: LoadedModel, data: PreparedData
) -> Callable[[float], float] | None:
    """Tokens per second -> model FLOPs utilisation, by the mean FLOPs of a token; None where no peak is known."""
    peak = peak_flops(training_device(), training_dtype(parameters))
    per_token = flops_per_token(parameters, loaded.model, data.train)
    if peak is None or per_token is None:
        return None
    return lambda tokens_per_second: tokens_per_second * per_token / (peak * parameters.processes)


def _save(request: TrainingRequest, parameters: TrainParameters, loaded: LoadedModel, trainer: Trainer) -> SavedModel:
    sharded = parameters.processes > 1 and torch.cuda.is_available()
    # Adapters are merged on a base that is whole: plain weights, as they were loaded.
    plain = parameters.model_copy(update={"tuning": Tuning.FULL})
    return save_model(
        loaded.model,
        loaded.tokenizer,
        request.output_folder,
        merge=parameters.lora.merge,
        base_name=request.base_name,
        full_state=(lambda: trainer.accelerator.get_state_dict(trainer.model_wrapped)) if sharded else None,
        plain_base=lambda: own_model(load_base(plain, request.base_folder).model),
        is_first_process=is_first(),
    )


def _outcome(
    parameters: TrainParameters,
    trainer: Trainer,
    watchers: Watchers,
    trained: int,
    saved: SavedModel | None,
    *,
    stored: bool,
) -> TrainingOutcome:
    rows = read_rows(watchers.recorder.path) if is_first() else []
    training = [row for row in rows if "loss" in row]
    evaluations = [row for row in rows if "eval_loss" in row]
    device = training_device()
    saved = saved or SavedModel()
    return TrainingOutcome(
        stopped=watchers.stop.stopped,
        checkpoint_stored=stored,
        steps=trainer.state.global_step,
        epochs=float(trainer.state.epoch or 0.0),
        tokens=watchers.recorder.tokens,
        seconds=training[-1]["seconds"] if training else 0.0,
        world_size=parameters.processes,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        trained_parameters=trained,
        resumed_from=watchers.recorder.resumed_from,
        final=training[-1] if training else {},
        evaluation={
            name.removeprefix("eval_"): value
            for row in evaluations[-1:]
            for name, value in row.items()
            if name.startswith("eval_") and name not in _EVALUATION_TIMES
        },
        saved=saved,
    )


def main(folder: Path) -> None:
    """One of several processes: what went wrong in it stands in the answer of the first one that wrote one."""
    end_with_parent()
    configure_logging(get_settings(), "step")
    request = read_request(folder)
    tell = tell_lines(folder / LINES_FILE) if is_first() else tell_nobody()
    stop = StopRequest()
    with stop.on_sigterm():
        if is_first():
            write_json(folder / FIRST_PID_FILE, os.getpid())  # from now on it may be told to stop
        try:
            outcome = train(request, stop, tell)
        except BaseException as error:
            if not (folder / OUTCOME_FILE).exists():
                write_json(folder / OUTCOME_FILE, RankAnswer(fault=_fault(error)))
            raise
    if is_first():
        write_json(folder / OUTCOME_FILE, RankAnswer(outcome=outcome))


def _fault(error: BaseException) -> RankFault:
    match error:
        case InputRefused():
            return RankFault("refused", error.code, str(error), error.pointer)
        case StepFailed():
            return RankFault("failed_step", error.code, str(error))
        case StepInterrupted():
            return RankFault("stopped", error.code, str(error))
        case _:
            # The text of a foreign exception may quote data: its class and place are enough to find it.
            return RankFault("failed", "step_error", f"the training failed: {error_place(error)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
