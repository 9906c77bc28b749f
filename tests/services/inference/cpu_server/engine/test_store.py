import pytest
import torch

from services.inference.cpu_server.engine.store import BLOCK, KeyValueStore


def _states(tokens: int = 1) -> torch.Tensor:
    return torch.ones(1, 2, tokens, 4)


def test_what_is_stored_stays_when_buffers_grow_and_shrink() -> None:
    store = KeyValueStore(8, 4096)
    store.reserve(2, 10)
    layer = store.layer(0, _states(), _states())
    layer.keys[1, :, :, :10] = torch.arange(10.0)
    layer.values[1, :, :10] = torch.arange(10.0)[:, None]
    store.reserve(7, 5 * BLOCK)
    grown = store.bytes()
    store.shrink(2, 10)
    assert store.bytes() * 4 <= grown
    layer = store.layer(0, _states(), _states())
    assert layer.keys[1, 0, 0, :10].tolist() == list(range(10))
    assert layer.values[1, 0, :10, 0].tolist() == list(range(10))


def test_nothing_is_kept_when_no_sequence_is_left() -> None:
    store = KeyValueStore(8, 4096)
    store.reserve(4, 100)
    store.layer(0, _states(), _states())
    assert store.bytes() > 0
    store.shrink(0, 0)
    assert store.bytes() == 0


def test_buffers_are_never_larger_than_slots_and_lengths_allow() -> None:
    store = KeyValueStore(3, 200)
    for length in range(1, 201):
        store.reserve(3, length)
    layer = store.layer(0, _states(), _states())
    assert layer.keys.shape == (3, 2, 4, 2 * BLOCK)


def test_growing_by_single_tokens_copies_rarely() -> None:
    store = KeyValueStore(1, 100_000)
    sizes = set()
    for length in range(1, 20_000):
        store.reserve(1, length)
        sizes.add(store.length)
    assert len(sizes) < 20


@pytest.mark.parametrize("failing", [0, 1])
def test_a_growth_that_fails_leaves_what_was_stored(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeyValueStore(2, 4096)
    store.reserve(1, 10)
    for number in range(2):
        store.layer(number, _states(), _states()).keys[0] = number + 1
    calls = iter(range(100))
    made = torch.Tensor.new_zeros

    def scarce(self: torch.Tensor, *sizes: int) -> torch.Tensor:
        if next(calls) == failing:
            raise RuntimeError("not enough memory")
        return made(self, *sizes)

    monkeypatch.setattr(torch.Tensor, "new_zeros", scarce)
    with pytest.raises(RuntimeError):
        store.reserve(1, 1000)
    monkeypatch.undo()
    assert store.length == BLOCK
    assert [float(store.layer(number, _states(), _states()).keys[0, 0, 0, 0]) for number in range(2)] == [1, 2]


def test_a_moved_slot_holds_the_other_ones_tokens() -> None:
    store = KeyValueStore(2, 100)
    store.reserve(2, 5)
    layer = store.layer(0, _states(), _states())
    layer.keys[1], layer.values[1] = 3, 4
    store.move(1, 0, 5)
    assert (layer.keys[0, :, :, :5] == 3).all()
    assert (layer.values[0, :, :5] == 4).all()
    assert (layer.keys[0, :, :, 5:] == 0).all()
