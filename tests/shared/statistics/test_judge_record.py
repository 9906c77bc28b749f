"""The record of controls names the judge who approves of too much, and tells length apart from leniency."""

import random

import pytest

from shared.statistics import judge_record as module
from shared.statistics.judge_record import ControlAnswer, ControlCounts, judge_record


def _answers(short: float, long: float, instructions: int = 60) -> list[ControlAnswer]:
    """Four answers per instruction, one of them long, missed with the shares given."""
    chance = random.Random(3)
    return [
        ControlAnswer(200 if number == 0 else 80, chance.random() < (long if number == 0 else short), str(row))
        for row in range(instructions)
        for number in range(4)
    ]


@pytest.mark.parametrize(
    ("short", "long", "verdict"),
    [
        (0.0, 0.0, "reliable"),
        (0.05, 0.05, "reliable"),
        (0.4, 0.4, "lenient"),
        (0.0, 0.4, "length_biased"),
        (0.4, 0.0, "lenient"),
    ],
)
def test_verdicts(short: float, long: float, verdict: str) -> None:
    record = judge_record(_answers(short, long))
    assert record.verdict == verdict
    assert record.controls == 240
    assert record.longer_minus_shorter.estimate == pytest.approx(long - short, abs=0.12)
    assert record.missed.estimate == pytest.approx((3 * short + long) / 4, abs=0.08)


def test_too_little_is_unknown() -> None:
    assert judge_record([]).verdict == "unknown"
    assert judge_record(_answers(0.5, 0.5, instructions=10)).verdict == "unknown"
    assert judge_record([ControlAnswer(80, True, "one")] * 100).verdict == "unknown"


def test_answers_of_one_length_have_no_difference() -> None:
    record = judge_record([ControlAnswer(80, False, str(number)) for number in range(100)])
    assert (record.verdict, record.longer_minus_shorter.estimate) == ("reliable", None)


def test_counts_come_from_scores_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = ControlCounts()
    for row in range(40):
        counts.add(str(row), {"words": 80, "controls": 2, "controls_missed": 1})
        counts.add(str(row), {"words": 80})
    record = counts.record()
    assert (record.controls, record.missed.estimate) == (80, 0.5)
    monkeypatch.setattr(module, "SAMPLED_INSTRUCTIONS", 30)
    kept = []
    for order in (range(200), reversed(range(200))):
        sampled = ControlCounts()
        for row in order:
            sampled.add(str(row), {"words": row, "controls": 2, "controls_missed": 0})
        kept.append(sampled.record())
    assert kept[0].controls == 60
    assert kept[0].longer_from == kept[1].longer_from
