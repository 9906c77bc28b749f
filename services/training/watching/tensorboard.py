"""TensorBoard files of a training, whole on whichever worker it ends."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.training.watching.metrics import MetricsRecorder, Row, read_rows


class TensorBoard(TrainerCallback):
    """Writes the recorder's rows as curves into `folder`; to be placed after the recorder.

    transformers has a callback of this name too, but it begins at the step where training resumed: curves of earlier attempts
    would stay on the workers that made them. Ours draws them again from the rows that came with the checkpoint.
    """

    def __init__(self, folder: Path, recorder: MetricsRecorder) -> None:
        self._folder = folder
        self._recorder = recorder
        self._writer: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        from torch.utils.tensorboard import SummaryWriter  # loads slowly

        self._writer = SummaryWriter(log_dir=str(self._folder))
        for row in read_rows(self._recorder.path):
            self._write(row)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._writer is not None and self._recorder.last_row is not None:
            self._write(self._recorder.last_row)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, row: Row) -> None:
        for name, value in row.items():
            if name == "step" or value is None:
                continue
            is_evaluation = name.startswith("eval_")
            tag = f"evaluation/{name.removeprefix('eval_')}" if is_evaluation else f"training/{name}"
            if is_evaluation or "loss" in row:
                self._writer.add_scalar(tag, value, row["step"])
        self._writer.flush()
