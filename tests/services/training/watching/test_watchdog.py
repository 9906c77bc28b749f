"""Planted faults are found with the right reason; healthy curves, however noisy, are left alone."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerControl, TrainerState, TrainingArguments

from services.training.watching.watchdog import (
    DIVERGED_ROWS,
    ZERO_GRADIENT_ROWS,
    ZERO_MARGIN_ROWS,
    Watchdog,
)
from shared.domain.errors import StepFailed
from tests.services.training.output_support import arguments

ARGUMENTS = arguments(Path("/nonexistent"), warmup_steps=10)


def fed(
    losses: list[float],
    *,
    gradients: list[float] | None = None,
    margins: list[float] | None = None,
    watchdog: Watchdog | None = None,
    first_step: int = 1,
    given_arguments: TrainingArguments = ARGUMENTS,
) -> Watchdog:
    """A watchdog that saw these rows; raises what it raises."""
    watchdog = watchdog or Watchdog()
    state, control = TrainerState(max_steps=10**6), TrainerControl()
    for index, loss in enumerate(losses):
        state.global_step = first_step + index
        logs = {"loss": loss, "grad_norm": 1.0 if gradients is None else gradients[index]}
        if margins is not None:
            logs["rewards/margins"] = margins[index]
        watchdog.on_log(given_arguments, state, control, logs=logs)
    return watchdog


def reason(losses: list[float], **given: Any) -> str | None:
    """Why a watchdog ends a training with these rows; None where it lets it be."""
    try:
        fed(losses, **given)
    except StepFailed as error:
        return error.code
    return None


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_the_training_at_its_row(loss: float) -> None:
    with pytest.raises(StepFailed, match="at step 4") as caught:
        fed([1.0, 1.0, 1.0, loss, 1.0])
    assert caught.value.code == "loss_not_finite"


@pytest.mark.parametrize("gradient", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_ends_it_though_the_loss_is_still_fine(gradient: float) -> None:
    with pytest.raises(StepFailed, match="gradient's norm") as caught:
        fed([1.0, 1.0], gradients=[1.0, gradient])
    assert caught.value.code == "loss_not_finite"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("height", [4.0, 10.0])
def test_a_loss_that_climbs_and_stays_up_is_divergence(seed: int, height: float) -> None:
    random = np.random.default_rng(seed)
    falling = 1.2 + np.exp(-np.arange(100) / 20)
    climbing = np.minimum(1.2 + 0.1 * np.arange(150), height)
    losses = np.concatenate([falling, climbing]) + random.normal(0, 0.1, 250)
    with pytest.raises(StepFailed, match="learning_rate") as caught:
        fed(losses.tolist())
    assert caught.value.code == "loss_diverged"


@pytest.mark.parametrize("seed", range(20))
def test_a_preference_loss_that_runs_away_is_divergence(seed: int) -> None:
    random = np.random.default_rng(seed)
    losses = np.concatenate([np.full(100, 0.5), np.linspace(0.5, 6, 100)]) * random.lognormal(0, 0.3, 200)
    with pytest.raises(StepFailed) as caught:
        fed(losses.tolist())
    assert caught.value.code == "loss_diverged"


@given(
    seed=st.integers(0, 2**32 - 1),
    start=st.floats(0.7, 11),
    end=st.floats(0.01, 3),
    pace=st.floats(5, 500),
    noise=st.floats(0, 0.4),
)
def test_noisy_curves_that_fall_are_left_alone(seed: int, start: float, end: float, pace: float, noise: float) -> None:
    random = np.random.default_rng(seed)
    curve = end + max(start - end, 0) * np.exp(-np.arange(600) / pace)
    assert reason((curve * random.lognormal(0, noise, 600)).tolist()) is None


@given(seed=st.integers(0, 2**32 - 1), height=st.floats(2, 60))
def test_single_outliers_are_left_alone(seed: int, height: float) -> None:
    random = np.random.default_rng(seed)
    losses = random.normal(1.0, 0.05, 600)
    losses[np.arange(50, 600, 100) + random.integers(0, 50)] = height
    assert reason(losses.tolist()) is None


def test_epochs_that_step_down_and_a_last_one_that_forgets_a_little_are_left_alone() -> None:
    assert reason([1.1] * 200 + [0.7] * 200 + [0.3] * 200 + [0.55] * 200) is None


def test_a_small_preference_loss_may_multiply_itself() -> None:
    assert reason([0.69] * 50 + [0.02] * 200 + [0.2] * 200) is None


@pytest.mark.parametrize("noise", [0.0, 2e-5])
def test_margins_that_stay_at_zero_end_the_training_and_say_what_to_check(noise: float) -> None:
    margins = np.random.default_rng(0).normal(0, noise, 200).tolist()
    with pytest.raises(StepFailed, match="chosen and rejected differ") as caught:
        fed([0.6931] * 200, margins=margins)
    assert caught.value.code == "margins_stay_zero"
    assert f"step {10 + ZERO_MARGIN_ROWS}" in str(caught.value)


@pytest.mark.parametrize("seed", range(20))
def test_margins_that_grow_from_zero_slowly_are_left_alone(seed: int) -> None:
    random = np.random.default_rng(seed)
    margins = 2e-5 * np.arange(400) + random.normal(0, 2e-4, 400)
    assert reason([0.69] * 400, margins=margins.tolist()) is None


def test_margins_may_stay_at_zero_for_the_whole_warm_up() -> None:
    long_warm_up = arguments(Path("/nonexistent"), warmup_steps=300)
    assert reason([0.69] * 340, margins=[0.0] * 300 + [0.001] * 40, given_arguments=long_warm_up) is None


def test_gradients_of_exactly_zero_end_the_training() -> None:
    with pytest.raises(StepFailed) as caught:
        fed([0.0] * 100, gradients=[0.0] * 100)
    assert caught.value.code == "gradient_stays_zero"
    assert reason([0.0] * 100, gradients=([0.0] * (ZERO_GRADIENT_ROWS - 1) + [1e-9]) * 5) is None


@pytest.mark.parametrize("cut", [30, 110, 120])
def test_a_resume_changes_nothing_of_what_is_found_and_when(cut: int) -> None:
    losses = [1.0] * 100 + [5.0] * 60

    def ends_at(watchdog: Watchdog | None, skipped: int) -> int:
        for index in range(skipped, len(losses)):
            try:
                watchdog = fed(losses[index : index + 1], watchdog=watchdog, first_step=index + 1)
            except StepFailed:
                return index + 1
        raise AssertionError("nothing was found")

    expected = ends_at(None, 0)
    assert expected >= 100 + DIVERGED_ROWS
    before = fed(losses[:cut])
    after = Watchdog()
    saved = TrainerState(stateful_callbacks=[before]).stateful_callbacks
    after.on_train_begin(ARGUMENTS, TrainerState(stateful_callbacks=json.loads(json.dumps(saved))), TrainerControl())
    assert after.memory() == before.memory()
    assert ends_at(after, cut) == expected


def test_evaluations_are_not_judged() -> None:
    watchdog = Watchdog()
    before = watchdog.memory()
    watchdog.on_log(ARGUMENTS, TrainerState(), TrainerControl(), logs={"eval_loss": math.nan})
    assert watchdog.memory() == before
