"""All callbacks of a training, in the order that they need."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from transformers import TrainerCallback

from services.training.checkpoints.uploading import CheckpointUploader
from services.training.watching.checkpointing import CheckpointCallback
from services.training.watching.metrics import MetricsRecorder, Row
from services.training.watching.stopping import StopOnSignal, StopRequest
from services.training.watching.tensorboard import TensorBoard
from services.training.watching.trackers import experiment_trackers
from services.training.watching.watchdog import Watchdog
from shared.domain.models import METRICS_FILE
from shared.domain.training import TrainParameters

TENSORBOARD_FOLDER = "tensorboard"


class Watchers(NamedTuple):
    recorder: MetricsRecorder
    stop: StopOnSignal
    callbacks: list[TrainerCallback]
    """For `build_trainer`, in this order."""


def build_watchers(
    parameters: TrainParameters,
    *,
    folder: Path,
    stop: StopRequest,
    uploader: CheckpointUploader | None,
    resumed_from: Path | None,
    emit: Callable[[str, Row], None],
    progress: Callable[[int, int | None, str], None],
    mfu: Callable[[float], float] | None,
) -> Watchers:
    """Callbacks that write `metrics.jsonl` and `tensorboard/` below `folder`. Built in every training process; `uploader`
    is None in all but the first. Raises StepFailed where the environment asks for a tracker that is not installed.

    The row is written before the watchdog judges it, so that the loss that ends a training is in the record; checkpoints come
    last, so that they hold what the others wrote.
    """
    recorder = MetricsRecorder(
        folder / METRICS_FILE,
        stage=parameters.name,
        emit=emit,
        progress=progress,
        mfu=mfu,
        resumed_from=resumed_from,
    )
    stopping = StopOnSignal(stop)
    checkpoints = CheckpointCallback(
        uploader,
        every_steps=parameters.checkpoint_every_steps,
        every_seconds=parameters.checkpoint_every_seconds,
        tokens=lambda: recorder.tokens,
        resumed_from=resumed_from,
    )
    callbacks: list[TrainerCallback] = [
        recorder,
        TensorBoard(folder / TENSORBOARD_FOLDER, recorder),
        *experiment_trackers(os.environ),
        Watchdog(),
        stopping,
        checkpoints,
    ]
    return Watchers(recorder, stopping, callbacks)
