"""Keys and values of the running sequences, for each layer one buffer of each.

Keys lie with their length last, so that the product with one query per sequence reads memory in order (in bfloat16 on a CPU
more than twice as fast as the other way round). Buffers grow by half when the longest sequence needs it and shrink when a
quarter would do, and are given back when no sequence is left.
"""

from dataclasses import dataclass

import torch

BLOCK = 128
"""Buffers hold a multiple of so many tokens per slot."""


@dataclass
class Layer:
    """`keys` [slots, heads, size, length], `values` [slots, heads, length, size]. What no sequence has written is zero or an
    older sequence's: finite, for a masked NaN would still spoil a sum."""

    keys: torch.Tensor
    values: torch.Tensor


class KeyValueStore:
    """Buffers for at most `slots` sequences of at most `maximum_length` tokens.

    Layers appear when they first store something, so that every layer has its own heads and sizes.
    """

    def __init__(self, slots: int, maximum_length: int) -> None:
        self._most_slots = slots
        self._maximum_length = maximum_length
        self._slots = 0
        self._length = 0
        self._layers: dict[int, Layer] = {}

    @property
    def length(self) -> int:
        """Tokens per slot that buffers have room for."""
        return self._length

    def bytes(self) -> int:
        """What the buffers take."""
        return sum(tensor.nbytes for layer in self._layers.values() for tensor in (layer.keys, layer.values))

    def reserve(self, slots: int, length: int) -> None:
        """Make room for slots 0 to `slots` - 1, each of `length` tokens. Raises RuntimeError where memory does not suffice; what
        is stored stays usable."""
        wanted_slots, wanted_length = self._slots, self._length
        if slots > self._slots:
            wanted_slots = min(self._most_slots, max(slots, 2 * self._slots))
        if length > self._length:
            wanted_length = _rounded(min(self._maximum_length, max(length, self._length * 3 // 2)))
        if (wanted_slots, wanted_length) != (self._slots, self._length):
            self._resize(wanted_slots, wanted_length)

    def shrink(self, slots: int, length: int) -> None:
        """Give back what slots 0 to `slots` - 1 of at most `length` tokens do not need, where that is three quarters or more."""
        if slots == 0:
            self._layers.clear()
            self._slots = self._length = 0
            return
        wanted = _rounded(length)
        if slots * wanted * 4 <= self._slots * self._length and wanted < self._length:
            self._resize(min(self._slots, max(slots, 1)), wanted)

    def layer(self, number: int, key: torch.Tensor, value: torch.Tensor) -> Layer:
        """Buffers of a layer; `key` and `value` [rows, heads, tokens, size] tell heads, sizes and type of a new one."""
        layer = self._layers.get(number)
        if layer is None:
            layer = Layer(
                key.new_zeros(self._slots, key.shape[1], key.shape[3], self._length),
                value.new_zeros(self._slots, value.shape[1], self._length, value.shape[3]),
            )
            self._layers[number] = layer
        return layer

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one slot to another."""
        for layer in self._layers.values():
            layer.keys[target, :, :, :length] = layer.keys[source, :, :, :length]
            layer.values[target, :, :length] = layer.values[source, :, :length]

    def clear(self, slot: int) -> None:
        """Overwrite a slot with zeros: what a failed sequence left there may not be finite."""
        for layer in self._layers.values():
            layer.keys[slot] = 0
            layer.values[slot] = 0

    def _resize(self, slots: int, length: int) -> None:
        kept_slots, kept = min(slots, self._slots), min(length, self._length)
        # All new buffers first: where memory does not suffice for one, the old ones are whole.
        resized = {}
        for number, layer in self._layers.items():
            _, heads, size, _ = layer.keys.shape
            keys = layer.keys.new_zeros(slots, heads, size, length)
            values = layer.values.new_zeros(slots, heads, length, layer.values.shape[3])
            keys[:kept_slots, :, :, :kept] = layer.keys[:kept_slots, :, :, :kept]
            values[:kept_slots, :, :kept] = layer.values[:kept_slots, :, :kept]
            resized[number] = Layer(keys, values)
        self._layers = resized
        self._slots, self._length = slots, length


def _rounded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK
