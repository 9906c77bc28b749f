"""Formulas at values that can be checked by hand, and where they are in danger."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.training.losses import dpo_loss, log_odds, orpo_loss, reward_loss, sft_loss


def test_dpo_at_the_reference_is_log_two_and_falls_as_the_margin_grows() -> None:
    at = torch.tensor([-10.0])
    assert dpo_loss(at, at - 3, at, at - 3, 0.1).item() == pytest.approx(math.log(2))
    better = dpo_loss(at + 10, at - 3, at, at - 3, 0.1)
    assert better.item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_log_odds_of_one_half_are_zero_and_of_four_fifths_log_four() -> None:
    values = log_odds(torch.tensor([0.5, 0.8, 0.01]).log())
    assert values.tolist() == pytest.approx([0, math.log(4), math.log(1 / 99)], abs=1e-6)


@given(st.floats(-60, -1e-6))
def test_log_odds_are_exact_and_their_gradient_finite_over_the_whole_range(value: float) -> None:
    mean = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    found = log_odds(mean)
    found.sum().backward()
    assert found.item() == pytest.approx(value - math.log(-math.expm1(min(value, -1e-7))), rel=1e-9, abs=1e-9)
    assert torch.isfinite(mean.grad).all()


def test_a_response_of_probability_one_gives_a_finite_loss() -> None:
    one = torch.zeros(1, requires_grad=True)
    loss = orpo_loss(torch.ones(1), one, torch.tensor([-1.0]), 0.1)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(one.grad).all()


def test_orpo_adds_the_weighted_odds_ratio_to_the_likelihood() -> None:
    same = torch.tensor([-1.5])
    assert orpo_loss(torch.tensor([2.0]), same, same, 0.1).item() == pytest.approx(2 + 0.1 * math.log(2))


def test_reward_and_supervised_losses() -> None:
    assert reward_loss(torch.tensor([1.0]), torch.tensor([0.0])).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert sft_loss(torch.tensor([-2.0])).item() == 2
