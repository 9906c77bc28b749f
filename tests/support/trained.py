"""What trainings leave for the report, made up: one that started from random weights, and one that went on from it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from shared.domain.training import TrainParameters
from shared.stages.protocol import InputObject

SFT = TrainParameters.model_validate({"preset": "smoke-cpu", "name": "sft"})
DPO = TrainParameters.model_validate(
    {
        "preset": "smoke-cpu",
        "name": "dpo",
        "method": "dpo",
        "base": {"stage": "sft", "random": None},
        "evaluate_every_steps": 10,
    }
)


LENGTHS = {
    "bounds": [16, 24, 32, 48, 64],
    "counts": [0, 0, 100, 130, 20],
    "mean": 38.0,
    "p50": 38,
    "p95": 55,
    "p99": 60,
}
SPLIT = {
    "rows": 260,
    "drawn": 250,
    "kept": 240,
    "lost": {"too_long": 7, "empty_response": 3},
    "lost_rows": {"too_long": [4], "empty_response": [9]},
    "lengths": {name: {**LENGTHS, "maximum": 64} for name in ("prompt", "response", "whole")},
    "tokens": 80_000,
    "loss_tokens": 50_000,
    "unknown_tokens": 0,
    "digest": "0" * 64,
}
PREFLIGHT: dict[str, Any] = {
    "method": "sft",
    "template": "mistral",
    "data": {
        "columns": ["system", "prompt", "output"],
        "used_columns": ["system", "prompt", "output"],
        "train": SPLIT,
        "test": {**SPLIT, "rows": 61, "drawn": 61, "kept": 60, "lost": {"double_bos": 1}},
        "packing": {"sequences": 41, "rows_per_sequence": 5.9, "most_rows": 12, "fill_share": 0.95},
        "sequences": 41,
        "longest_tokens": 64,
        "longest_loss_tokens": 40,
    },
    "steps_per_epoch": 20,
    "steps": 20,
    "tokens_per_epoch": 80_000,
    "tokens_per_step": 4000.0,
    "device": {"kind": "cpu", "memory_bytes": 8_000_000_000, "name": "CPU"},
    "memory": {"recompute": False, "weights": 400_000_000, "gradients": 100_000_000},
    "recompute": False,
    "disk": None,
    "store_checked": True,
    "notes": ["the estimate leaves out what Python itself holds"],
    "refused": None,
}


def metrics(parameters: TrainParameters, steps: int = 20) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        loss = 6.5 * math.exp(-step / 8) + 1
        row = {
            "step": step,
            "epoch": step / steps,
            "tokens": step * 4000,
            "seconds": step * 1.5,
            "loss": loss,
            "learning_rate": 1e-3 * (1 - step / steps),
            "grad_norm": 1 + loss / 10,
            "tokens_per_second": 2600.0,
            "mfu": None,
            "memory_bytes": 1_200_000_000,
        }
        if parameters.method in ("dpo", "orpo", "rm"):
            row |= {"rewards/margins": step / 100, "rewards/accuracies": min(1.0, 0.5 + step / 60)}
        rows.append(row)
        if parameters.evaluate_every_steps and step % parameters.evaluate_every_steps == 0:
            rows.append({"step": step, "eval_loss": loss + 0.2, "eval_rewards/accuracies": 0.6})
    return rows


def training_facts(parameters: TrainParameters, **changes: Any) -> dict[str, Any]:
    return {
        "name": parameters.name,
        "method": parameters.method,
        "tuning": parameters.tuning,
        "base": parameters.base.model_dump(mode="json"),
        "random_base": parameters.base.random is not None,
        "rows": 240,
        "test_rows": 60,
        "steps": 20,
        "tokens": 80_000,
        "seconds": 31.4,
        "world_size": 1,
        "device": "cpu",
        "resumed_from": [],
        "final": {"loss": 1.53, "grad_norm": 1.15, "tokens_per_second": 2600.0},
        "evaluation": {"eval_loss": 1.71},
        "parameters": parameters.model_dump(mode="json"),
        **changes,
    }


def trained(
    folder: Path,
    parameters: TrainParameters,
    *,
    facts: dict[str, Any] | None = None,
    rows: Sequence[dict[str, Any]] | None = None,
    preflight: dict[str, Any] | None = None,
) -> list[InputObject]:
    """The objects of a training as the report is given them; its `training.json` only where `facts` are given."""
    place = folder / parameters.name
    place.mkdir()
    contents: dict[str, bytes] = {}
    if facts is not None:
        contents["training.json"] = orjson.dumps(facts)
        lines = metrics(parameters) if rows is None else rows
        contents["metrics.jsonl"] = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in lines)
    if preflight is not None:
        contents["preflight.json"] = orjson.dumps(preflight)
    for name, content in contents.items():
        (place / name).write_bytes(content)
    return [InputObject(parameters.name, name, place / name, None, {}) for name in contents]
