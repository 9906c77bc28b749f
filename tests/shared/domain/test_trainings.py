"""Trainings of one job: which may follow which."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.training import Method, TrainParameters
from shared.domain.trainings import RESERVED_NAMES, refuse_reward_model, refuse_trainings


def training(name: str = "sft", base: str | None = None, **more: Any) -> TrainParameters:
    place = {"random": "tiny-mistral"} if base is None else {"stage": base}
    return TrainParameters.model_validate({"name": name, "method": "sft", "base": place} | more)


@pytest.mark.parametrize(
    ("trainings", "said"),
    [
        ([training("a"), training("a")], "two trainings are called 'a'"),
        ([training("assemble")], "name of a stage of the collection"),
        ([training("job")], "name of a stage of the collection"),
        ([training("a", base="a")], "no earlier training of this job; earlier ones: none"),
        ([training("a", base="b"), training("b")], "no earlier training"),
        ([training("a"), training("b", base="c")], "earlier ones: a"),
        ([training("a", dry_run=True), training("b", base="a")], "makes no model"),
        ([training("a", method="rm"), training("b", base="a")], "scores and no text, so sft cannot start from it"),
        ([training("a", method="rm"), training("b", base="a", method="dpo")], "so dpo cannot"),
        ([training("a", tuning="lora", lora={"merge": False}), training("b", base="a")], "lora.merge to true"),
        ([training("a", tuning="qlora", lora={"merge": False}), training("b", base="a")], "lora.merge to true"),
    ],
)
def test_trainings_that_cannot_follow_each_other_are_refused(trainings: list[TrainParameters], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        refuse_trainings(trainings)


@pytest.mark.parametrize(
    "trainings",
    [
        [],
        [training("a"), training("b", base="a", method="dpo"), training("c", base="a", method="rm")],
        [training("a", method="rm"), training("b", base="a", method="rm")],
        [training("a"), training("b", base="a", dry_run=True)],
        [training("a", tuning="lora"), training("b", base="a")],
        [training("a", tuning="lora", lora={"merge": False}), training("b")],
    ],
)
def test_trainings_that_follow_each_other_are_taken(trainings: list[TrainParameters]) -> None:
    refuse_trainings(trainings)


@given(st.sampled_from(sorted(RESERVED_NAMES)))
def test_no_training_takes_the_name_of_another_stage(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        refuse_trainings([training(name)])


@given(st.sampled_from(list(Method)), st.sampled_from(list(Method)))
def test_only_a_reward_model_starts_from_a_reward_model(made_by: Method, method: Method) -> None:
    refused = made_by is Method.REWARD and method is not Method.REWARD
    assert bool(refuse_reward_model(made_by, method)) is refused
