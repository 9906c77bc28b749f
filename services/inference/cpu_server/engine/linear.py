"""Linear layers whose weights lie as oneDNN wants them, reordered once instead of in every product.

With the few rows of a decoding step a plain product spends much of its time on the order of its weights: measured on two cores
of an EPYC with AVX-512, 16 rows of 768 by 3072 take about 1.7 times as long in float32 and 1.5 times in bfloat16. The operators
are those that `torch.compile` uses for frozen weights on a CPU; where this torch has not got them, or oneDNN has no bfloat16 on
this processor, layers stay as they are.
"""

from typing import Any

import torch

_TYPES = (torch.float32, torch.bfloat16)
_SMALLEST = 1 << 14
"""Weights below this many numbers are left alone: there calling costs more than multiplying."""


class ReorderedLinear(torch.nn.Module):
    """Stands for a `torch.nn.Linear` in inference. `weight` is oneDNN's own tensor: it tells shape and type, no more."""

    def __init__(self, linear: torch.nn.Linear, rows: int) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), rows)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, self.weight, self.bias, "none", [], "")
        return product


def reorder_linear_layers(model: torch.nn.Module, rows: int) -> int:
    """Replace every large enough `torch.nn.Linear` below `model`, for products of about `rows` rows; how many it were.

    A plain weight is freed when nothing else (such as tied embeddings) holds it.
    """
    if not can_reorder():
        return 0
    replaced = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear and _is_worth_it(child):
                setattr(parent, name, ReorderedLinear(child, rows))
                replaced += 1
    return replaced


def can_reorder() -> bool:
    """Whether this torch has the operators."""
    operators: Any = torch.ops.mkldnn
    return bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(operators, "_reorder_linear_weight")
        and hasattr(operators, "_linear_pointwise")
    )


def _is_worth_it(linear: torch.nn.Linear) -> bool:
    weight = linear.weight
    if weight.device.type != "cpu" or weight.dtype not in _TYPES or weight.numel() < _SMALLEST:
        return False
    return weight.dtype is not torch.bfloat16 or _multiplies_bfloat16()


def _multiplies_bfloat16() -> bool:
    """Whether oneDNN has bfloat16 on this processor: without AVX-512 (or what took its place) it refuses such weights."""
    asked: Any = torch.ops.mkldnn
    return hasattr(asked, "_is_mkldnn_bf16_supported") and bool(asked._is_mkldnn_bf16_supported())
