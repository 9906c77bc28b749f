"""Before it serves, an engine's model is compared with itself: packed sequences against plain calls of transformers.

There are some hundred architectures. Whether one keeps to the interface that the packed batch relies on (its attention, its
positions) is seen in the result and nowhere else.
"""

from collections.abc import Sequence
from typing import Any

import torch

from services.inference.cpu_server.engine.attention import PackedBatch, Piece
from services.inference.cpu_server.engine.language_model import LanguageModel, RewardModel
from services.inference.cpu_server.engine.store import KeyValueStore
from shared.domain.errors import InputRefused

_LENGTHS = (9, 5)
_TOLERANCE = {torch.float32: 2e-3}
_LOW_PRECISION = 0.15
"""Relative distance that counts as equal in 16 bits, where rounding alone makes some hundredths; a model that reads its
neighbours' tokens, or misses its own, is off by about 1."""


def trial_sequences(vocabulary: int, avoided: frozenset[int]) -> list[list[int]]:
    """Two sequences of ordinary tokens."""
    usable = [token for token in range(min(vocabulary, 4096)) if token not in avoided]
    return [[usable[(7 + 13 * place * length) % len(usable)] for place in range(length)] for length in _LENGTHS]


@torch.inference_mode()
def plain_scores(model: Any, sequences: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """What the model says of each sequence's last two places (a classifier: of the sequence) when it is called as it comes."""
    found = []
    for sequence in sequences:
        logits = model(input_ids=torch.tensor([sequence], device=model.device), use_cache=False).logits[0]
        found.append(logits[-2:].float().cpu())
    return found


@torch.inference_mode()
def packed_scores(model: LanguageModel, sequences: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """The same by the packed batch: the last token of each by decoding, what is before as prompts in one pass."""
    store = KeyValueStore(len(sequences), max(map(len, sequences)))
    store.reserve(len(sequences), max(map(len, sequences)))
    tokens: list[int] = []
    positions: list[int] = []
    pieces, last = [], []
    for slot, sequence in enumerate(sequences):
        pieces.append(Piece(slot, len(tokens), len(sequence) - 1, 0))
        tokens += sequence[:-1]
        positions += range(len(sequence) - 1)
        last.append(len(tokens) - 1)
    read = model.scores(
        tokens, positions, PackedBatch(store, pieces=pieces, device=model.device), last, [None] * len(tokens)
    )
    places = [len(sequence) - 1 for sequence in sequences]
    slots = list(range(len(sequences)))
    batch = PackedBatch(store, slots, places, device=model.device)
    decoded = model.scores([sequence[-1] for sequence in sequences], places, batch, slots, [None] * len(slots))
    return [torch.stack([one, other]) for one, other in zip(read, decoded, strict=True)]


def check_equal(plain: Sequence[torch.Tensor], packed: Sequence[torch.Tensor], dtype: torch.dtype, name: str) -> None:
    """Raises InputRefused where they differ by more than rounding."""
    allowed = _TOLERANCE.get(dtype, _LOW_PRECISION)
    for one, other in zip(plain, packed, strict=True):
        distance = float((one - other).norm() / one.norm().clamp(min=1e-6))
        if not distance <= allowed:
            raise InputRefused(
                f"{name} gives other scores in a batch than alone (relative distance {distance:.2g}, allowed {allowed:g}): its "
                "architecture does something that this server does not know. Serve it with another server (kind tgi or openai)"
            )


@torch.inference_mode()
def reward_scores(model: RewardModel, sequences: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """The scores of all sequences in one pass."""
    return [torch.tensor([score]) for score in model.scores(sequences)]
