"""Shortcuts: planted ones are found, and what has none lands at chance."""

import random

import pytest

from shared.statistics.intervals import Interval
from shared.statistics.shortcuts import blind_accuracy, position_accuracy

WORDS = [f"word{number}" for number in range(300)]
DIMENSIONS = ["style", "background_knowledge", "informativeness", "harmlessness"]


def answers(count: int, seed: int = 0) -> list[list[str]]:
    """Three answers for each of `count` instructions, of 20 to 120 words that say nothing."""
    generator = random.Random(seed)
    return [[" ".join(generator.choices(WORDS, k=generator.randint(20, 120))) for _ in range(3)] for _ in range(count)]


def bounds(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def test_mirrored_pairs_tell_nothing() -> None:
    pairs = [
        (own, other, number)
        for number, texts in enumerate(answers(80))
        for own in texts
        for other in texts
        if own is not other
    ]
    found = blind_accuracy(*zip(*pairs, strict=True))
    # Exactly, by construction: whatever is learnt of one order is unlearnt from the other.
    assert found.accuracy.estimate == 0.5
    assert found.accuracy.method == "no_variation"
    assert (found.observations, found.available, found.chance) == (480, 480, 0.5)


def test_pairs_drawn_at_random_tell_nothing() -> None:
    pairs = [(texts[0], texts[1], number) for number, texts in enumerate(answers(400, seed=3))]
    low, high = bounds(blind_accuracy(*zip(*pairs, strict=True)).accuracy)
    assert low < 0.5 < high


def test_longer_answers_that_win_are_found() -> None:
    pairs = []
    for number, texts in enumerate(answers(200, seed=1)):
        longer, shorter = sorted(texts[:2], key=len, reverse=True)
        pairs.append((longer, shorter, number))
    low, _ = bounds(blind_accuracy(*zip(*pairs, strict=True)).accuracy)
    assert low > 0.75


def test_a_word_that_gives_the_chosen_one_away_is_found() -> None:
    generator = random.Random(2)
    pairs = [
        (f"{texts[0]} indeed" if generator.random() < 0.8 else texts[0], texts[1], number)
        for number, texts in enumerate(answers(500, seed=2))
    ]
    found = blind_accuracy(*zip(*pairs, strict=True))
    assert bounds(found.accuracy)[0] > 0.7
    assert bounds(found.gain)[0] > 0.2


def test_a_wording_of_one_instruction_alone_teaches_nothing() -> None:
    """What is seen again within an instruction only must not count: training and testing share none."""
    pairs = []
    for number, texts in enumerate(answers(60, seed=4)):
        pairs += [(f"{texts[0]} mark{number}", texts[1], number)] * 5
    low, high = bounds(blind_accuracy(*zip(*pairs, strict=True)).accuracy)
    assert low < 0.5 < high


def test_a_sample_holds_whole_instructions() -> None:
    pairs = [(text, "other", number) for number, texts in enumerate(answers(100)) for text in texts]
    found = blind_accuracy(*zip(*pairs, strict=True), most=60)
    assert (found.observations, found.available) == (60, 300)
    assert found.accuracy.clusters == 20
    assert found == blind_accuracy(*zip(*pairs, strict=True), most=60)


def test_dimensions_always_in_the_same_order_are_found() -> None:
    found = position_accuracy([DIMENSIONS] * 60, [number // 3 for number in range(60)])
    assert found.accuracy.estimate == 1.0
    assert found.chance == 0.25
    assert found.observations == 240


def test_dimensions_in_random_order_land_at_chance() -> None:
    generator = random.Random(7)
    sets = [generator.sample(DIMENSIONS, 4) for _ in range(600)]
    found = position_accuracy(sets, [number // 3 for number in range(600)])
    assert found.accuracy.estimate == pytest.approx(0.25, abs=0.05)
    low, high = bounds(found.gain)
    assert low < 0.02
    assert high > -0.02


def test_few_instructions_give_no_figure() -> None:
    found = blind_accuracy(["a"] * 9, ["b"] * 9, range(9))
    assert (found.accuracy.estimate, found.accuracy.method) == (None, "too_few_instructions")
    assert position_accuracy([DIMENSIONS], ["only"]).gain.method == "too_few_instructions"


def test_lists_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="come in threes"):
        blind_accuracy(["a"], ["b", "c"], [1])
    with pytest.raises(ValueError, match="belongs to one"):
        position_accuracy([DIMENSIONS], [])
