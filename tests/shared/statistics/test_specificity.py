"""Specificity: zero for one answer, positive for fitting ones, and honest about what is missing."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.statistics.specificity import (
    ScoredInstruction,
    instruction_specificity,
    matching,
    ratio_interval,
    summarise,
    utility,
)

SCORES = st.one_of(st.none(), st.floats(1, 5))
KEYS = st.sampled_from([f"rubric {number}" for number in range(8)])


@given(st.lists(st.lists(KEYS, max_size=5), min_size=1, max_size=5), st.dictionaries(KEYS, SCORES))
def test_one_answer_for_all_has_no_specificity_at_all(
    rubrics: list[list[str]], scores: dict[str, float | None]
) -> None:
    found = instruction_specificity(ScoredInstruction("same", rubrics, [scores] * len(rubrics)))
    assert found.specificity in (None, 0.0)
    assert found.pairs + found.pairs_without_own + found.pairs_unscored == len(rubrics) * (len(rubrics) - 1)
    assert (found.specificity is None) == (found.pairs == 0)


def fitting(name: str, people: int = 3, own: float = 5, other: float = 2) -> ScoredInstruction:
    """Everybody's own rubric and one that all share."""
    return ScoredInstruction(
        name,
        [[f"own {person}", "shared"] for person in range(people)],
        [
            {**{f"own {person}": own if person == answer else other for person in range(people)}, "shared": 3.0}
            for answer in range(people)
        ],
        words=[100] * people,
        broken=[False] * people,
    )


def test_the_shared_rubric_does_not_count() -> None:
    found = instruction_specificity(fitting("one"))
    assert (found.specificity, found.pairs, found.missing_scores) == (0.75, 6, 0)


def test_a_writer_who_is_better_for_everybody_gains_nothing() -> None:
    better = fitting("better", own=5, other=5)
    assert instruction_specificity(better).specificity == 0.0
    assert summarise([better]).own_score.estimate == 4.0


def test_by_hand_with_two_people() -> None:
    scored = ScoredInstruction(
        "two", [["a1", "a2"], ["b1"]], [{"a1": 5, "a2": 3, "b1": 2}, {"a1": 1, "a2": 3, "b1": 4}]
    )
    # a against b: (1 - 0 + 0.5 - 0.5) / 2; b against a: 0.75 - 0.25
    assert instruction_specificity(scored).specificity == 0.5


def test_missing_scores_and_shared_sets_are_left_out_and_counted() -> None:
    scored = ScoredInstruction(
        "gaps",
        [["x"], ["x"], ["y", "z"]],
        [{"x": 4, "y": None, "z": 2}, {"x": 4}, {"x": 2, "y": 5, "z": 4}],
    )
    found = instruction_specificity(scored)
    # Of the 6 pairs two share x, and (c, b) lacks both scores of b; (a, c) and (b, c) give 0.5 each, (c, a) by z 0.5.
    assert (found.specificity, found.pairs, found.pairs_without_own, found.pairs_unscored) == (0.5, 3, 2, 1)
    assert found.missing_scores == 3


def test_matching_shares_ties() -> None:
    assert matching(fitting("fits")) == pytest.approx(matching(fitting("fits", own=4, other=3)))
    fits, level = matching(fitting("fits")), matching(fitting("level", own=3, other=3))
    assert fits is not None
    assert level is not None
    assert (fits.share, fits.exact, fits.chance) == (1.0, 1.0, 1 / 6)
    assert (level.share, level.exact) == pytest.approx((1 / 3, 1 / 6))


def test_matching_finds_swapped_answers() -> None:
    scores = [{"a": 1.0, "b": 5.0, "c": 3.0}, {"a": 5.0, "b": 1.0, "c": 3.0}, {"a": 3.0, "b": 3.0, "c": 5.0}]
    found = matching(ScoredInstruction("swapped", [["a"], ["b"], ["c"]], scores))
    assert found is not None
    assert (found.share, found.exact) == (pytest.approx(1 / 3), 0.0)


def test_matching_needs_a_full_rubric_for_everybody() -> None:
    assert matching(ScoredInstruction("gap", [["a"], ["b"]], [{"a": 5, "b": None}, {"a": 1, "b": 4}])) is None
    with pytest.raises(ValueError, match="9 people"):
        matching(fitting("many", people=9))


def test_the_summary_over_instructions() -> None:
    generator = random.Random(4)
    scored = [fitting(f"i{number}", own=generator.choice([3, 4, 5]), other=2) for number in range(60)]
    reference = [fitting(f"i{number}", own=5, other=generator.choice([1, 2])) for number in range(60)]
    found = summarise(scored, reference)
    assert found.specificity.estimate == pytest.approx(0.5, abs=0.06)
    assert found.specificity.low is not None
    assert found.specificity.high is not None
    assert found.specificity.low < 0.5 < found.specificity.high
    assert found.specificity.clusters == found.instructions == 60
    assert found.ratio is not None
    assert found.ratio.estimate == pytest.approx(0.5 / 0.875, abs=0.08)
    assert found.exact_match.estimate == 1.0
    assert found.exact_match.low is not None
    assert found.exact_match.low < 1.0
    assert found.exact_match_by_chance == pytest.approx(1 / 6)
    assert (found.words.estimate, found.breakage.estimate, found.pairs) == (100.0, 0.0, 360)
    assert summarise([]).specificity.method == "nothing"


def test_the_interval_of_a_ratio_holds_it() -> None:
    generator = np.random.default_rng(8)
    held = 0
    for _ in range(1000):
        below = generator.normal(0.5, 0.2, size=60)
        found = ratio_interval((0.6 * below + generator.normal(0, 0.1, size=60)).tolist(), below.tolist())
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.6 <= found.high
    assert 0.93 <= held / 1000 <= 0.97


def test_a_ratio_by_what_may_be_nothing_has_no_interval() -> None:
    found = ratio_interval([1.0, 2.0, 3.0], [-1.0, 1.0, 0.5])
    assert (found.low, found.high, found.method) == (None, None, "denominator_near_zero")


def test_unfit_input_is_refused() -> None:
    with pytest.raises(ValueError, match="outside 1 to 5"):
        utility(0)
    with pytest.raises(ValueError, match="one per person"):
        instruction_specificity(ScoredInstruction("short", [["a"], ["b"]], [{"a": 1}]))
    with pytest.raises(ValueError, match="stands twice"):
        summarise([fitting("one"), fitting("one")])
