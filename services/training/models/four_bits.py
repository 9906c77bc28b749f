"""Weights in 4 bits (Dettmers et al. 2023, arXiv 2305.14314): how they are held while adapters on them are trained."""

import torch


def keep_four_bit_layout(model: torch.nn.Module) -> None:
    """Keep 4-bit layers in the layout that they can be trained and dequantised in, and bring them back into it.

    On CPUs with AVX-512 bitsandbytes rearranges a layer's weights the first time that it runs outside training (in an evaluation,
    say); dequantising them then yields garbage, and gradients of later steps are wrong. Saving undoes it.
    """
    for module in model.modules():
        if type(module).__name__ == "Linear4bit" and hasattr(module, "quant_state"):
            module.state_dict()
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
