"""A sample of whole instructions does not depend on the order of a collection, and stays small."""

import random

import pytest

from shared.statistics.instruction_sample import InstructionSample


@pytest.mark.parametrize("seed", range(3))
def test_the_same_instructions_are_kept_whatever_their_order(seed: int) -> None:
    names = [str(number) for number in range(200)]
    random.Random(seed).shuffle(names)
    sample: InstructionSample[int] = InstructionSample("test", 20)
    for name in names:
        for item in range(3):
            sample.add(name, int(name) * 10 + item)
    other: InstructionSample[int] = InstructionSample("test", 20)
    for name in sorted(names):
        other.add(name, int(name) * 10)
    assert {name for name, _ in sample.items()} == {name for name, _ in other.items()}
    assert sorted(item for _, item in sample.items()) == sorted(
        int(name) * 10 + item for name in {name for name, _ in other.items()} for item in range(3)
    )
    assert (sample.instructions, sample.complete) == (20, False)


def test_fewer_instructions_are_all_kept() -> None:
    sample: InstructionSample[str] = InstructionSample("test", 3)
    for name in "abc":
        sample.add(name, name)
    assert (list(sample.items()), sample.instructions, sample.complete) == (
        [("a", "a"), ("b", "b"), ("c", "c")],
        3,
        True,
    )


def test_samples_of_other_names_hold_other_instructions() -> None:
    kept = []
    for name in ("one", "two"):
        sample: InstructionSample[int] = InstructionSample(name, 20)
        for number in range(200):
            sample.add(str(number), number)
        kept.append({number for _, number in sample.items()})
    assert kept[0] != kept[1]
