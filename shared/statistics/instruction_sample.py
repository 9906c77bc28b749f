"""A sample of whole instructions, drawn by hash while a collection streams by: the same for the same collection, whatever its
order, and of bounded memory whatever its size."""

from collections.abc import Iterator
from heapq import nsmallest
from typing import Generic, TypeVar

from shared.domain.identifiers import seed_of

T = TypeVar("T")


class InstructionSample(Generic[T]):
    """Keeps what was said of the `size` instructions of lowest hash; twice as many while it is being filled."""

    def __init__(self, name: str, size: int) -> None:
        """`name` tells this sample from others of the same collection, which then hold other instructions."""
        self._name = name
        self._size = size
        self._kept: dict[str, list[T]] = {}
        self._dropped = False

    def add(self, instruction: str, item: T) -> None:
        """Take in one item. Those of one instruction must follow one another, or one that was dropped comes back in part."""
        if instruction not in self._kept and len(self._kept) >= 2 * self._size:
            self._thin()
        self._kept.setdefault(instruction, []).append(item)

    def items(self) -> Iterator[tuple[str, T]]:
        """Everything kept, with its instruction."""
        self._thin()
        for instruction, items in self._kept.items():
            for item in items:
                yield instruction, item

    @property
    def instructions(self) -> int:
        """How many instructions are kept."""
        self._thin()
        return len(self._kept)

    @property
    def complete(self) -> bool:
        """Whether nothing was left out."""
        self._thin()
        return not self._dropped

    def _thin(self) -> None:
        if len(self._kept) <= self._size:
            return
        self._dropped = True
        names = nsmallest(self._size, self._kept, key=lambda name: (seed_of(self._name, name), name))
        self._kept = {name: self._kept[name] for name in names}
