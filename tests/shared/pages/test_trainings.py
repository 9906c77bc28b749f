"""Trainings in words: bases and data by where they come from, metrics and recipes in an order that does not depend on storage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.training import BaseModelChoice, DataChoice, TrainParameters
from shared.pages.trainings import (
    base_text,
    count_text,
    data_text,
    method_text,
    metric_rows,
    recipe_rows,
    seconds_text,
)


@pytest.mark.parametrize(
    ("base", "text"),
    [
        ({"stage": "sft"}, "the model of training sft"),
        ({"registry": "model_1"}, "registered model model_1"),
        ({"hub": "org/name"}, "org/name"),
        ({"hub": "org/name", "hub_revision": "abc"}, "org/name at abc"),
        ({"folder": "mistral"}, "mistral"),
        ({"random": "tiny-mistral"}, "tiny-mistral with random weights"),
    ],
)
def test_every_place_of_a_base_has_words(base: dict[str, str], text: str) -> None:
    assert base_text(BaseModelChoice.model_validate(base).model_dump()) == text
    assert base_text(base) == text
    place, name = next((place, name) for place, name in base.items() if place != "hub_revision")
    registered = {"source": place, "name": name, "revision": base.get("hub_revision"), "sha256": "0" * 64}
    assert base_text(registered) == text


def test_data_are_told_by_where_they_come_from() -> None:
    choices = [DataChoice(), DataChoice(job="job_1"), DataChoice(file="file_1")]
    assert [data_text(choice.model_dump()) for choice in choices] == [
        "the collection of this job",
        "the collection of job_1",
        "uploaded file file_1",
    ]
    assert method_text("dpo", "lora") == "direct preference optimisation (DPO) of LoRA adapters"


def test_metrics_of_both_sides_stand_in_one_row_known_ones_first() -> None:
    rows = metric_rows(
        {"zebra": 2.0, "loss": 1.25, "step": 20}, {"eval_loss": 1.5, "eval_rewards/accuracies": 0.75, "runtime": 2.0}
    )
    assert [(row["training"], row["evaluation"]) for row in rows] == [("1.2500", "1.5000"), ("–", "75.0%"), ("2", "–")]


def test_a_recipe_is_told_in_the_order_of_its_options_however_it_was_stored() -> None:
    parameters = TrainParameters.model_validate({"preset": "lora-24gb", "base": {"folder": "m"}}).model_dump(
        mode="json"
    )
    stored = {name: parameters[name] for name in sorted(parameters, key=lambda name: (len(name), name))}
    names = [name for name, _ in recipe_rows(stored)]
    assert names == [name for name, _ in recipe_rows(parameters)]
    assert names.index("method") < names.index("lora.rank") < names.index("learning_rate") < names.index("seed")
    assert "maximum_rows" not in names


def test_a_recipe_without_adapters_says_nothing_of_them() -> None:
    parameters = TrainParameters.model_validate({"preset": "smoke-cpu"}).model_dump(mode="json")
    assert not [name for name, _ in recipe_rows(parameters) if name.startswith("lora")]
    assert ("compile", "no") in recipe_rows(parameters)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (999_499, "999 k"),
        (999_500, "1 M"),
        (7_241_732_096, "7.24 B"),
        (None, "–"),
    ],
)
def test_counts_have_three_digits_and_a_unit(number: int | None, text: str) -> None:
    assert count_text(number) == text


@given(st.integers(0, 10**12 - 10**9))
def test_no_count_is_written_with_an_exponent(number: int) -> None:
    assert "e" not in count_text(number)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599.7, "1 h 00 min"), (86_400, "24 h 00 min")]
)
def test_durations_carry_over(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text
