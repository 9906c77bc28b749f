"""A tiny model with the real Trainer: stopped, killed, resumed from the store, and the same as if nothing had happened."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import Trainer, TrainerCallback

from services.training.checkpoints.blocking_store import BlockingStore
from services.training.checkpoints.finding import fetch_newest, find_newest
from services.training.checkpoints.uploading import CheckpointUploader
from services.training.watching.callbacks import Watchers, build_watchers
from services.training.watching.metrics import read_rows
from services.training.watching.stopping import StopRequest
from shared.domain.errors import StepFailed
from shared.domain.training import TrainParameters
from tests.services.training.output_support import PREFIX, arguments, tiny_model, token_rows


class AtStep(TrainerCallback):
    """Does something while a step runs, before anybody sees it end."""

    def __init__(self, step: int, action: Any) -> None:
        self.step, self.action = step, action

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == self.step:
            self.action()


class Killed(BaseException):
    """Stands for the process that is gone."""


class Run:
    def __init__(self, store: BlockingStore, folder: Path, attempt_id: int, **options: Any) -> None:
        self.told: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.folder = folder
        self.resume = fetch_newest(store, PREFIX, "ours", folder / "resume")
        self.stop = StopRequest()
        self.uploader = CheckpointUploader(
            store,
            PREFIX,
            attempt_id=attempt_id,
            fingerprint="ours",
            world_size=1,
            spool=folder / "spool",
            tell=self.told.append,
            on_stored=lambda manifest: None,
        )
        parameters = TrainParameters(
            method="sft",  # type: ignore[arg-type]
            base={"random": "tiny-mistral"},  # type: ignore[arg-type]
            **({"checkpoint_every_steps": 3} | options.pop("parameters", {})),
        )
        self.watchers: Watchers = build_watchers(
            parameters,
            folder=folder / "out",
            stop=self.stop,
            uploader=self.uploader,
            resumed_from=self.resume.folder,
            emit=lambda kind, data: self.events.append(data),
            progress=lambda done, total, note: None,
            mfu=None,
        )
        extra = options.pop("callbacks", [])
        trainer_type = options.pop("trainer_type", Trainer)
        self.trainer = trainer_type(
            model=tiny_model(attention_dropout=0.1),
            args=arguments(
                folder / "trainer", include_num_input_tokens_seen="all", logging_nan_inf_filter=True, **options
            ),
            train_dataset=token_rows(20),
            eval_dataset=token_rows(4),
            callbacks=[*extra, *self.watchers.callbacks],
        )

    def train(self) -> None:
        folder = self.resume.folder
        with self.stop.on_sigterm():
            self.trainer.train(resume_from_checkpoint=str(folder) if folder else None)
        assert self.uploader.finish(60)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return read_rows(self.folder / "out" / "metrics.jsonl")

    def weights(self) -> dict[str, torch.Tensor]:
        return dict(self.trainer.model.state_dict())


@contextmanager
def run(store: BlockingStore, folder: Path, attempt_id: int = 1, **options: Any) -> Iterator[Run]:
    started = Run(store, folder, attempt_id, **options)
    try:
        yield started
    finally:
        started.uploader.close()


def steps_in(store: BlockingStore) -> list[int]:
    return [stored.manifest.step for stored in find_newest(store, PREFIX, "ours")]


def essence(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What must be the same however often a training was interrupted."""
    return [(row["step"], row["epoch"], row["tokens"], row.get("loss"), row.get("grad_norm")) for row in rows]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[tuple[Any, ...]], dict[str, torch.Tensor]]:
    """Rows and weights of the training that nobody interrupts."""
    from shared.artifacts.directory import DirectoryStore

    folder = tmp_path_factory.mktemp("straight")
    with BlockingStore(DirectoryStore(folder / "objects")) as store, run(store, folder) as whole:
        whole.train()
        assert steps_in(store) == [6, 3]
        assert not whole.watchers.stop.stopped
        return essence(whole.rows), whole.weights()


@pytest.mark.parametrize("killed_at", [4, 6, 7])
def test_a_killed_training_goes_on_elsewhere_and_ends_bit_for_bit_the_same(
    directory_store: BlockingStore,
    tmp_path: Path,
    straight: tuple[list[tuple[Any, ...]], dict[str, torch.Tensor]],
    killed_at: int,
) -> None:
    def kill() -> None:
        raise Killed

    with run(directory_store, tmp_path / "first", 1, callbacks=[AtStep(killed_at, kill)]) as first:
        with pytest.raises(Killed):
            first.train()
        assert first.uploader.finish(60)
    with run(directory_store, tmp_path / "second", 2) as second:
        assert second.resume.manifest is not None
        assert second.resume.manifest.step == (6 if killed_at == 7 else 3)
        second.train()
        assert not list((tmp_path / "second" / "resume").iterdir())
    rows, weights = straight
    assert essence(second.rows) == rows
    assert all(torch.equal(weights[name], tensor) for name, tensor in second.weights().items())
    assert second.rows[-1]["seconds"] > first.rows[2]["seconds"]


def test_sigterm_saves_after_the_running_step_and_a_second_one_is_ignored(
    directory_store: BlockingStore, tmp_path: Path, straight: tuple[list[tuple[Any, ...]], dict[str, torch.Tensor]]
) -> None:
    def terminate() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with run(directory_store, tmp_path / "first", 1, callbacks=[AtStep(5, terminate)]) as first:
        first.train()
        assert first.watchers.stop.stopped
        assert first.trainer.state.global_step == 5
    assert signal.getsignal(signal.SIGTERM) is before
    assert steps_in(directory_store) == [5, 3]
    with run(directory_store, tmp_path / "second", 2) as second:
        second.train()
        assert not second.watchers.stop.stopped
    assert essence(second.rows) == straight[0]
    assert all(torch.equal(straight[1][name], tensor) for name, tensor in second.weights().items())


def test_a_stop_asked_for_in_the_last_step_finds_a_finished_training(
    directory_store: BlockingStore, tmp_path: Path
) -> None:
    with run(directory_store, tmp_path) as last:
        last.trainer.add_callback(AtStep(8, last.stop.ask))
        last.train()
        assert not last.watchers.stop.stopped


def test_time_alone_makes_a_checkpoint_where_no_steps_are_given(directory_store: BlockingStore, tmp_path: Path) -> None:
    parameters = {"checkpoint_every_steps": None, "checkpoint_every_seconds": 1e-9}
    with run(directory_store, tmp_path, parameters=parameters, max_steps=2) as timed:
        timed.train()
    assert steps_in(directory_store) == [2, 1]
    with run(directory_store, tmp_path / "again", 2, parameters={"checkpoint_every_steps": None}, max_steps=4) as slow:
        slow.train()
    assert steps_in(directory_store) == [2, 1]


def test_a_loss_of_nan_ends_the_training_before_its_weights_are_saved(
    directory_store: BlockingStore, tmp_path: Path
) -> None:
    class Poisoned(Trainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            return loss * math.nan if self.state.global_step == 5 else loss

    # Logged every 100 steps: the row that shows it is made because a checkpoint is due.
    with run(directory_store, tmp_path, trainer_type=Poisoned, logging_steps=100) as poisoned:
        with pytest.raises(StepFailed, match="at step 6") as caught:
            poisoned.train()
        assert caught.value.code == "loss_not_finite"
        assert poisoned.uploader.finish(60)
    assert steps_in(directory_store) == [3]
    assert [(row["step"], row["loss"] is None) for row in poisoned.rows] == [(3, False), (6, True)]
    assert poisoned.events[-1]["step"] == 6


def test_tensorboard_holds_the_whole_curve_after_a_resume(directory_store: BlockingStore, tmp_path: Path) -> None:
    with run(directory_store, tmp_path / "first", 1) as first:
        first.trainer.add_callback(AtStep(5, first.stop.ask))
        first.train()
    with run(directory_store, tmp_path / "second", 2, eval_strategy="steps", eval_steps=4) as second:
        second.train()
    curves = EventAccumulator(str(tmp_path / "second" / "out" / "tensorboard"))
    curves.Reload()
    points = curves.Scalars("training/loss")
    assert [point.step for point in points] == list(range(1, 9))
    losses = [row["loss"] for row in second.rows if "loss" in row]
    assert [point.value for point in points] == pytest.approx(losses)
    assert [point.step for point in curves.Scalars("evaluation/loss")] == [8]


def test_the_trainer_runs_no_code_that_a_checkpoint_hides(directory_store: BlockingStore, tmp_path: Path) -> None:
    """transformers must keep reading optimizer.pt as weights only: a sha256 says who wrote it, not what it does."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    with run(directory_store, tmp_path / "first", 1) as first:
        first.trainer.add_callback(AtStep(4, first.stop.ask))
        first.train()
    with run(directory_store, tmp_path / "second", 2) as second:
        assert second.resume.folder is not None
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            content = (second.resume.folder / name).read_bytes()
            torch.save(Evil(), second.resume.folder / name)
            with pytest.raises(Exception, match=r"weights_only|WeightsUnpickler"):
                second.trainer.train(resume_from_checkpoint=str(second.resume.folder))
            (second.resume.folder / name).write_bytes(content)
    assert not (tmp_path / "executed").exists()


AGREE = """
import sys
from torch import distributed
from services.training.watching.agreement import any_process, wait_for_all
rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
print(any_process(rank == 1), any_process(False), any_process(True))
wait_for_all()
distributed.destroy_process_group()
"""


def test_all_processes_hear_of_what_one_of_them_has_seen(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", AGREE, str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        )
        for rank in (0, 1)
    ]
    assert [process.communicate(timeout=100)[0].split() for process in processes] == [["True", "False", "True"]] * 2
