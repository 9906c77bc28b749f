"""Decide when the Trainer saves, and hand what it saved to the uploader."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.training.checkpoints.uploading import CheckpointUploader
from services.training.watching.agreement import any_process, wait_for_all


class CheckpointCallback(TrainerCallback):
    """Saves every so many steps and every so many seconds, whichever comes first.

    It must be the last of the callbacks: what others write into the checkpoint's folder is then in it, and what they asked
    of a step is known. Every save is preceded by a logged row, so that the watchdog sees the loss before weights are kept.

    `uploader` is None in every process but the first. `tokens` says how many real tokens have been trained on.
    `resumed_from` is the local folder that training went on from; it is deleted after the first step, when all is loaded.
    """

    def __init__(
        self,
        uploader: CheckpointUploader | None,
        *,
        every_steps: int | None,
        every_seconds: float,
        tokens: Callable[[], int],
        resumed_from: Path | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._uploader = uploader
        self._every_steps = every_steps
        self._every_seconds = every_seconds
        self._tokens = tokens
        self._resumed_from = resumed_from
        self._clock = clock
        self._saved_at = clock()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._saved_at = self._clock()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        due = self._clock() - self._saved_at >= self._every_seconds
        if self._every_steps is not None:
            due = due or state.global_step % self._every_steps == 0
        if any_process(due):  # clocks differ a little between processes
            control.should_save = True
        if control.should_save:
            control.should_log = True
            if self._uploader is not None:
                self._uploader.make_room()
        if self._resumed_from is not None and state.is_world_process_zero:
            shutil.rmtree(self._resumed_from, ignore_errors=True)
            self._resumed_from = None
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._saved_at = self._clock()
        wait_for_all()  # each process writes its random state into the folder by itself
        if self._uploader is not None:
            assert args.output_dir is not None
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self._uploader.submit(folder, state.global_step, self._tokens())
