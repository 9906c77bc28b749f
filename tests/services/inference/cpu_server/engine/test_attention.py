"""The packed attention against a plain computation for each sequence alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.inference.cpu_server.engine.attention import PackedBatch, Piece, slot_groups
from services.inference.cpu_server.engine.store import KeyValueStore

_HEADS, _KEY_HEADS, _SIZE, _SCALE = 4, 2, 8, 0.3


def _expected(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int | None, softcap: float | None
) -> torch.Tensor:
    """[tokens, heads, size] of the last `query` tokens of a sequence with all its keys and values [heads, tokens, size]."""
    length = key.shape[1]
    key, value = (states.double().repeat_interleave(_HEADS // _KEY_HEADS, dim=0) for states in (key, value))
    scores = query.double() @ key.mT * _SCALE
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    distance = torch.arange(length - query.shape[1], length)[:, None] - torch.arange(length)[None]
    hidden = distance < 0
    if window is not None:
        hidden |= distance >= window
    return (scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value).transpose(0, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (3, None), (None, 2.0), (3, 2.0)])
def test_each_sequence_attends_as_if_alone(dtype: torch.dtype, window: int | None, softcap: float | None) -> None:
    torch.manual_seed(0)
    lengths = [7, 1, 300, 12]  # tokens that each slot has after the pass
    read_now = {1: 1, 3: 5}  # slots that read a piece; the others decode
    sequences = [
        tuple(torch.randn(heads, length, _SIZE).to(dtype) for heads in (_HEADS, _KEY_HEADS, _KEY_HEADS))
        for length in lengths
    ]
    store = KeyValueStore(4, 512)
    store.reserve(4, 300)
    for slot, (query, key, value) in enumerate(sequences):
        before = lengths[slot] - read_now.get(slot, 1)
        if before:
            batch = PackedBatch(store, pieces=[Piece(slot, 0, before, 0)])
            parts = [states[None, :, :before] for states in (query, key, value)]
            batch.attend(0, *parts, _SCALE, window, softcap)
    order = [2, 0, 1, 3]
    pieces, start = [], 2
    for slot, count in read_now.items():
        pieces.append(Piece(slot, start, count, lengths[slot] - count))
        start += count
    packed = [
        torch.cat([sequences[slot][part][:, -read_now.get(slot, 1) :] for slot in order], dim=1)[None]
        for part in range(3)
    ]
    batch = PackedBatch(store, [2, 0], [299, 6], pieces)
    output = batch.attend(0, *packed, _SCALE, window, softcap)[0].double()
    expected = torch.cat(
        [
            _expected(sequences[slot][0][:, -read_now.get(slot, 1) :], *sequences[slot][1:], window, softcap)
            for slot in order
        ]
    )
    assert (output - expected).abs().max() < (1e-5 if dtype is torch.float32 else 0.03)


@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=20))
def test_groups_cover_every_slot_once_and_are_long_enough(lengths: list[int]) -> None:
    groups = slot_groups(lengths)
    assert [slot for first, after, _ in groups for slot in range(first, after)] == list(range(len(lengths)))
    assert all(longest == max(lengths[first:after]) for first, after, longest in groups)


def test_one_long_sequence_does_not_lengthen_the_others() -> None:
    assert slot_groups([200] * 7 + [8000] + [190] * 8) == [(0, 7, 200), (7, 8, 8000), (8, 16, 190)]
    assert slot_groups([200, 190, 210, 180]) == [(0, 4, 210)]
