from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from services.training.registration.card import render_card
from services.training.registration.record import (
    BaseRecord,
    DataArtifact,
    DataRecord,
    FigureRecord,
    MergeRecord,
    ModelRecord,
    library_versions,
    read_record,
    write_record,
)
from tests.services.training.output_support import TEMPLATE, tiny_tokenizer


def record(**changes: Any) -> ModelRecord:
    values: dict[str, Any] = {
        "name": "my-job/sft",
        "method": "sft",
        "tuning": "full",
        "architecture": "MistralForCausalLM",
        "parameter_count": 7_241_732_096,
        "dtype": "bfloat16",
        "base": BaseRecord(source="hub", name="mistralai/Mistral-7B-v0.2", revision="abc123"),
        "random_weights": False,
        "job_id": "job_01",
        "stage": "sft",
        "parameters": {"method": "sft", "learning_rate": 5e-6, "lora": {"rank": 16}},
        "data": DataRecord(
            job_id="job_01",
            artifacts=(DataArtifact("art_07", "exports/sft/train.parquet", "f" * 64, 65_000),),
            train_rows=65_000,
            test_rows=700,
            teacher="openai/gpt-4.1",
            prompt_versions={"gold_response": "1a2b"},
        ),
        "figures": FigureRecord(
            steps=4_000, epochs=4.0, tokens=123_456_789, seconds=7_200.4, final_loss=0.8123, evaluation={"loss": 0.9}
        ),
        "code_version": "0.1.0+g123",
        "libraries": {"torch": "2.13.0", "trl": "1.16.0"},
        "created_at": "2026-11-28T20:00:00+00:00",
    }
    return ModelRecord(**(values | changes))


def rendered(**changes: Any) -> tuple[dict[str, Any], str]:
    """Front matter and body."""
    text = render_card(record(**changes), tiny_tokenizer())
    _, matter, body = text.split("---\n", 2)
    return yaml.safe_load(matter), body


def test_the_card_tells_method_data_figures_and_versions() -> None:
    matter, body = rendered()
    assert matter["library_name"] == "transformers"
    assert matter["base_model"] == "mistralai/Mistral-7B-v0.2"
    assert matter["pipeline_tag"] == "text-generation"
    assert "datasets" not in matter
    for told in (
        "learning_rate: 5.0e-06",
        "rank: 16",
        "7,241,732,096 in bfloat16",
        "`art_07`",
        "f" * 64,
        "65,000 for training, 700 held out",
        "openai/gpt-4.1",
        "`1a2b`",
        "| steps | 4,000 |",
        "123,456,789",
        "0.8123",
        "test split: loss | 0.9000",
        "0.1.0+g123".replace("+", "\\+"),
        "torch 2.13.0, trl 1.16.0.",
        "revision abc123",
        TEMPLATE,
        "<s>(system message) (instruction)",
    ):
        assert told in body, told
    assert "RANDOM" not in body
    assert "SIMULATOR" not in body


def test_a_random_tiny_model_is_called_so_before_anything_else() -> None:
    matter, body = rendered(random_weights=True, base=BaseRecord(source="random", name="tiny-mistral"))
    assert "RANDOM WEIGHTS. Not a language model." in body.split("## ")[0]
    assert "random-weights" in matter["tags"]
    assert "base_model" not in matter


def test_the_simulator_is_told_loudly() -> None:
    data = msgspec.structs.replace(record().data, simulator=True, teacher="simulator")
    matter, body = rendered(data=data)
    assert "TEACHER: SIMULATOR" in body.split("## ")[0]
    assert "| teacher | **simulator** |" in body
    assert "simulator" in matter["tags"]


def test_a_reward_model_and_adapters_are_loaded_by_other_classes() -> None:
    matter, body = rendered(method="rm")
    assert matter["pipeline_tag"] == "text-classification"
    assert "AutoModelForSequenceClassification.from_pretrained" in body
    assert "rejected answer is not a bad one" in body
    assert "<s>(system message) (instruction) (answer)" in body
    matter, body = rendered(tuning="lora", adapter_only=True)
    assert matter["library_name"] == "peft"
    assert "PeftModel.from_pretrained" in body
    assert "not merged" in body


def test_a_merge_is_told_with_what_it_cost() -> None:
    _, body = rendered(tuning="qlora", merge=MergeRecord(difference=0.012, effect=0.4, dequantised=True))
    assert "differ by 1.20%" in body
    assert "change them by 40.00%" in body
    assert "held in 4 bits" in body


def test_hub_data_sets_and_earlier_trainings_are_named() -> None:
    data = msgspec.structs.replace(record().data, hub_data_sets=("owner/set",))
    matter, body = rendered(data=data, chain=("sft of my-job/first",))
    assert matter["datasets"] == ["owner/set"]
    assert "sft of my-job/first" in body


def test_names_become_no_markup() -> None:
    _, body = rendered(name="# <script>alert(1)</script> | `x`", chain=("[a](javascript:b)",))
    assert "<script>" not in body
    assert "[a](" not in body


def test_a_fence_in_the_parameters_does_not_end_the_block() -> None:
    _, body = rendered(parameters={"name": "```\n# not a heading"})
    assert "````yaml" in body


@pytest.mark.parametrize("value", [None, 1.5])
def test_a_figure_that_is_no_number_is_said(value: float | None) -> None:
    figures = msgspec.structs.replace(record().figures, final_loss=value, evaluation={})
    _, body = rendered(figures=figures)
    assert ("not finite" in body) is (value is None)
    assert "not evaluated" in body


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = record(merge=MergeRecord(difference=0.1, effect=0.2, dequantised=False))
    write_record(tmp_path, written)
    assert read_record(tmp_path) == written


def test_versions_of_what_trains_are_known() -> None:
    assert {"torch", "transformers", "trl", "peft"} <= set(library_versions())
