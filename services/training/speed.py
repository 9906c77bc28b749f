"""How much of a device's arithmetic a training uses: model FLOPs per token and utilisation (MFU).

Model FLOPs are what forward and backward need at the least (Chowdhery et al. 2022, arXiv 2204.02311, appendix B): layers that are
computed twice to save memory count once. Counted for what is really computed: attention within each document and to earlier
tokens alone, the output layer for the scored tokens alone, no gradient for frozen weights.
"""

from typing import Any

import torch
from datasets import Dataset
from trl.trainer.utils import get_peak_flops

from services.training.batches import PairCollator, SupervisedCollator
from shared.domain.training import Method, TrainParameters, Tuning

_SAMPLE = 1000
"""Rows that the mean FLOPs of a token are reckoned from."""


def model_flops(
    config: Any,
    *,
    tokens: int,
    squares: int,
    scored: int,
    trains_all_weights: bool = True,
    has_language_head: bool = True,
) -> float | None:
    """FLOPs of forward and backward over documents with `tokens` in all, whose lengths squared add up to `squares`.

    `scored` tokens go through the output layer. A matrix takes 2 FLOPs per weight and token in forward, as many for the
    gradient of its input, and as many again for its own gradient where it is trained; embeddings are looked up. A token
    attends to half of its document on average: 2 x 2 x width FLOPs per token attended to and layer in forward, twice that in
    backward. None where the architecture is not one of dense layers with gated units (Llama, Mistral, Qwen and their like).
    """
    text = config.get_text_config()
    if getattr(text, "num_experts_per_tok", None) is not None or not hasattr(text, "intermediate_size"):
        return None
    hidden = text.hidden_size
    size = getattr(text, "head_dim", None) or hidden // text.num_attention_heads
    queries, keys = text.num_attention_heads * size, text.num_key_value_heads * size
    per_layer = 2 * hidden * queries + 2 * hidden * keys + 3 * hidden * text.intermediate_size
    layers = text.num_hidden_layers
    matrices = layers * per_layer * tokens + (hidden * text.vocab_size * scored if has_language_head else 0)
    attention = 4 * layers * queries * squares / 2
    return float(2 * matrices * (3 if trains_all_weights else 2) + 3 * attention)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Dense FLOP/s of the device's data sheet at `dtype` (trl's table, after TorchTitan's); None for a CPU or unknown device."""
    if device.type != "cuda":
        return None
    peak: float | None = get_peak_flops(torch.cuda.get_device_name(device), str(dtype).removeprefix("torch."))
    return peak


def utilisation(flops: float, seconds: float, devices: int, peak: float | None) -> float | None:
    """Model FLOPs utilisation between 0 and 1, of `devices` together; None where the peak is not known."""
    return None if peak is None or seconds <= 0 else flops / seconds / (devices * peak)


def flops_per_token(parameters: TrainParameters, model: Any, rows: Dataset) -> float | None:
    """Mean model FLOPs of a token of these rows, from up to `_SAMPLE` of them; None where the architecture is not known."""
    collate = (
        SupervisedCollator() if parameters.method is Method.SFT else PairCollator(parameters.method is Method.ORPO)
    )
    step = max(1, len(rows) // _SAMPLE)
    totals = {"tokens": 0, "squares": 0, "scored": 0}
    for index in range(0, len(rows), step):
        counts = collate([rows[index]])["counts"]
        totals = {name: value + counts[name] for name, value in totals.items()}
    flops = model_flops(
        model.config,
        **totals,
        trains_all_weights=parameters.tuning is Tuning.FULL,
        has_language_head=parameters.method is not Method.REWARD,
    )
    return None if flops is None else flops / totals["tokens"]
