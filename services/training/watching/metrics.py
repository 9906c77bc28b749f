"""The rows of a training: `metrics.jsonl`, job events and progress, each step told once however often training resumes."""

import json
import math
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from services.training.watching.resumable import ResumableCallback
from shared.domain.models import METRICS_FILE

Row = dict[str, Any]

EVENT = "train.metrics"
EVENT_SECONDS = 1.0
"""At least so long between two events of training rows. The last row is always sent."""

_WINDOW_ROWS = 20
"""Rows that the remaining time is reckoned from."""


class MetricsRecorder(ResumableCallback):
    """Writes a row for each log of the Trainer and each evaluation.

    A training row: step, epoch, tokens, seconds, loss, learning_rate, grad_norm, tokens_per_second, mfu, memory_bytes and
    whatever else the trainer logs as a number (rewards/*). `seconds` is time spent on training steps, without evaluations
    and saving, over all attempts. `tokens` are real ones. Numbers that are not finite are written as null.

    `mfu` turns tokens per second into the share of the device's peak that is used, or is None where no peak is known.
    `emit(type, data)` receives job events, `progress(done, total, note)` what the worker shows. `resumed_from` is the
    checkpoint's folder: its rows are taken over as far as its step. Only the first process writes, emits and reports.
    """

    def __init__(
        self,
        path: Path,
        *,
        stage: str,
        emit: Callable[[str, Row], None],
        progress: Callable[[int, int | None, str], None],
        mfu: Callable[[float], float] | None,
        resumed_from: Path | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.tokens = 0
        self.resumed_from: list[int] = []
        """Steps of the checkpoints that the training went on from, over all attempts that got to a later one, and this one."""
        self.last_row: Row | None = None
        """The row that the log at hand made; None where it made none."""
        self._stage = stage
        self._emit = emit
        self._progress = progress
        self._mfu = mfu
        self._resumed_from = resumed_from
        self._clock = clock
        self._seconds = 0.0
        self._mark = clock()
        self._window: deque[tuple[int, int, float]] = deque(maxlen=_WINDOW_ROWS + 1)
        self._emitted_at = -math.inf
        self._unsent: Row | None = None
        self._note = ""

    def memory(self) -> dict[str, Any]:
        return {"seconds": self._seconds, "tokens": self.tokens, "resumed_from": list(self.resumed_from)}

    def recall(self, memory: dict[str, Any]) -> None:
        self._seconds, self.tokens = memory["seconds"], memory["tokens"]
        self.resumed_from = list(memory["resumed_from"])

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.recall_from(state)
        if self._resumed_from is not None:
            self.resumed_from.append(state.global_step)
        if state.is_world_process_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            rows = [] if self._resumed_from is None else read_rows(self._resumed_from / METRICS_FILE)
            with self.path.open("w", encoding="utf-8") as file:
                file.writelines(_line(row) for row in rows if row["step"] <= state.global_step)
        self._window.append((state.global_step, self.tokens, self._seconds))
        self._mark = self._clock()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        self._advance()
        if state.is_world_process_zero:
            self._progress(state.global_step, state.max_steps, self._note)
        if state.global_step >= state.max_steps:
            control.should_log = True
        return control

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs: dict[str, Any] = kwargs["logs"]
        self.last_row = None
        is_evaluation = any(name.startswith("eval_") for name in logs)
        if is_evaluation:
            row = self._start(state, logs) | _numbers(logs)
        elif "loss" in logs:
            self._advance()
            self.tokens = int(logs.get("tokens", state.num_input_tokens_seen))
            row = self._start(state, logs) | self._training_row(state, logs)
        else:  # the Trainer's summary when it ends: its times know nothing of earlier attempts
            return
        self.last_row = row
        if not state.is_world_process_zero:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))
        self._send(row, state, at_once=is_evaluation or row.get("loss") is None)

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # The time left is that of the steps; without a word, the evaluation behind the last one looks like a standstill.
        if state.is_world_process_zero:
            self._progress(state.global_step, state.max_steps, "evaluating on held-out rows")

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._mark = self._clock()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            assert args.output_dir is not None
            shutil.copyfile(self.path, Path(args.output_dir) / f"checkpoint-{state.global_step}" / METRICS_FILE)
        self._mark = self._clock()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.flush()

    def flush(self) -> None:
        """Send the row that was held back, if any. To be called also when training ends by an error."""
        if self._unsent is not None:
            self._emit(EVENT, self._unsent)
            self._unsent = None

    def _advance(self) -> None:
        now = self._clock()
        self._seconds += now - self._mark
        self._mark = now

    def _start(self, state: TrainerState, logs: dict[str, Any]) -> Row:
        epoch = logs.get("epoch", state.epoch)
        return {"step": state.global_step, "epoch": epoch, "tokens": self.tokens, "seconds": round(self._seconds, 3)}

    def _training_row(self, state: TrainerState, logs: dict[str, Any]) -> Row:
        _, tokens, seconds = self._window[-1]
        elapsed = self._seconds - seconds
        speed = (self.tokens - tokens) / elapsed if elapsed > 0 else None
        self._window.append((state.global_step, self.tokens, self._seconds))
        numbers = _numbers(logs)
        first = {name: numbers.pop(name, None) for name in ("loss", "learning_rate", "grad_norm")}
        measured = {
            "tokens_per_second": speed,
            "mfu": None if speed is None or self._mfu is None else self._mfu(speed),
            "memory_bytes": _memory_bytes(),
        }
        return first | measured | numbers

    def _send(self, row: Row, state: TrainerState, *, at_once: bool) -> None:
        remaining = self._remaining_seconds(state)
        data = {"stage": self._stage, **row, "steps": state.max_steps, "remaining_seconds": remaining}
        if "loss" in row:
            self._note = _note(row, remaining)
            self._progress(state.global_step, state.max_steps, self._note)
        now = self._clock()
        if at_once or now - self._emitted_at >= EVENT_SECONDS:
            if "loss" not in row:
                self.flush()
            self._unsent = None
            self._emit(EVENT, data)
            self._emitted_at = now
        else:
            self._unsent = data

    def _remaining_seconds(self, state: TrainerState) -> float | None:
        first_step, _, first_seconds = self._window[0]
        last_step, _, last_seconds = self._window[-1]
        if last_step == first_step:
            return None
        per_step = (last_seconds - first_seconds) / (last_step - first_step)
        return round((state.max_steps - state.global_step) * per_step, 1)


def read_rows(path: Path) -> list[Row]:
    """All rows of a `metrics.jsonl`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def duration(seconds: float) -> str:
    """`40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _note(row: Row, remaining: float | None) -> str:
    parts = ["loss not finite" if row["loss"] is None else f"loss {row['loss']:.3f}"]
    if row["tokens_per_second"] is not None:
        parts.append(f"{row['tokens_per_second']:,.0f} tokens/s")
    if remaining is not None:
        parts.append(f"{duration(remaining)} left")
    return ", ".join(parts)


def _numbers(logs: dict[str, Any]) -> Row:
    known = {"step", "epoch", "tokens"}
    return {
        name: value if math.isfinite(value) else None
        for name, value in logs.items()
        if name not in known and isinstance(value, int | float)
    }


def _memory_bytes() -> int:
    """The most that the device held at once; on CPU what the process holds now."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
