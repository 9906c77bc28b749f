"""Selection: what explains choices enters once, what shares its evidence does not, and chance is bounded."""

import numpy as np

from shared.personal.inference.selecting import Flags, select, weights_of
from shared.statistics.intervals import Numbers


def chosen_columns(evidence: Numbers, most: int = 5, seed: int = 0, groups: list[int] | None = None) -> list[int]:
    def itself(column: int) -> Flags:
        return np.arange(evidence.shape[1]) == column

    named = np.array(range(len(evidence)) if groups is None else groups, dtype=np.int64)
    return [one.column for one in select(evidence, named, itself, most, seed)]


def drawn(generator: np.random.Generator, rows: int, columns: int) -> Numbers:
    return generator.choice([-1.0, 0.0, 1.0], size=(rows, columns))


def with_weights(evidence: Numbers, weights: list[float], generator: np.random.Generator) -> Numbers:
    """Each choice turned so that the first of its two answers was chosen by the model."""
    likely = 1 / (1 + np.exp(-evidence[:, : len(weights)] @ np.array(weights)))
    signs = np.where(generator.random(len(evidence)) < likely, 1.0, -1.0)
    return evidence * signs[:, None]


def test_the_columns_that_decide_are_found_and_weighed() -> None:
    generator = np.random.default_rng(0)
    evidence = with_weights(drawn(generator, 600, 40), [3.0, 2.0], generator)
    assert set(chosen_columns(evidence)) == {0, 1}
    weights = weights_of(evidence[:, :2])
    assert abs(weights[0] - 3.0) < 0.7
    assert abs(weights[1] - 2.0) < 0.7


def test_what_is_only_a_shadow_of_a_column_that_entered_stays_out() -> None:
    generator = np.random.default_rng(1)
    evidence = drawn(generator, 600, 10)
    evidence[:, 1] = np.where(generator.random(600) < 0.8, evidence[:, 0], 0.0)
    assert chosen_columns(with_weights(evidence, [3.0], generator)) == [0]


def test_a_wish_to_the_contrary_is_not_taken_for_one() -> None:
    generator = np.random.default_rng(2)
    assert chosen_columns(with_weights(drawn(generator, 400, 5), [-3.0], generator)) == []


def test_chance_lets_something_in_at_most_as_often_as_the_level_says() -> None:
    generator = np.random.default_rng(3)
    entered = sum(bool(chosen_columns(drawn(generator, 40, 60), seed=number, most=1)) for number in range(400))
    # 4 are expected at most; more than 11 come with a probability below 0.2%.
    assert entered <= 11


def test_repetitions_of_a_prompt_are_no_further_evidence() -> None:
    evidence = np.zeros((60, 1))
    evidence[:, 0] = 1.0
    assert chosen_columns(evidence) == [0]
    assert chosen_columns(evidence, groups=[number // 20 for number in range(60)]) == []
