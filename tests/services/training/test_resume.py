"""A training that was stopped and goes on ends bit for bit where an uninterrupted one ends."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.training.models.loading import load_base
from services.training.reference import compute_reference
from services.training.trainers.build import build_trainer
from tests.services.training.tiny import TEXTS, TinyData, packed, pair_rows, parameters, supervised_rows

STEPS = 6


class StopAt(TrainerCallback):
    """Saves and stops after a step, as the callbacks of the service do."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> TrainerControl:
        if state.global_step == self.step:
            control.should_save = True
            control.should_training_stop = True
        return control


def trainer(method: str, folder: Path, stop: int | None, **values: Any) -> Any:
    chosen = parameters(method, maximum_steps=STEPS, evaluate_every_steps=2, **values)
    loaded = load_base(chosen, None, TEXTS)
    rows = packed(supervised_rows(30), 2) if method == "sft" else pair_rows(15)
    test = packed(supervised_rows(6, 1), 2) if method == "sft" else pair_rows(3, 1)
    reference = None
    if method == "dpo":
        reference = compute_reference(loaded.model, rows, test, device=torch.device("cpu"))
    callbacks = [] if stop is None else [StopAt(stop)]
    return build_trainer(chosen, loaded.model, loaded.tokenizer, TinyData(rows, test), folder, callbacks, reference)


def rows_of_steps(run: Any) -> dict[int, dict[str, float]]:
    """What was logged of each step, without what depends on the clock."""
    return {row["step"]: row for row in run.state.log_history if "loss" in row}


# Step 4 ends an epoch: 15 rows in batches of 4.
@pytest.mark.parametrize("stop", [3, *(pytest.param(stop, marks=pytest.mark.long) for stop in (1, 4, 5))])
@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("sft", {}),
        ("dpo", {}),
        ("sft", {"optimizer": "adamw_8bit", "tuning": "lora", "lora": {"dropout": 0.3}}),
    ],
)
def test_a_resumed_training_is_bit_identical_to_an_uninterrupted_one(
    method: str, values: dict[str, Any], stop: int, tmp_path: Path
) -> None:
    straight = trainer(method, tmp_path / "straight", None, **values)
    straight.train()
    first = trainer(method, tmp_path / "stopped", stop, **values)
    first.train()
    assert first.state.global_step == stop
    torch.manual_seed(99)  # the next process starts from somewhere else
    second = trainer(method, tmp_path / "stopped", None, **values)
    second.train(resume_from_checkpoint=str(tmp_path / "stopped" / f"checkpoint-{stop}"))

    wanted = dict(straight.model.named_parameters())
    for name, weight in second.model.named_parameters():
        assert torch.equal(weight, wanted[name]), name
    assert rows_of_steps(second) == rows_of_steps(straight)
    assert second.token_counter.tokens == straight.token_counter.tokens > first.token_counter.tokens


def test_a_checkpoint_says_how_many_tokens_were_seen_and_holds_what_a_resume_needs(tmp_path: Path) -> None:
    run = trainer("dpo", tmp_path, 2)
    run.train()
    folder = tmp_path / "checkpoint-2"
    state = json.loads((folder / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["TokenCounter"]["attributes"]["tokens"] == run.token_counter.tokens > 0
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= names
    assert "README.md" not in {path.name for path in tmp_path.iterdir()}


def test_nothing_is_saved_unless_a_callback_says_so(tmp_path: Path) -> None:
    trainer("sft", tmp_path, None).train()
    assert list(tmp_path.glob("checkpoint-*")) == []


def test_the_saved_model_keeps_its_cache_for_serving(tmp_path: Path) -> None:
    trainer("sft", tmp_path, 1).train()
    assert json.loads((tmp_path / "checkpoint-1" / "config.json").read_text())["use_cache"] is True
