"""Attention of a packed batch: all tokens of a forward pass lie in one row, whatever sequences they belong to.

Every sequence that decodes gives one token, sequences whose prompt is being read give a piece of it. The model's linear layers
see tokens alone and no padding; only here do sequences matter. It is registered with transformers as an attention
implementation, the interface that its architectures share, and given a `PackedBatch` through the model's keyword arguments.
transformers' own cache and masks are not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import torch
from torch.nn import functional
from transformers import AttentionInterface

from services.inference.cpu_server.engine.store import KeyValueStore, Layer

NAME = "multifacet_packed"

_GROUP_COST = 1536
"""What one more group of slots costs, in tokens of keys and values read (measured: about 100 microseconds)."""

_COPIED_TYPES = (torch.bfloat16, torch.float16)
"""Of these oneDNN multiplies whole buffers in place, but copies parts of them first."""
_COPY_COST = 2.5
"""What reading through a copy costs, in plain reads."""


def register_attention() -> None:
    """Make the implementation known to transformers. Calling it again changes nothing."""
    AttentionInterface.register(NAME, packed_attention)


_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Piece:
    """Part of a prompt: `tokens` tokens of the batch from `start` on, at `position` and after in the sequence of `slot`."""

    slot: int
    start: int
    tokens: int
    position: int


@dataclass
class PackedBatch:
    """Which tokens of a forward pass belong to which sequence.

    The first tokens of the batch are those of `decoding`, one for each slot named there, at the position in `positions`;
    `pieces` follow. Without a `store` nothing is kept, and pieces must be whole sequences.
    """

    store: KeyValueStore | None
    decoding: Sequence[int] = ()
    positions: Sequence[int] = ()
    pieces: Sequence[Piece] = ()
    device: torch.device = _CPU
    _masks: dict[int | None, list[tuple[tuple[int, int, int, int], torch.Tensor]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._used = max(self.decoding, default=-1) + 1
        lengths = [1] * self._used
        for slot, position in zip(self.decoding, self.positions, strict=True):
            lengths[slot] = position + 1
        self._lengths = torch.tensor(lengths, device=self.device)
        self._groups = slot_groups(lengths)
        self._slots = torch.tensor(self.decoding, dtype=torch.long, device=self.device)
        self._places = torch.tensor(self.positions, dtype=torch.long, device=self.device)
        self._in_order = list(self.decoding) == list(range(self._used))

    def attend(
        self,
        number: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
        window: int | None,
        softcap: float | None,
    ) -> torch.Tensor:
        """`query` [1, heads, tokens, size], `key` and `value` with as many heads or a divisor of that; [1, tokens, heads, size].
        `window` counts the query's own token, as transformers does."""
        layer = None if self.store is None else self.store.layer(number, key, value)
        output = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
        count = len(self.decoding)
        if count:
            assert layer is not None
            layer.keys[self._slots, :, :, self._places] = key[0, :, :count].transpose(0, 1)
            layer.values[self._slots, :, self._places] = value[0, :, :count].transpose(0, 1)
            output[:count] = self._decode(layer, query[0, :, :count], scaling, window, softcap)
        for piece in self.pieces:
            part = slice(piece.start, piece.start + piece.tokens)
            output[part] = _read(
                layer, piece, query[:, :, part], key[:, :, part], value[:, :, part], scaling, window, softcap
            )
        return output[None]

    def _decode(
        self, layer: Layer, query: torch.Tensor, scaling: float, window: int | None, softcap: float | None
    ) -> torch.Tensor:
        """One query per slot, `query` [heads, decoding, size]: as many small products as there are slots times heads."""
        heads = layer.keys.shape[1]
        count = query.shape[1]
        queries = (query.transpose(0, 1) * scaling).reshape(count, heads, -1, query.shape[2])
        if not self._in_order:
            every = queries.new_zeros(self._used, *queries.shape[1:])
            every[self._slots] = queries
            queries = every
        outputs = []
        room = layer.values.shape[2] if queries.dtype in _COPIED_TYPES else 0
        for (first, after, start, length), mask in self._masks_of(window, queries.dtype, room):
            keys = layer.keys[first:after, :, :, start:length].flatten(0, 1)
            values = layer.values[first:after, :, start:length].flatten(0, 1)
            scores = torch.bmm(queries[first:after].flatten(0, 1), keys)
            if softcap is not None:
                scores = torch.tanh(scores / softcap) * softcap
            scores.view(after - first, heads, -1, length - start).add_(mask)
            outputs.append(torch.bmm(torch.softmax(scores, -1), values).view(after - first, -1, values.shape[-1]))
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return output if self._in_order else output[self._slots]

    def _masks_of(
        self, window: int | None, dtype: torch.dtype, room: int
    ) -> list[tuple[tuple[int, int, int, int], torch.Tensor]]:
        """Groups of slots (first, after) with the tokens that are read of them (start, end), and what is added to their scores:
        [slots, 1, 1, tokens]. All layers with the same window share them. `room`: tokens that a slot has room for, where
        reading all of it can cost less than cutting out what is used."""
        known = self._masks.get(window)
        if known is not None:
            return known
        made = []
        for first, after, longest in self._groups:
            lengths = self._lengths[first:after, None]
            begins = torch.zeros_like(lengths) if window is None else (lengths - window).clamp(min=0)
            start, end = int(begins.min()), longest
            if room < _COPY_COST * (end - start):
                start, end = (0, room) if room else (start, end)
            places = torch.arange(start, end, device=self.device)[None]
            hidden = (places >= lengths) | (places < begins)
            mask = torch.zeros(hidden.shape, dtype=dtype, device=self.device).masked_fill_(hidden, -torch.inf)
            made.append(((first, after, start, end), mask[:, None, None]))
        self._masks[window] = made
        return made


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,  # noqa: ARG001  none in inference
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    packed_batch: PackedBatch | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls an attention implementation. Raises ValueError for what it would silently leave out."""
    if packed_batch is None:
        raise ValueError("the architecture does not hand its keyword arguments down to its attention")
    if attention_mask is not None or not options.get("is_causal", getattr(module, "is_causal", True)):
        raise ValueError("the architecture brings a mask of its own, or attends to later tokens")
    if unknown := [name for name in ("position_bias", "s_aux") if options.get(name) is not None]:
        raise ValueError(f"the architecture's attention uses {', '.join(unknown)}, which is not known here")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return packed_batch.attend(cast("int", module.layer_idx), query, key, value, scale, sliding_window, softcap), None


def slot_groups(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """Cut slots 0 … n-1 into neighbouring groups (first, after, longest), so that one long sequence does not make the products
    of all others as long as its own. Least sum of slots times longest, plus a price for each group."""
    best: list[tuple[int, int]] = [(0, 0)]
    for after in range(1, len(lengths) + 1):
        longest = 0
        choice = (1 << 62, 0)
        for first in range(after - 1, -1, -1):
            longest = max(longest, lengths[first])
            cost = best[first][0] + (after - first) * longest + _GROUP_COST
            choice = min(choice, (cost, first))
        best.append(choice)
    bounds = [len(lengths)]
    while bounds[-1]:
        bounds.append(best[bounds[-1]][1])
    return [(first, after, max(lengths[first:after])) for first, after in pairwise(reversed(bounds))]


def _read(
    layer: Layer | None,
    piece: Piece,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Store a piece of a prompt and attend from it; [tokens, heads, size]."""
    end = piece.position + piece.tokens
    if layer is not None:
        layer.keys[piece.slot, :, :, piece.position : end] = key[0].mT
        layer.values[piece.slot, :, piece.position : end] = value[0]
    first = 0 if window is None else max(0, piece.position - window + 1)
    if piece.position:
        assert layer is not None
        key = layer.keys[piece.slot : piece.slot + 1, :, :, first:end].mT.contiguous()
        value = layer.values[piece.slot : piece.slot + 1, :, first:end]
    else:
        first = 0
    mask = None
    if piece.position or (window is not None and end > window):
        places = torch.arange(first, end, device=query.device)
        distance = places[piece.position - first :, None] - places[None]
        mask = distance >= 0
        if window is not None:
            mask &= distance < window
    if softcap is not None:
        output = _capped(query, key, value, mask, scaling, softcap)
    else:
        output = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    return output[0].transpose(0, 1)


def _capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    softcap: float,
) -> torch.Tensor:
    """Attention whose scores are held within ±`softcap` (Gemma 2), which torch's own cannot do."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = torch.tanh(torch.matmul(query, key.mT) * (scaling / softcap)) * softcap
    if mask is None:
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
    scores = scores.masked_fill(~mask, -torch.inf)
    return torch.matmul(torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype), value)
