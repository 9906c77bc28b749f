"""First steps and gradients against hand computations and against trl's own padded trainers."""

import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedModel
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from services.training.models.loading import LoadedModel, load_base
from services.training.reference import ReferenceLogProbabilities, compute_reference
from services.training.trainers.build import build_trainer
from tests.services.training.tiny import TEXTS, TinyData, packed, pair_rows, parameters, supervised_rows

CPU = torch.device("cpu")
METHODS = ("sft", "dpo", "orpo", "rm")
ROWS = 6


def loaded(method: str, seed: int = 0, **values: Any) -> LoadedModel:
    return load_base(parameters(method, seed=seed, **values), None, TEXTS)


def rows_of(method: str) -> Dataset:
    return supervised_rows(ROWS) if method == "sft" else pair_rows(ROWS)


def reference_of(data: TinyData) -> ReferenceLogProbabilities:
    """Of another model than the policy, so that the first loss is not log 2."""
    return compute_reference(loaded("sft", seed=1).model, data.train, data.test, device=CPU)


def ours(method: str, folder: Path, model: LoadedModel, data: TinyData, **values: Any) -> Any:
    chosen = parameters(method, **{"maximum_steps": 1, "global_batch": ROWS, "micro_batch": ROWS, **values})
    reference = reference_of(data) if method == "dpo" else None
    return build_trainer(chosen, model.model, model.tokenizer, data, folder, [], reference)


def first_step(trainer: Any) -> tuple[float, float]:
    trainer.train()
    row = trainer.state.log_history[0]
    return row["loss"], row["grad_norm"]


# By hand: one document at a time, all logits, log_softmax, the formula written out.


def log_probabilities(model: PreTrainedModel, tokens: list[int]) -> torch.Tensor:
    """Of every token but the first."""
    logits = model(torch.tensor([tokens]), use_cache=False).logits[0, :-1].double()
    return logits.log_softmax(-1)[range(len(tokens) - 1), tokens[1:]]


def by_hand(method: str, model: PreTrainedModel, other: PreTrainedModel, rows: Dataset) -> torch.Tensor:
    if method == "sft":
        of_responses = []
        for row in rows:
            of_tokens = log_probabilities(model, row["input_ids"])
            of_responses += [of_tokens[i] for i, label in enumerate(row["labels"][1:]) if label != -100]
        return -torch.stack(of_responses).mean()
    losses = []
    for row in rows:
        prompt = row["prompt_ids"]
        chosen, rejected = prompt + row["chosen_ids"], prompt + row["rejected_ids"]
        if method == "rm":
            score = [
                model(torch.tensor([document]), use_cache=False).logits[0, 0].double()
                for document in (chosen, rejected)
            ]
            losses.append(-torch.log(1 / (1 + torch.exp(-(score[0] - score[1])))))
            continue
        of_chosen, of_rejected = log_probabilities(model, chosen), log_probabilities(model, rejected)
        win, lose = of_chosen[len(prompt) - 1 :], of_rejected[len(prompt) - 1 :]
        if method == "dpo":
            with torch.no_grad():
                base_win = log_probabilities(other, chosen)[len(prompt) - 1 :].sum()
                base_lose = log_probabilities(other, rejected)[len(prompt) - 1 :].sum()
            margin = 0.1 * ((win.sum() - base_win) - (lose.sum() - base_lose))
            losses.append(-torch.log(1 / (1 + torch.exp(-margin))))
        else:
            odds = [torch.exp(side.mean()) / (1 - torch.exp(side.mean())) for side in (win, lose)]
            ratio = torch.log(odds[0] / odds[1])
            losses.append(-of_chosen.mean() - 0.1 * torch.log(1 / (1 + torch.exp(-ratio))))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("method", METHODS)
def test_the_first_loss_and_its_gradient_equal_a_hand_computation(method: str, tmp_path: Path) -> None:
    rows = rows_of(method)
    policy = loaded(method)
    expected = by_hand(method, policy.model, loaded("sft", seed=1).model, rows)
    expected.backward()
    wanted = {name: weight.grad.clone() for name, weight in policy.model.named_parameters()}
    policy.model.zero_grad()

    trainer = ours(method, tmp_path, policy, TinyData(packed(rows, ROWS) if method == "sft" else rows))
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(policy.model, batch, num_items_in_batch=batch["counts"]["items"])
    loss.backward()

    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for name, weight in policy.model.named_parameters():
        assert (weight.grad - wanted[name]).abs().max() < 1e-5, name


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_the_same_however_the_global_batch_is_cut(method: str, tmp_path: Path) -> None:
    """5 rows in micro-batches of 2 leave a last one of 1; the sdpa attention gives the same as varlen."""
    rows = rows_of(method).select(range(5))
    steps = []
    for micro_batch, attention in ((6, "varlen"), (2, "varlen"), (1, "varlen"), (2, "sdpa")):
        model = loaded(method, attention=attention)
        trainer = ours(
            method, tmp_path, model, TinyData(rows), micro_batch=micro_batch, attention=attention, packing=None
        )
        steps.append((*first_step(trainer), trainer.token_counter.tokens))
    for step in steps[1:]:
        assert step == pytest.approx(steps[0], rel=1e-5)


# trl's own trainers, padded.


class TrlPreference(DPOTrainer):
    """trl's, on rows that are tokenised already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


COMMON: dict[str, Any] = {
    "per_device_train_batch_size": ROWS,
    "max_steps": 1,
    "learning_rate": 1e-3,
    "bf16": False,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "max_length": 512,
}


def trl_first_step(method: str, folder: Path, rows: Dataset) -> tuple[float, float]:
    model = loaded(method, attention="sdpa")
    options: dict[str, Any] = {"model": model.model, "processing_class": model.tokenizer}
    if method == "sft":
        trainer = SFTTrainer(args=SFTConfig(str(folder), **COMMON), train_dataset=rows, **options)
    elif method == "dpo":
        other = loaded("sft", seed=1, attention="sdpa").model
        trainer = TrlPreference(
            ref_model=other, args=DPOConfig(str(folder), beta=0.1, **COMMON), train_dataset=rows, **options
        )
    else:
        whole = Dataset.from_list(
            [{side: row["prompt_ids"] + row[side] for side in ("chosen_ids", "rejected_ids")} for row in rows]
        )
        trainer = RewardTrainer(args=RewardConfig(str(folder), **COMMON), train_dataset=whole, **options)
    return first_step(trainer)


@pytest.mark.parametrize("method", ["sft", "dpo", "rm"])
def test_the_first_step_equals_trls_padded_trainer(method: str, tmp_path: Path) -> None:
    rows = rows_of(method)
    loss, gradient = first_step(ours(method, tmp_path, loaded(method), TinyData(rows)))
    expected_loss, expected_gradient = trl_first_step(method, tmp_path, rows)
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    assert gradient == pytest.approx(expected_gradient, rel=1e-4)


def test_the_first_step_of_orpo_equals_trls_where_each_pair_is_a_micro_batch_of_its_own(tmp_path: Path) -> None:
    """trl averages the likelihood over the tokens of a micro-batch, so pairs count the same there only one by one."""
    texts = Dataset.from_list(
        [
            {"prompt": "What is the capital?\n", "chosen": "It is Paris, the city by the sea.", "rejected": "A poem."},
            {"prompt": "Be kind.\n", "chosen": "Yes.", "rejected": "Please be brief to the reader, it is brief."},
            {"prompt": "Of France?\n", "chosen": "It is France", "rejected": "No"},
        ]
    )
    model = loaded("orpo", attention="sdpa")
    options = {**COMMON, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 3}
    trainer = ORPOTrainer(
        model=model.model,
        args=ORPOConfig(str(tmp_path), beta=0.1, **options),
        train_dataset=texts,
        processing_class=model.tokenizer,
    )
    rows = Dataset.from_list(
        [
            {
                "prompt_ids": row["prompt_input_ids"],
                "chosen_ids": [token for token in row["chosen_labels"] if token != -100],
                "rejected_ids": [token for token in row["rejected_labels"] if token != -100],
            }
            for row in trainer.train_dataset
        ]
    )
    for row, mine in zip(trainer.train_dataset, rows, strict=True):
        assert row["chosen_input_ids"] == mine["prompt_ids"] + mine["chosen_ids"]
        assert row["rejected_input_ids"] == mine["prompt_ids"] + mine["rejected_ids"]
    expected_loss, expected_gradient = first_step(trainer)
    own = ours("orpo", tmp_path, loaded("orpo"), TinyData(rows), global_batch=3, micro_batch=3)
    loss, gradient = first_step(own)
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    assert gradient == pytest.approx(expected_gradient, rel=1e-4)
    assert own.state.log_history[0]["rewards/margins"] == pytest.approx(
        trainer.state.log_history[0]["rewards/margins"], abs=1e-5
    )
