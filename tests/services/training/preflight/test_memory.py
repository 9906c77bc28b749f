"""The memory estimate against what torch really keeps, and what follows from it: recompute, and what would fit."""

from typing import Any

import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM, MistralForSequenceClassification

from services.training.preflight.memory import (
    Device,
    Load,
    adapter_parameters,
    decide_recompute,
    estimate_memory,
    layer_bytes_per_token,
    shape_parameters,
    this_device,
    usable_bytes,
)
from services.training.preflight.shape import embedding_rows, shape_of_config
from services.training.preflight.storage import needed_disk_bytes
from shared.domain.errors import InputRefused
from shared.domain.training import TrainParameters

SIZES: dict[str, Any] = {
    "hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 160, "vocab_size": 96,
}  # fmt: skip
MISTRAL_7B = shape_of_config(
    {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
     "intermediate_size": 14336, "vocab_size": 32000}
)  # fmt: skip
GIB = 2**30


def parameters(**changes: Any) -> TrainParameters:
    return TrainParameters(**{"method": "sft", "base": {"random": "mistral-7b"}, **changes})


def gpu(gibibytes: float) -> Device:
    return Device("cuda", int(gibibytes * GIB), "a GPU")


def kept_bytes(options: TrainParameters, layers: int, tokens: int) -> int:
    """Bytes of all tensors that autograd keeps of the layers for backward, weights aside, each storage once."""
    config = MistralConfig(**SIZES, num_hidden_layers=layers, attn_implementation="sdpa", use_cache=False)
    model: Any = MistralForCausalLM(config).to(torch.bfloat16 if options.precision == "bf16" else torch.float32)
    if options.tuning.value == "lora":
        lora = LoraConfig(
            r=options.lora.rank,
            lora_dropout=options.lora.dropout,
            target_modules=list(options.lora.target_modules) or "all-linear",
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, lora)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    model.train()
    backbone = model.get_base_model().model if options.tuning.value == "lora" else model.model
    positions = torch.arange(tokens)[None]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = backbone(input_ids=positions % 96, position_ids=positions, use_cache=False).last_hidden_state
    total = sum(one.untyped_storage().nbytes() for place, one in kept.items() if place not in weights)
    assert states.requires_grad
    return total


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tuning": "lora", "lora": {"rank": 8}},
        {"tuning": "lora", "lora": {"rank": 8, "dropout": 0.1}},
        {"tuning": "lora", "lora": {"rank": 4, "target_modules": ["q_proj", "v_proj", "o_proj"]}},
    ],
)
def test_the_formula_is_what_autograd_keeps_of_a_layer(precision: str, changes: dict[str, Any]) -> None:
    options = parameters(precision=precision, **changes)
    tokens = 64
    per_layer = (kept_bytes(options, 4, tokens) - kept_bytes(options, 2, tokens)) / 2 / tokens
    shape = shape_of_config({**SIZES, "num_hidden_layers": 2})
    assert shape is not None
    assert layer_bytes_per_token(options, shape) == pytest.approx(per_layer, rel=0.01)


@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_counted_as_the_model_has_them(tied: bool) -> None:
    config = MistralConfig(**SIZES, num_hidden_layers=3, tie_word_embeddings=tied, num_labels=1)
    shape = shape_of_config(config)
    assert shape is not None
    model = MistralForCausalLM(config)
    assert shape_parameters(parameters(), shape) == sum(weight.numel() for weight in model.parameters())
    scored = MistralForSequenceClassification(config)
    assert shape_parameters(parameters(method="rm"), shape) == sum(weight.numel() for weight in scored.parameters())
    adapted = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert adapter_parameters(parameters(tuning="lora", lora={"rank": 8}), shape) == trained


@pytest.mark.parametrize(("optimizer", "states"), [("adamw", 2), ("adamw_8bit", None)])
def test_optimizer_states_are_those_of_the_optimizer(optimizer: str, states: int | None) -> None:
    assert MISTRAL_7B is not None
    options = parameters(optimizer=optimizer)
    found = estimate_memory(options, MISTRAL_7B, Load(1, 1), recompute=True, device=gpu(80))
    count = shape_parameters(options, MISTRAL_7B)
    assert found.weights == found.gradients == 2 * count
    embedding = 32000 * 4096
    expected = 2 * 2 * count if states else 8 * embedding + (2 + 8 / 256) * (count - embedding)
    assert found.optimizer == pytest.approx(expected)


def test_recompute_comes_on_where_memory_asks_for_it_and_only_by_auto() -> None:
    load = Load(8192, 5000)
    assert decide_recompute(parameters(), MISTRAL_7B, load, gpu(139))[0] is False
    assert decide_recompute(parameters(), MISTRAL_7B, load, gpu(79))[0] is True
    assert decide_recompute(parameters(recompute="always"), MISTRAL_7B, load, gpu(139))[0] is True
    with pytest.raises(InputRefused, match="set recompute to auto") as refused:
        decide_recompute(parameters(recompute="never"), MISTRAL_7B, load, gpu(79))
    assert refused.value.pointer == "/recompute"


def test_an_unknown_architecture_is_computed_twice_unless_told_not_to() -> None:
    assert decide_recompute(parameters(), None, Load(1, 1), gpu(1)) == (True, None)
    assert decide_recompute(parameters(recompute="never"), None, Load(1, 1), gpu(1)) == (False, None)


def test_each_change_that_is_named_makes_the_training_fit() -> None:
    options = parameters(micro_batch=4, global_batch=32, optimizer="adamw", precision="fp32")
    load = Load(4 * 8192, 4 * 5000)
    with pytest.raises(InputRefused) as refused:
        decide_recompute(options, MISTRAL_7B, load, gpu(80))
    said = str(refused.value)
    assert "the training needs about" in said
    assert "a GPU has 80.0 GiB" in said
    assert "set tuning to lora" in said
    assert "set optimizer to adamw_8bit" not in said
    assert decide_recompute(
        options.model_copy(update={"tuning": parameters(tuning="lora").tuning}), MISTRAL_7B, load, gpu(80)
    )[0]


def test_where_nothing_helps_a_smaller_model_is_asked_for() -> None:
    with pytest.raises(InputRefused, match="take a smaller base model") as refused:
        decide_recompute(parameters(), MISTRAL_7B, Load(8192, 5000), gpu(1))
    assert refused.value.pointer == "/base"


def test_weights_in_four_bits_take_about_a_quarter() -> None:
    assert MISTRAL_7B is not None
    load = Load(1, 1)
    lora = estimate_memory(parameters(tuning="lora"), MISTRAL_7B, load, recompute=True, device=gpu(80)).weights
    four_bits = estimate_memory(parameters(tuning="qlora"), MISTRAL_7B, load, recompute=True, device=gpu(80)).weights
    assert 0.25 < four_bits / lora < 0.35


def test_several_gpus_share_the_states_and_several_processes_of_a_cpu_its_memory() -> None:
    assert MISTRAL_7B is not None
    options, load = parameters(processes=4, optimizer="adamw"), Load(8192, 5000)
    one = estimate_memory(parameters(optimizer="adamw"), MISTRAL_7B, load, recompute=True, device=gpu(80))
    four = estimate_memory(options, MISTRAL_7B, load, recompute=True, device=gpu(80))
    assert four.optimizer == pytest.approx(one.optimizer / 4)
    assert (one.gathered, four.activations) == (0, one.activations)
    assert four.gathered > 0
    cpu = Device("cpu", 64 * GIB)
    assert estimate_memory(options, MISTRAL_7B, load, recompute=True, device=cpu).optimizer == one.optimizer
    assert usable_bytes(options, cpu) == pytest.approx(64 * GIB * 0.9 / 4)


def test_a_reward_model_has_no_logits_and_orpo_those_of_its_prompts_too() -> None:
    assert MISTRAL_7B is not None
    found = {
        method: estimate_memory(
            parameters(method=method), MISTRAL_7B, Load(4000, 1000), recompute=True, device=gpu(80)
        ).output_layer
        for method in ("rm", "dpo", "orpo")
    }
    assert found["rm"] == 0
    assert 0 < found["dpo"] < found["orpo"]


def test_a_checkpoint_of_adapters_takes_less_room_and_a_merged_model_its_own() -> None:
    assert MISTRAL_7B is not None
    full, merged, alone = (
        needed_disk_bytes(options, MISTRAL_7B)
        for options in (parameters(), parameters(tuning="lora"), parameters(tuning="lora", lora={"merge": False}))
    )
    assert full > merged > 13 * GIB > alone


@pytest.mark.parametrize(
    "changed", [{"num_local_experts": 8}, {"num_experts": 4}, {"intermediate_size": None}, {"hidden_size": None}]
)
def test_an_architecture_that_the_formula_does_not_know_has_no_shape(changed: dict[str, Any]) -> None:
    config = {**SIZES, "num_hidden_layers": 2}
    assert shape_of_config(config) is not None
    assert shape_of_config({**config, **changed}) is None
    assert embedding_rows({**config, **changed}) == 96


def test_a_cpu_has_what_the_machine_can_give() -> None:
    device = this_device()
    if device.kind == "cpu":
        assert 0 < device.memory_bytes <= psutil.virtual_memory().total
