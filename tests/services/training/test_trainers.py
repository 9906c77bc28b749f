"""What the trainers log, evaluate and leave alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from services.training.fused_heads import end_scores, fuse_score
from services.training.models.loading import load_base
from services.training.reference import compute_reference
from services.training.trainers.arguments import training_arguments
from services.training.trainers.build import build_trainer
from tests.services.training.tiny import TEXTS, TinyData, packed, pair_rows, parameters, supervised_rows

METHODS = ("sft", "dpo", "orpo", "rm")
CPU = torch.device("cpu")


def run(method: str, folder: Path, test_rows: int = 0, **values: Any) -> Any:
    chosen = parameters(method, **values)
    loaded = load_base(chosen, None, TEXTS)
    if method == "sft":
        rows, test = packed(supervised_rows(20), 2), packed(supervised_rows(max(test_rows, 1), 1), 1)
    else:
        rows, test = pair_rows(10), pair_rows(max(test_rows, 1), 1)
    data = TinyData(rows, test if test_rows else None)
    reference = None
    if method == "dpo":
        reference = compute_reference(loaded.model, data.train, data.test, device=CPU)
    return build_trainer(chosen, loaded.model, loaded.tokenizer, data, folder, [], reference)


def logged(trainer: Any, key: str) -> list[Any]:
    return [row[key] for row in trainer.state.log_history if key in row]


@pytest.mark.parametrize(
    ("method", "tuning"),
    [
        (method, tuning)
        for method in METHODS
        for tuning in ("full", "lora", "qlora")
        if (method, tuning) != ("rm", "qlora")
    ],
)
def test_every_method_learns_its_rows_with_every_tuning(method: str, tuning: str, tmp_path: Path) -> None:
    trainer = run(method, tmp_path, tuning=tuning, maximum_steps=6)
    before = trainer.evaluate(trainer.train_dataset)["eval_loss"]
    trainer.train()
    assert trainer.evaluate(trainer.train_dataset)["eval_loss"] < before


@pytest.mark.parametrize("method", METHODS)
def test_rows_carry_the_keys_that_the_service_shows(method: str, tmp_path: Path) -> None:
    trainer = run(method, tmp_path, maximum_steps=3)
    trainer.train()
    first = trainer.state.log_history[0]
    assert {"loss", "grad_norm", "learning_rate", "epoch", "tokens", "model_flops", "step"} <= set(first)
    pairs = {f"rewards/{name}" for name in ("chosen", "rejected", "margins", "accuracies")}
    assert pairs & set(first) == (set() if method == "sft" else pairs)
    assert not [key for key in first if key.startswith(("entropy", "logps", "num_tokens"))]
    rows = trainer.train_dataset
    if method == "sft":
        every = sum(len(row["input_ids"]) for row in rows)
    else:
        every = sum(2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows)
    assert logged(trainer, "tokens")[2] == every  # 3 steps of 4 see all 10 rows


def test_rows_are_logged_as_means_over_the_steps_between(tmp_path: Path) -> None:
    each = run("dpo", tmp_path, maximum_steps=4)
    each.train()
    both = run("dpo", tmp_path, maximum_steps=4, log_every_steps=4, micro_batch=4)
    both.train()
    # The third step of an epoch of 10 holds 2 pairs.
    weights = torch.tensor([4.0, 4.0, 2.0, 4.0])
    margins = torch.tensor(logged(each, "rewards/margins"))
    assert logged(both, "rewards/margins")[0] == pytest.approx((weights @ margins / weights.sum()).item(), abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_test_rows_are_evaluated_exactly_whatever_the_micro_batch(method: str, tmp_path: Path) -> None:
    results = []
    for micro_batch in (1, 2, 4):
        trainer = run(method, tmp_path, test_rows=7, micro_batch=micro_batch)
        results.append({key: value for key, value in trainer.evaluate().items() if "per_second" not in key})
        results[-1].pop("eval_runtime")
    assert "eval_loss" in results[0]
    for result in results[1:]:
        assert result == pytest.approx(results[0], abs=1e-5)


@pytest.mark.parametrize(("every", "expected"), [(None, [5]), (2, [2, 4, 5])])
def test_evaluations_come_by_steps_and_at_the_end(every: int | None, expected: list[int], tmp_path: Path) -> None:
    trainer = run("sft", tmp_path, test_rows=2, maximum_steps=5, evaluate_every_steps=every)
    trainer.train()
    assert [row["step"] for row in trainer.state.log_history if "eval_loss" in row] == expected


def test_a_loss_that_is_no_number_is_logged_as_such(tmp_path: Path) -> None:
    trainer = run("sft", tmp_path, maximum_steps=1)
    with torch.no_grad():
        trainer.model.model.embed_tokens.weight.fill_(float("nan"))
    trainer.train()
    assert logged(trainer, "loss")[0] != logged(trainer, "loss")[0]


@pytest.mark.parametrize("method", METHODS)
def test_recomputed_layers_give_the_same_step(method: str, tmp_path: Path) -> None:
    steps = []
    for recompute in ("never", "always"):
        for tuning in ("full", "lora"):
            trainer = run(method, tmp_path, maximum_steps=2, recompute=recompute, tuning=tuning)
            trainer.train()
            assert trainer.model.is_gradient_checkpointing is (recompute == "always")
            steps.append(logged(trainer, "loss") + logged(trainer, "grad_norm"))
    assert steps[2:] == [pytest.approx(step, rel=1e-5) for step in steps[:2]]


def test_a_score_is_read_at_the_end_token_and_no_other_state_is_projected() -> None:
    from services.training.batches import PairCollator

    loaded = load_base(parameters("rm"), None, TEXTS)
    rows = list(pair_rows(3))
    expected = []
    for row in rows:
        for side in ("chosen_ids", "rejected_ids"):
            document = torch.tensor([row["prompt_ids"] + row[side]])
            expected.append(loaded.model(document, use_cache=False).logits.item())
    fuse_score(loaded.model)
    seen = []
    loaded.model.score.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape))
    found = end_scores(loaded.model, PairCollator()(rows))
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert seen == [(6, 128)]


def test_no_logits_of_a_language_model_are_held_for_all_tokens() -> None:
    """The output layer's module, which would build them, is never called."""
    from services.training.batches import SupervisedCollator
    from services.training.fused_heads import fuse_head, token_log_probabilities

    loaded = load_base(parameters(), None, TEXTS)
    fuse_head(loaded.model)
    loaded.model.lm_head.register_forward_hook(lambda *_: pytest.fail("logits were built"))
    batch = SupervisedCollator()(list(supervised_rows(2)))
    values = token_log_probabilities(loaded.model, batch)
    assert values.shape == (batch["counts"]["tokens"] - 1,)


def test_dpo_keeps_no_reference_model_and_adds_no_second_adapter(tmp_path: Path) -> None:
    trainer = run("dpo", tmp_path, tuning="lora", maximum_steps=1)
    assert trainer.ref_model is None
    assert list(trainer.model.peft_config) == ["default"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"optimizer": "adamw_8bit"}, {"optim": "adamw_bnb_8bit"}),
        ({"optimizer": "adamw"}, {"optim": "adamw_torch"}),
        ({"warmup_steps": 7}, {"warmup_steps": 7}),
        ({"warmup_steps": None, "warmup_share": 0.25}, {"warmup_steps": 0.25}),
        ({"schedule": "linear", "weight_decay": 0.1}, {"lr_scheduler_type": "linear", "weight_decay": 0.1}),
        ({"adam_betas": (0.8, 0.95)}, {"adam_beta1": 0.8, "adam_beta2": 0.95}),
        ({"global_batch": 12, "micro_batch": 3}, {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 3}),
        ({"precision": "bf16"}, {"bf16": False, "fp16": False}),
        ({"epochs": 2.5}, {"num_train_epochs": 2.5, "max_steps": -1}),
    ],
)
def test_parameters_become_the_libraries_arguments(
    values: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    arguments = training_arguments(
        parameters("dpo", **values), tmp_path, CPU, recompute=False, evaluates=False, use_cache=True
    )
    assert {name: getattr(arguments, name) for name in expected} == expected


def test_on_a_gpu_adamw_is_the_fused_one() -> None:
    from services.training.trainers.arguments import optimizer_name

    assert optimizer_name(parameters(), torch.device("cuda")) == "adamw_torch_fused"


def test_processes_that_do_not_run_are_missed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 processes run, but the training says 2"):
        training_arguments(parameters(processes=2), tmp_path, CPU, recompute=False, evaluates=False, use_cache=True)


def test_compiled_layers_train_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.training.trainers import build

    real = build.compile_layers
    monkeypatch.setattr(build, "compile_layers", lambda model: real(model, backend="eager"))
    losses = []
    for compiled in (False, True):
        trainer = run("sft", tmp_path, maximum_steps=2, compile=compiled)
        trainer.train()
        losses.append(logged(trainer, "loss"))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
