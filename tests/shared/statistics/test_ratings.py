"""Bradley-Terry ratings: known strengths come back, two models stand where their win share says, nothing diverges."""

from math import log10

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from shared.statistics.pairwise import Battle
from shared.statistics.ratings import SCALE, Ratings, bradley_terry


def ratings_of(found: Ratings) -> dict[str, float]:
    return {one.model: one.rating.estimate or 0.0 for one in found.models}


def duel(wins: int, losses: int, ties: int = 0, first: str = "a", second: str = "b") -> list[Battle]:
    outcomes = [1.0] * wins + [0.0] * losses + [0.5] * ties
    return [Battle(f"{first}{second}{number}", first, second, outcome) for number, outcome in enumerate(outcomes)]


def simulated(strengths: dict[str, float], battles: int, *, per_length: float = 0.0, seed: int = 1) -> list[Battle]:
    """Battles of random pairs, ten to an instruction; the strong write more where length counts."""
    generator = np.random.default_rng(seed)
    names = list(strengths)
    found = []
    for number in range(battles):
        one, other = (names[place] for place in generator.choice(len(names), 2, replace=False))
        words = [int(generator.integers(100, 300) * (1 + names.index(name) / 4)) for name in (one, other)]
        style = per_length * (words[0] - words[1]) / (words[0] + words[1] + 1)
        chance = expit(strengths[one] - strengths[other] + style)
        outcome = float(generator.random() < chance)
        found.append(Battle(str(number // 10), one, other, outcome, first_words=words[0], second_words=words[1]))
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 100))
def test_two_models_differ_by_400_log10_of_the_odds(wins: int, losses: int, ties: int) -> None:
    share = (wins + ties / 2) / (wins + losses + ties)
    found = ratings_of(bradley_terry(duel(wins, losses, ties), rounds=2))
    # The weak penalty moves it by hundredths of a point.
    assert found["a"] - found["b"] == pytest.approx(400 * log10(share / (1 - share)), abs=0.05, rel=1e-3)
    assert (found["a"] + found["b"]) / 2 == pytest.approx(1000)


def test_known_strengths_come_back_from_simulated_battles() -> None:
    strengths = {"weak": -1.0, "middling": 0.0, "good": 0.5, "best": 1.5}
    found = bradley_terry(simulated(strengths, 20_000))
    mean = np.mean(list(strengths.values()))
    for one in found.models:
        truth = 1000 + SCALE * (strengths[one.model] - mean)
        assert one.rating.estimate == pytest.approx(truth, abs=15)
        assert one.rating.low is not None
        assert one.rating.high is not None
        assert one.rating.low - 5 < truth < one.rating.high + 5
        assert one.rating.high - one.rating.low < 40
    assert [one.model for one in found.models] == ["best", "good", "middling", "weak"]
    assert (found.determined, found.unconnected, found.separated, found.battles) == (True, False, (), 20_000)


def test_ratings_are_those_of_a_logistic_regression_on_who_met_whom() -> None:
    """As Arena-Hard has it: battles written twice, a tie once as a win of each side, strong verdicts as often as they weigh."""
    generator = np.random.default_rng(11)
    names = ["a", "b", "c", "d"]
    battles, rows, classes = [], [], []
    for number in range(400):
        one, other = generator.choice(4, 2, replace=False)
        outcome, weight = float(generator.choice([0.0, 0.5, 1.0])), int(generator.choice([1, 3]))
        battles.append(Battle(str(number), names[one], names[other], outcome, weight=weight))
        row = np.zeros(4)
        row[one], row[other] = 1, -1
        rows += [row] * 2 * weight
        classes += [1.0, 0.0 if outcome == 0.5 else outcome] * weight if outcome else [0.0] * 2 * weight
    theirs = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(np.array(rows), classes).coef_[0]
    found = ratings_of(bradley_terry(battles, rounds=2, anchor="a"))
    assert [found[name] for name in names] == pytest.approx(list(1000 + SCALE * (theirs - theirs[0])), abs=0.05)


def test_the_chance_against_the_anchor_follows_from_the_ratings() -> None:
    found = bradley_terry([*duel(30, 10), *duel(10, 30, first="c", second="b")], anchor="b", anchor_rating=1200)
    by_name = {one.model: one for one in found.models}
    assert by_name["b"].rating.estimate == 1200
    assert by_name["b"].rating.method == "no_variation"
    assert by_name["b"].win_rate is not None
    assert by_name["b"].win_rate.estimate == 0.5
    for model, chance in (("a", 0.75), ("c", 0.25)):
        one = by_name[model]
        assert one.win_rate is not None
        assert one.win_rate.estimate == pytest.approx(chance, abs=1e-4)
        assert one.win_rate.low is not None
        assert one.win_rate.high is not None
        assert one.win_rate.low < chance < one.win_rate.high
    assert by_name["a"].battles == 40


def test_strong_verdicts_count_as_often_as_their_weight() -> None:
    strong = [Battle("i1", "a", "b", 1.0, weight=3), Battle("i2", "a", "b", 0.0)]
    thrice = [Battle("i1", "a", "b", 1.0)] * 3 + [Battle("i2", "a", "b", 0.0)]
    assert ratings_of(bradley_terry(strong)) == pytest.approx(ratings_of(bradley_terry(thrice)))


def test_which_side_a_model_stands_on_does_not_matter() -> None:
    battles = simulated({"x": 0.0, "y": 0.4, "z": -0.3}, 500)
    turned = [
        Battle(one.instruction, one.second, one.first, 1 - (one.outcome or 0.0)) if number % 2 else one
        for number, one in enumerate(battles)
    ]
    assert ratings_of(bradley_terry(battles)) == pytest.approx(ratings_of(bradley_terry(turned)), abs=1e-4)


def test_style_control_takes_out_what_length_bought() -> None:
    """All models are equally good; the judge likes length, and some write more."""
    battles = simulated(dict.fromkeys(("a", "b", "c", "d"), 0.0), 20_000, per_length=3.0)
    plain, controlled = bradley_terry(battles), bradley_terry(battles, style=True)
    assert max(ratings_of(plain).values()) - min(ratings_of(plain).values()) > 100
    assert max(ratings_of(controlled).values()) - min(ratings_of(controlled).values()) < 25
    assert plain.style == {}
    length = controlled.style["length"]
    assert length.low is not None
    assert length.low > 0
    words = np.array(
        [(one.first_words - one.second_words) / (one.first_words + one.second_words + 1) for one in battles]
    )
    assert length.estimate == pytest.approx(3.0 * np.sqrt((words**2).mean()), abs=0.05)


def test_further_features_of_style_are_controlled_beside_length() -> None:
    generator = np.random.default_rng(3)
    battles = []
    for number in range(5000):
        lists = generator.integers(0, 10, size=2)
        chance = expit(2.0 * (lists[0] - lists[1]) / (lists.sum() + 1))
        battles.append(
            Battle(
                str(number), "a", "b", float(generator.random() < chance), first_words=100, second_words=100,
                first_style=(float(lists[0]), 0.0), second_style=(float(lists[1]), 0.0),
            )
        )  # fmt: skip
    found = bradley_terry(battles, style=True, rounds=30)
    assert list(found.style) == ["length", "style_1", "style_2"]
    assert found.style["style_1"].low is not None
    assert found.style["style_1"].low > 0
    # Neither lengths nor the second feature ever differ.
    assert found.style["length"].estimate == found.style["style_2"].estimate == pytest.approx(0)


def test_separable_battles_stay_finite_and_are_told() -> None:
    winner = bradley_terry(duel(50, 0), anchor="b")
    found = ratings_of(winner)
    assert 1000 < found["a"] < 1000 + 400 * 10
    assert (winner.separated, winner.determined) == (("a", "b"), False)
    # Nobody won everything here, but no battle leads from the lower two to the upper two.
    halves = [*duel(5, 5), *duel(5, 5, first="c", second="d"), *duel(5, 0, first="a", second="c")]
    split = bradley_terry(halves)
    assert (split.separated, split.unconnected, split.determined) == ((), False, False)
    assert all(np.isfinite(value) for value in ratings_of(split).values())


def test_models_that_never_met_are_told() -> None:
    found = bradley_terry([*duel(6, 4), *duel(3, 7, first="c", second="d")])
    assert (found.unconnected, found.determined) == (True, False)


def test_a_model_that_few_instructions_have_gets_no_rating_from_draws_without_it() -> None:
    battles = [*duel(120, 80), Battle("rare 1", "c", "a", 1.0), Battle("rare 2", "c", "a", 0.0)]
    found = {one.model: one.rating for one in bradley_terry(battles, rounds=200).models}
    assert found["c"].low is not None
    # Drawn without `c`, the other two still stand about their own middle.
    assert found["a"].low is not None
    assert found["a"].high is not None
    assert found["a"].low < (found["a"].estimate or 0) < found["a"].high


def test_draws_are_of_instructions_or_of_battles() -> None:
    """Ten copies of every battle tell nothing new, which drawing single battles cannot see."""
    copied = [Battle(one.instruction, "a", "b", one.outcome) for one in duel(30, 20) for _ in range(10)]
    whole, single = bradley_terry(copied), bradley_terry(copied, over="battles")

    def width(found: Ratings) -> float:
        rating = found.models[0].rating
        return (rating.high or 0) - (rating.low or 0)

    assert width(whole) > 2 * width(single)
    assert (whole.models[0].rating.clusters, single.models[0].rating.clusters) == (50, 500)


def test_where_nothing_can_be_said_the_result_says_so() -> None:
    assert bradley_terry([]).models == bradley_terry([], anchor="a", style=True).models == ()
    lost = bradley_terry([Battle("i", "a", "b", None)])
    assert (lost.models, lost.missing, lost.battles) == ((), 1, 0)
    alone = bradley_terry([Battle("i1", "a", "a", 1.0), Battle("i2", "a", "a", 0.0)])
    assert ratings_of(alone) == {"a": 1000}
    ties = bradley_terry(duel(0, 0, 20))
    assert [(one.rating.estimate, one.rating.method) for one in ties.models] == [(1000, "no_variation")] * 2
    one = bradley_terry([Battle("i", "a", "b", 1.0), Battle("i", "a", "b", 0.0), Battle("i", "a", "b", 1.0)])
    assert {found.rating.method for found in one.models} == {"one_cluster"}


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="anchor 'gpt' has no battle"):
        bradley_terry(duel(1, 1), anchor="gpt")
    with pytest.raises(ValueError, match=r"\[0, 1\] features of style"):
        bradley_terry([Battle("i", "a", "b", 1.0, first_style=(1.0,))], style=True)
