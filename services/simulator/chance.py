"""Seeded chance: the same parts give the same draws on every machine and in every process."""

from collections.abc import MutableSequence, Sequence
from hashlib import blake2b
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

_SEPARATOR = b"\x1f"


def digest_of(*parts: bytes | str | int) -> bytes:
    """16 bytes that depend on all parts and on nothing else."""
    joined = _SEPARATOR.join(part if isinstance(part, bytes) else str(part).encode() for part in parts)
    return blake2b(joined, digest_size=16).digest()


class Chance(Random):
    """`random.Random` whose draws from short sequences cost a third: the simulator lives on them.

    They scale one 53-bit number instead of rejecting bits; the bias for sequences of a few dozen is far below notice.
    """

    def choice(self, seq: Sequence[T]) -> T:  # type: ignore[override]
        return seq[int(self.random() * len(seq))]

    def randint(self, a: int, b: int) -> int:
        return a + int(self.random() * (b - a + 1))

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        low, high = (0, start) if stop is None else (start, stop)
        return low + step * int(self.random() * -(-(high - low) // step))

    def shuffle(self, x: MutableSequence[Any]) -> None:
        for index in range(len(x) - 1, 0, -1):
            other = int(self.random() * (index + 1))
            x[index], x[other] = x[other], x[index]

    def sample(self, population: Sequence[T], k: int) -> list[T]:  # type: ignore[override]
        pool = list(population)
        return [self.draw(pool) for _ in range(k)]

    def draw(self, pool: list[T]) -> T:
        """Take one item out of the pool; the order of the rest is not kept."""
        index = int(self.random() * len(pool))
        pool[index], pool[-1] = pool[-1], pool[index]
        return pool.pop()


def generator_of(*parts: bytes | str | int) -> Chance:
    """A generator of pseudo-random numbers, seeded by the parts."""
    return Chance(int.from_bytes(digest_of(*parts)[:8], "big"))


def uniforms_of(*parts: bytes | str | int) -> tuple[float, float]:
    """Two numbers in [0, 1), cheaper than a generator."""
    digest = digest_of(*parts)
    return int.from_bytes(digest[:8], "big") / 2**64, int.from_bytes(digest[8:], "big") / 2**64
