"""Attention over documents that lie one behind the other without padding, registered with transformers.

A batch is one row of N tokens; `cu_seq_lens_q` holds where each document starts. No document sees another, and nothing is
computed between them. On CUDA in bf16 or fp16 this is torch's own `varlen_attn` (a flash attention kernel that torch brings
along); elsewhere each document goes through `scaled_dot_product_attention` by itself.
"""

import inspect
from itertools import pairwise
from typing import Any, cast

import torch
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

VARLEN = "multifacet_varlen"


def register_varlen() -> None:
    """Make `attn_implementation="multifacet_varlen"` known to transformers. Calling it again changes nothing."""
    AttentionInterface.register(VARLEN, varlen_attention)
    AttentionMaskInterface.register(VARLEN, _mask)


def _mask(*, attention_mask: torch.Tensor | None = None, **options: Any) -> torch.Tensor | None:
    """No mask without padding: document bounds say everything. With padding (generation) the mask that sdpa uses."""
    if attention_mask is None:
        return None
    mask: torch.Tensor | None = sdpa_mask(attention_mask=attention_mask, **options)
    return mask


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each document.

    `query` is (rows, heads, tokens, size), `key` and `value` have as many heads or a divisor of that. Returns (rows, tokens,
    heads, size). Without `cu_seq_lens_q` the bounds are read off `position_ids`, which start at 0 in each document; with a
    cache or a mask for padding (generation) it is plain sdpa.

    Raises ValueError for what would silently be left out: dropout, capped scores, attention sinks, a sliding window that an
    older torch cannot do.
    """
    if options.get("softcap") is not None or options.get("s_aux") is not None:
        raise ValueError("attention varlen knows neither capped scores nor sinks, which this architecture uses")
    tokens = query.shape[2]
    if attention_mask is not None or key.shape[2] != tokens:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **options)
    if dropout:
        raise ValueError(f"attention varlen has no dropout, but {dropout:g} was asked for")
    bounds: torch.Tensor | None = options.get("cu_seq_lens_q")
    longest: int | None = options.get("max_length_q")
    if bounds is None or longest is None:
        bounds, longest = _bounds_of_positions(options.get("position_ids"), query.shape[0], tokens, query.device)
    rows, heads, _, size = query.shape
    queries, keys, values = (states.transpose(1, 2).reshape(rows * tokens, -1, size) for states in (query, key, value))
    window = None if sliding_window is None or longest <= sliding_window else sliding_window
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        output = _by_kernel(queries, keys, values, bounds, longest, scaling, window)
    else:
        output = _by_document(queries, keys, values, bounds, scaling, window)
    return output.view(rows, tokens, heads, size), None


def _bounds_of_positions(
    position_ids: torch.Tensor | None, rows: int, tokens: int, device: torch.device
) -> tuple[torch.Tensor, int]:
    """Bounds where the batch brings none: each position 0 starts a document. Waits for the device, so training brings them."""
    if position_ids is None:
        starts = torch.arange(0, rows * tokens, tokens, device=device)
    else:
        is_start = position_ids.expand(rows, tokens) == 0
        is_start[:, 0] = True
        starts = is_start.flatten().nonzero().flatten()
    bounds = torch.cat([starts, torch.tensor([rows * tokens], device=device)]).to(torch.int32)
    return bounds, int(bounds.diff().max())


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    longest: int,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn  # not in every build of torch

    options, groups = kernel_options(
        tuple(inspect.signature(varlen_attn).parameters), query.shape[1], key.shape[1], scaling, window
    )
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    output = varlen_attn(query, key, value, bounds, bounds, longest, longest, **options)
    return cast("torch.Tensor", output)


def kernel_options(
    known: tuple[str, ...], query_heads: int, key_heads: int, scaling: float | None, window: int | None
) -> tuple[dict[str, Any], int]:
    """What `varlen_attn` of this torch is told, and how often key and value heads are repeated for it first.

    torch 2.10 takes `is_causal`, 2.11 `window_size`, 2.13 also `enable_gqa`. Raises ValueError where torch has no sliding
    window, and where the kernel cannot scale the scores as the model wants.
    """
    options: dict[str, Any] = {}
    if "window_size" in known:
        # The kernel counts the tokens before the query; Mistral's window counts the query itself too.
        options["window_size"] = (-1, 0) if window is None else (window - 1, 0)
    elif window is not None:
        raise ValueError(f"this torch cannot do a sliding window of {window} tokens; use torch 2.11 or newer")
    else:
        options["is_causal"] = True
    if scaling is not None:
        if "scale" not in known:
            raise ValueError("this torch's varlen_attn takes no scale; use torch 2.10 or newer")
        options["scale"] = scaling
    groups = query_heads // key_heads
    if groups > 1 and "enable_gqa" in known:
        options["enable_gqa"] = True
        groups = 1
    return options, groups


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _by_document(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    grouped = query.shape[1] != key.shape[1]
    ends = bounds.tolist()
    outputs = []
    for start, end in pairwise(ends):
        length = end - start
        mask = None
        if window is not None and length > window:
            distance = torch.arange(length, device=query.device)
            distance = distance[:, None] - distance[None, :]
            mask = (distance >= 0) & (distance < window)
        part = slice(start, end)
        output = functional.scaled_dot_product_attention(
            query[part].transpose(0, 1)[None],
            key[part].transpose(0, 1)[None],
            value[part].transpose(0, 1)[None],
            attn_mask=mask,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=grouped,
        )
        outputs.append(output[0].transpose(0, 1))
    return torch.cat(outputs)


def what_a_neighbour_changes(model: PreTrainedModel, length: int = 8) -> float:
    """How much the last hidden states of a document move when its neighbour in the batch is another one.

    The largest difference as a share of the largest state; 0 for an architecture that keeps documents apart. The neighbour
    lies in front, where causal attention would see it.
    """
    vocabulary = int(model.config.get_text_config().vocab_size)
    device = next(model.parameters()).device
    first, second, third = ((torch.arange(length, device=device) * step + step) % vocabulary for step in (7, 11, 13))
    positions = torch.arange(length, device=device)
    bounds = torch.tensor([0, length, 2 * length], dtype=torch.int32, device=device)
    states = []
    was_training = model.training
    model.train(False)
    with torch.no_grad():
        for neighbour in (second, third):
            output = model.base_model(
                input_ids=torch.cat([neighbour, first])[None],
                position_ids=torch.cat([positions, positions])[None],
                cu_seq_lens_q=bounds,
                cu_seq_lens_k=bounds,
                max_length_q=length,
                max_length_k=length,
                use_cache=False,
            )
            states.append(output.last_hidden_state[0, length:].float())
    model.train(was_training)
    return float((states[0] - states[1]).abs().max() / states[0].abs().max())
