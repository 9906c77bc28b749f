"""Small data and parameters for the tests of trainings; models come from `services.training.models`."""

import random
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset

from shared.domain.training import TrainParameters

# Models this small gain nothing from a second thread, and on a busy machine wait for it.
torch.set_num_threads(1)

TEXTS = (
    "Please be brief and kind to the reader. ",
    "What is the capital of France? It is Paris. ",
    "A poem of the sea",
) * 8
VOCABULARY = 300


@dataclass(frozen=True)
class TinyData:
    train: Dataset
    test: Dataset | None = None


def parameters(method: str = "sft", **values: Any) -> TrainParameters:
    """A short training on the CPU in float32, everything else as the defaults."""
    defaults: dict[str, Any] = {
        "method": method,
        "base": {"random": "tiny-mistral"},
        "precision": "fp32",
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "global_batch": 4,
        "micro_batch": 2,
        "maximum_length": 64,
    }
    return TrainParameters(**{**defaults, **values})


def _tokens(generator: random.Random, least: int, most: int) -> list[int]:
    return [generator.randrange(5, VOCABULARY) for _ in range(generator.randint(least, most))]


def supervised_rows(count: int, seed: int = 0) -> Dataset:
    """Rows of a prompt (no labels) and a response, unpacked."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        prompt, response = [1, *_tokens(generator, 2, 9)], [*_tokens(generator, 1, 12), 2]
        rows.append({"input_ids": prompt + response, "labels": [-100] * len(prompt) + response})
    return Dataset.from_list(rows)


def packed(rows: Dataset, documents: int) -> Dataset:
    """Every so many rows in one pack."""
    packs = []
    for start in range(0, len(rows), documents):
        part = [rows[index] for index in range(start, min(start + documents, len(rows)))]
        packs.append(
            {
                "input_ids": [token for row in part for token in row["input_ids"]],
                "labels": [token for row in part for token in row["labels"]],
                "seq_lengths": [len(row["input_ids"]) for row in part],
            }
        )
    return Dataset.from_list(packs)


def pair_rows(count: int, seed: int = 0) -> Dataset:
    """Pairs of tokenised responses to a shared prompt."""
    generator = random.Random(seed)
    return Dataset.from_list(
        [
            {
                "prompt_ids": [1, *_tokens(generator, 2, 9)],
                "chosen_ids": [*_tokens(generator, 1, 12), 2],
                "rejected_ids": [*_tokens(generator, 1, 12), 2],
            }
            for _ in range(count)
        ]
    )
