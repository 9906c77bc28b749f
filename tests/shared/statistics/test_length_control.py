"""Length-controlled win rates: cases whose answer is known without fitting anything, and what holds for all battles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from shared.statistics.length_control import LENGTH_PENALTY, PENALTY, length_controlled_win_rate
from shared.statistics.pairwise import Battle, swapped, win_rate


def battles(verdicts: list[tuple[int, float, int]]) -> list[Battle]:
    """(words that the first answer is longer by, outcome, how often)."""
    found: list[Battle] = []
    for longer, outcome, times in verdicts:
        for _ in range(times):
            found.append(
                Battle(f"i{len(found)}", "ours", "theirs", outcome, first_words=500 + longer, second_words=500)
            )
    return found


def test_an_advantage_that_is_all_length_is_gone_after_control() -> None:
    """90% for whoever is longer; ours is longer in 80 of 100 pairs and wins 74%. The fitted terms are ±2.2 for length, 0 for
    the model: at equal length nobody is better."""
    found = battles([(100, 1.0, 72), (100, 0.0, 8), (-100, 1.0, 2), (-100, 0.0, 18)])
    assert win_rate(found).interval.estimate == pytest.approx(0.74)
    assert length_controlled_win_rate(found).estimate == pytest.approx(0.5, abs=1e-3)


def test_lengths_that_decide_nothing_leave_the_rate_as_it_is() -> None:
    found = battles([(100, 1.0, 35), (100, 0.0, 15), (-100, 1.0, 35), (-100, 0.0, 15)])
    controlled = length_controlled_win_rate(found)
    assert controlled.estimate == pytest.approx(0.7, abs=1e-3)
    plain = win_rate(found).interval
    assert (controlled.low, controlled.high) == pytest.approx((plain.low, plain.high), abs=0.01)


def test_equal_lengths_leave_the_rate_as_it_is() -> None:
    assert length_controlled_win_rate(battles([(0, 1.0, 30), (0, 0.0, 10)])).estimate == pytest.approx(0.75, abs=1e-3)


def test_a_better_model_that_writes_less_gains_by_control() -> None:
    """Logits of 1 for the model and 2 for length, by the model's own formula: the rate at equal length is logistic(1)."""
    generator = np.random.default_rng(8)
    differences = generator.normal(-40, 100, size=4000)
    spread = np.sqrt((np.round(differences) ** 2).mean())
    chances = expit(1 + 2 * np.tanh(np.round(differences) / spread))
    found = [
        Battle(str(n), "ours", "theirs", float(p), first_words=1000 + round(d), second_words=1000)
        for n, (d, p) in enumerate(zip(differences, chances, strict=True))
    ]
    controlled = length_controlled_win_rate(found, rounds=50)
    # Preferences between 0 and 1 that follow the formula are fitted exactly.
    assert controlled.estimate == pytest.approx(float(expit(1.0)), abs=1e-4)
    assert controlled.estimate > (win_rate(found, rounds=5).interval.estimate or 1)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(-300, 300), st.sampled_from([0.0, 0.3, 0.5, 1.0])), min_size=1, max_size=25),
    st.booleans(),
)
def test_swapping_the_models_gives_one_minus_the_rate(pairs: list[tuple[int, float]], difficult: bool) -> None:
    found = battles([(longer, outcome, 1) for longer, outcome in pairs])
    difficulties = {one.instruction: float(number % 3) for number, one in enumerate(found)} if difficult else None
    one = length_controlled_win_rate(found, difficulties=difficulties, rounds=15)
    other = length_controlled_win_rate([swapped(battle) for battle in found], difficulties=difficulties, rounds=15)
    assert one.method == other.method
    if one.estimate is not None:
        assert other.estimate == pytest.approx(1 - one.estimate, abs=1e-6)
    if one.low is not None:
        assert other.high == pytest.approx(1 - one.low, abs=1e-6)


def test_a_model_against_itself_is_one_half() -> None:
    mirrored = battles([(80, 1.0, 10), (80, 0.0, 4)])
    both = [*mirrored, *(swapped(one) for one in mirrored)]
    both = [
        Battle(str(n), "m", "m", b.outcome, first_words=b.first_words, second_words=b.second_words)
        for n, b in enumerate(both)
    ]
    assert length_controlled_win_rate(both).estimate == pytest.approx(0.5)


def test_difficulty_is_fitted_and_the_rate_is_the_mean_over_instructions() -> None:
    """Held against scipy's optimiser on the likelihood as it is written down."""
    generator = np.random.default_rng(5)
    lengths, hardness = generator.integers(-200, 200, size=120), generator.normal(size=120)
    outcomes = (generator.random(120) < expit(0.4 + 0.01 * lengths + 0.8 * hardness)).astype(float)
    found = [
        Battle(str(n), "ours", "theirs", float(outcome), first_words=400 + int(length), second_words=400)
        for n, (outcome, length) in enumerate(zip(outcomes, lengths, strict=True))
    ]
    difficulties = {str(n): float(value) for n, value in enumerate(hardness)}
    tanh = np.tanh(lengths / np.sqrt((lengths**2).mean()))
    centred = hardness - hardness.mean()

    def loss(terms: np.ndarray) -> float:
        logits = terms[0] + terms[1] * tanh + terms[2] * centred
        likelihood = (outcomes * logits - np.logaddexp(0, logits)).sum()
        return float(-likelihood + (np.array([PENALTY, LENGTH_PENALTY, PENALTY]) * terms**2).sum() / 2)

    terms = minimize(loss, np.zeros(3), tol=1e-12).x
    controlled = length_controlled_win_rate(found, difficulties=difficulties, rounds=20)
    assert controlled.estimate == pytest.approx(float(expit(terms[0] + terms[2] * centred).mean()), abs=1e-5)


def test_what_the_data_cannot_tell_is_said() -> None:
    # The same difference everywhere: length and model cannot be told apart.
    confounded = length_controlled_win_rate(battles([(100, 1.0, 30), (100, 0.0, 10)]))
    assert (confounded.estimate, confounded.low, confounded.method) == (None, None, "length_confounded")
    # The longer answer always wins: nothing says what equal lengths would give, but length explains it all.
    separated = length_controlled_win_rate(battles([(100, 1.0, 80), (-100, 0.0, 20)]))
    assert separated.estimate == pytest.approx(0.5, abs=0.02)
    assert (separated.low, separated.method) == (None, "length_separated")
    # One model wins everything, longer or not: that is no length.
    winner = length_controlled_win_rate(battles([(100, 1.0, 20), (-100, 1.0, 20)]))
    assert winner.estimate == pytest.approx(1, abs=0.01)
    assert winner.method == "length_separated"
    assert length_controlled_win_rate([]).method == "nothing"
    assert length_controlled_win_rate(battles([(0, 0.5, 9)])).method == "no_variation"
    assert length_controlled_win_rate(battles([(0, 1.0, 1)])).method in ("one_cluster", "length_separated")


def test_difficulties_are_needed_for_all_or_none() -> None:
    with pytest.raises(ValueError, match="1 instructions have no difficulty, such as 'i1'"):
        length_controlled_win_rate(battles([(0, 1.0, 2)]), difficulties={"i0": 1.0})
