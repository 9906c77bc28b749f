import json
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from services.training.watching.metrics import MetricsRecorder, duration, read_rows
from tests.services.training.output_support import arguments


class Scene:
    """A recorder, a clock that is set by hand, and what was sent."""

    def __init__(self, folder: Path, *, resumed_from: Path | None = None, state: TrainerState | None = None) -> None:
        self.now = 100.0
        self.events: list[dict[str, Any]] = []
        self.notes: list[tuple[int, int | None, str]] = []
        self.recorder = MetricsRecorder(
            folder / "metrics.jsonl",
            stage="sft",
            emit=self.emit,
            progress=lambda done, total, note: self.notes.append((done, total, note)),
            mfu=lambda speed: speed / 1000,
            resumed_from=resumed_from,
            clock=lambda: self.now,
        )
        self.arguments: TrainingArguments = arguments(folder / "trainer")
        self.state = state or TrainerState(max_steps=10, stateful_callbacks={})
        self.control = TrainerControl()
        self.recorder.on_train_begin(self.arguments, self.state, self.control)

    def emit(self, kind: str, data: dict[str, Any]) -> None:
        assert kind == "train.metrics"
        json.dumps(data, allow_nan=False)
        self.events.append(data)

    def step(self, seconds: float = 2.0, tokens: int = 500, **logs: Any) -> None:
        self.state.global_step += 1
        self.now += seconds
        self.recorder.on_step_end(self.arguments, self.state, self.control)
        self.log({"loss": 1.25, "tokens": self.recorder.tokens + tokens} | logs)

    def log(self, logs: dict[str, Any]) -> None:
        self.recorder.on_log(self.arguments, self.state, self.control, logs=logs)

    def save(self) -> Path:
        folder = Path(self.arguments.output_dir or "") / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True)
        self.state.stateful_callbacks = {"MetricsRecorder": self.recorder.state()}  # type: ignore[assignment]
        self.state.save_to_json(str(folder / "trainer_state.json"))
        self.recorder.on_save(self.arguments, self.state, self.control)
        return folder

    @property
    def rows(self) -> list[dict[str, Any]]:
        return read_rows(self.recorder.path)


def test_a_row_holds_what_the_contract_says_in_its_units(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.step(
        seconds=2.0, tokens=500, grad_norm=0.5, learning_rate=1e-4, epoch=0.1, **{"rewards/margins": 0.2, "text": "no"}
    )
    (row,) = scene.rows
    assert row.pop("memory_bytes") > 10**6
    assert row == {
        "step": 1,
        "epoch": 0.1,
        "tokens": 500,
        "seconds": 2.0,
        "loss": 1.25,
        "learning_rate": 1e-4,
        "grad_norm": 0.5,
        "tokens_per_second": 250.0,
        "mfu": 0.25,
        "rewards/margins": 0.2,
    }


def test_evaluating_and_saving_count_neither_as_training_time_nor_into_the_speed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.step()
    scene.now += 60
    scene.log({"eval_loss": 1.5, "epoch": 0.1, "eval_rewards/margins": 0.3})
    scene.recorder.on_evaluate(scene.arguments, scene.state, scene.control)
    scene.now += 60
    scene.save()
    scene.step()
    training = [row for row in scene.rows if "loss" in row]
    assert [row["seconds"] for row in training] == [2.0, 4.0]
    assert [row["tokens_per_second"] for row in training] == [250.0, 250.0]
    (evaluation,) = [row for row in scene.rows if "eval_loss" in row]
    assert evaluation == {
        "step": 1,
        "epoch": 0.1,
        "tokens": 500,
        "seconds": 2.0,
        "eval_loss": 1.5,
        "eval_rewards/margins": 0.3,
    }


def test_events_come_once_a_second_and_the_last_one_always(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for _ in range(10):
        scene.step(seconds=0.3)
    scene.log({"train_runtime": 3.0, "train_loss": 1.0})
    scene.recorder.on_train_end(scene.arguments, scene.state, scene.control)
    assert [event["step"] for event in scene.events] == [1, 5, 9, 10]
    assert len(scene.rows) == 10
    assert scene.events[-1]["stage"] == "sft"
    assert scene.events[-1]["steps"] == 10
    assert scene.events[0]["remaining_seconds"] == pytest.approx(2.7)
    assert scene.events[-1]["remaining_seconds"] == 0


def test_an_evaluation_is_sent_at_once_and_after_the_row_before_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.step(seconds=0.1)
    scene.step(seconds=0.1)
    scene.log({"eval_loss": 1.0})
    assert [(event["step"], "eval_loss" in event) for event in scene.events] == [(1, False), (2, False), (2, True)]


def test_what_is_no_number_is_null_and_sent_at_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.step(seconds=0.1)
    scene.step(seconds=0.1, loss=float("nan"), grad_norm=float("inf"))
    assert scene.rows[-1]["loss"] is None
    assert scene.rows[-1]["grad_norm"] is None
    assert scene.events[-1]["step"] == 2
    assert scene.notes[-1][2].startswith("loss not finite")


def test_progress_says_loss_speed_and_time_left(tmp_path: Path) -> None:
    scene = Scene(tmp_path, state=TrainerState(max_steps=101, stateful_callbacks={}))
    scene.step(seconds=2.0, tokens=24690)
    assert scene.notes[-1] == (1, 101, "loss 1.250, 12,345 tokens/s, 3 min left")


def test_progress_says_when_it_evaluates(tmp_path: Path) -> None:
    scene = Scene(tmp_path, state=TrainerState(max_steps=101, stateful_callbacks={}))
    scene.step()
    scene.recorder.on_prediction_step(scene.arguments, scene.state, scene.control)
    assert scene.notes[-1] == (1, 101, "evaluating on held-out rows")
    scene.step()
    assert "loss" in scene.notes[-1][2]


def test_after_a_resume_no_step_appears_twice_and_time_and_tokens_go_on(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "first")
    for _ in range(4):
        scene.step()
    folder = scene.save()
    for _ in range(3):  # lost when the worker died
        scene.step()
    # A worker that died while it wrote may have left rows beyond the step: they are cut off too.
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 5, "loss": 9.9}) + "\n")

    state = TrainerState.load_from_json(str(folder / "trainer_state.json"))
    again = Scene(tmp_path / "second", resumed_from=folder, state=state)
    assert [row["step"] for row in again.rows] == [1, 2, 3, 4]
    while again.state.global_step < 10:
        again.step()
    assert [row["step"] for row in again.rows] == list(range(1, 11))
    assert [row["seconds"] for row in again.rows] == [2.0 * step for step in range(1, 11)]
    assert [row["tokens"] for row in again.rows] == [500 * step for step in range(1, 11)]
    assert [row["tokens_per_second"] for row in again.rows] == [250.0] * 10


def test_a_fresh_start_begins_with_no_row_whatever_lies_there(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert Scene(tmp_path).rows == []


def test_the_last_step_is_logged_whatever_the_interval(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.state.global_step = 9
    assert not scene.recorder.on_step_end(scene.arguments, scene.state, scene.control).should_log
    scene.state.global_step = 10
    assert scene.recorder.on_step_end(scene.arguments, scene.state, scene.control).should_log


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "0 s"), (89.4, "89 s"), (180, "3 min"), (9000, "2.5 h")])
def test_durations_are_told_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
