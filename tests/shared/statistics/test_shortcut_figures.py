"""A collection's shortcuts: found where they are planted, absent where pairs stand in both orders."""

import random
from typing import Any

import pytest

from shared.statistics.shortcut_figures import ShortcutFigures
from tests.shared.statistics.records import facet_record

WORDS = ["salt", "river", "lamp", "stone", "bread", "cloud", "wheel", "glass", "paper", "moss", "rope", "chalk"]


def pair(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    turns = {
        name: [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
        for name, text in (("chosen", chosen), ("rejected", rejected))
    }
    return {"prompt": prompt, **turns}


def answer(generator: random.Random, words: int = 30) -> str:
    return " ".join(generator.choices(WORDS, k=words))


def blind(*, mirrored: bool, longer: bool) -> float:
    generator = random.Random(5)
    counted = ShortcutFigures()
    for number in range(150):
        one, other = answer(generator, 40 if longer else 30), answer(generator)
        counted.add_pair(pair(str(number), one, other))
        if mirrored:
            counted.add_pair(pair(str(number), other, one))
    return float(counted.finish()["blind"]["accuracy"]["estimate"])


def test_the_longer_answer_is_told_unless_pairs_stand_in_both_orders() -> None:
    assert blind(mirrored=False, longer=True) > 0.9
    assert blind(mirrored=True, longer=True) == 0.5
    assert blind(mirrored=False, longer=False) == pytest.approx(0.5, abs=0.13)


@pytest.mark.parametrize(("fixed", "gains"), [(True, True), (False, False)])
def test_dimensions_in_one_order_are_told_by_their_place(fixed: bool, gains: bool) -> None:
    generator = random.Random(6)
    counted = ShortcutFigures()
    for number in range(100):
        wishes = [("style", "tone", "warm"), ("depth", "length", "less"), ("facts", "sources", "many")]
        if not fixed:
            generator.shuffle(wishes)
        counted.add_set(facet_record(str(number), 0, wishes))
    counted.add_set(facet_record("neutral", -1, []))
    gain = counted.finish()["position"]["gain"]
    assert (gain["low"] > 0.3) is gains
    assert (gain["low"] < 0.05) is not gains
