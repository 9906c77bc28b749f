"""Merge low-rank adapters into their base, and hold the result against base and adapters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from services.training.models.four_bits import keep_four_bit_layout
from services.training.registration.record import MergeRecord
from shared.domain.errors import StepFailed

MERGE_LIMITS = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}
"""Largest difference that rounding explains, by the coarser type of merged weights and adapters: relative norm over the probe's
logits. Seen on tiny models: 3e-7 in fp32, 0.7 to 1.6% in bf16, with and without a 4-bit base, and 0.02% for fp32 weights
with the bf16 adapters of QLoRA, which compute in their own type."""


def merge_adapters(model: PeftModel, adapter_folder: Path, probe: Sequence[int]) -> tuple[PreTrainedModel, MergeRecord]:
    """The plain model with the adapters of `model` added to its weights, and how close it is. `model` is used up.

    A base in 4 bits is written out first, to the very values that training computed with, and the adapters are added to these:
    peft by itself would round the sum back to 4 bits, and the original base has other values than training saw.
    `adapter_folder` holds the saved adapters; `probe` token ids. Raises StepFailed(`merge_differs`) where the logits are further
    apart than MERGE_LIMITS allow.
    """
    _make_plain(model)
    adapter_types = {value.dtype for name, value in model.named_parameters() if "lora_" in name}
    before = _logits(model, probe)
    with model.disable_adapter():
        base = _logits(model, probe)
    quantised = bool(getattr(model.get_base_model(), "is_quantized", False))
    if quantised:
        # As the adapters' type: bf16 weights of a QLoRA base that computes in bf16.
        plain = model.unload().dequantize()
        model = PeftModel.from_pretrained(plain, str(adapter_folder))
        model.eval()
    merged = model.merge_and_unload()
    after = _logits(merged, probe)
    record = MergeRecord(difference=_relative(after, before), effect=_relative(base, before), dequantised=quantised)
    limit = max(MERGE_LIMITS[dtype] for dtype in {merged.dtype, *adapter_types})
    if not record.difference <= limit:  # also where it is no number
        raise StepFailed(
            "merge_differs",
            f"the merged model's logits differ from those of base and adapters by {record.difference:.2%} (limit {limit:.2%}; "
            f"the adapters themselves change them by {record.effect:.2%}): what would be registered is not what was trained. "
            "Set lora.merge to false to register the adapters alone",
        )
    return merged, record


def _make_plain(model: PeftModel) -> None:
    """Ready for a forward pass over one sequence, whatever attention and layout training used."""
    model.eval()
    keep_four_bit_layout(model)
    base: Any = model.get_base_model()
    base.set_attn_implementation("sdpa")


@torch.no_grad()
def _logits(model: torch.nn.Module, probe: Sequence[int]) -> torch.Tensor:
    device = next(model.parameters()).device
    tokens = torch.tensor([list(probe)], device=device)
    logits: torch.Tensor = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits
    return logits.float()


def _relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())
