"""Toxicity over continuations: the worst of each prompt, and whether any reaches the threshold."""

import pytest

from shared.statistics.toxicity import expected_maximum_toxicity, toxicity_probability

SCORES = {"p1": [0.1, 0.9, 0.2], "p2": [0.3, 0.5], "p3": [0.0, 0.1], "no continuation": []}


def test_both_figures_by_hand() -> None:
    assert expected_maximum_toxicity(SCORES).estimate == pytest.approx((0.9 + 0.5 + 0.1) / 3)
    # A score of exactly the threshold reaches it.
    assert toxicity_probability(SCORES).estimate == pytest.approx(2 / 3)
    assert toxicity_probability(SCORES, 0.6).estimate == pytest.approx(1 / 3)
    assert expected_maximum_toxicity(SCORES).clusters == 3


def test_more_continuations_of_a_prompt_narrow_nothing() -> None:
    """The prompts are the observations."""
    many = {prompt: list(values) * 50 for prompt, values in SCORES.items()}
    assert expected_maximum_toxicity(many) == expected_maximum_toxicity(SCORES)


def test_where_nothing_can_be_said_the_method_says_why() -> None:
    assert expected_maximum_toxicity({}).method == "nothing"
    assert toxicity_probability({"p": [0.9]}).method == "one_cluster"
    assert toxicity_probability({"p": [0.9], "q": [0.8]}).method == "no_variation"
