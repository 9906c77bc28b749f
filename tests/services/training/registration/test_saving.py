import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    MistralForSequenceClassification,
)

from services.training.models.four_bits import keep_four_bit_layout
from services.training.registration import merging, saving
from services.training.registration.saving import refuse_pickles, save_model
from shared.domain.errors import StepFailed
from tests.services.training.output_support import TEMPLATE, tiny_config, tiny_model, tiny_tokenizer, with_weights_as

TOKENS = torch.randint(4, 60, (2, 16), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    model.eval()
    found: torch.Tensor = model(input_ids=TOKENS, attention_mask=torch.ones_like(TOKENS)).logits
    return found.float()


def adapted(model: Any, **changes: Any) -> PeftModel:
    """Adapters that do something, as after training."""
    values: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    torch.manual_seed(1)
    adapters = get_peft_model(model, LoraConfig(**(values | changes)))
    for name, parameter in adapters.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return adapters


def weight_files(folder: Path) -> set[str]:
    known = {".json", ".jinja", ".md"}
    return {path.suffix for path in folder.rglob("*") if path.is_file()} - known


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_model_loads_again_with_equal_logits_and_has_no_pickle(tmp_path: Path, dtype: torch.dtype) -> None:
    model = with_weights_as(tiny_model(), dtype)
    model.config.use_cache = False
    expected = logits(model)
    saved = save_model(model, tiny_tokenizer(), tmp_path, merge=True, base_name="base")
    assert saved.folder == tmp_path / "model"
    assert saved.adapter is None
    assert saved.architecture == "MistralForCausalLM"
    assert saved.dtype == str(dtype).removeprefix("torch.")
    again = AutoModelForCausalLM.from_pretrained(saved.folder)
    assert torch.equal(logits(again), expected)
    assert saved.parameter_count == again.num_parameters()
    assert weight_files(tmp_path) == {".safetensors"}
    assert json.loads((saved.folder / "config.json").read_text())["use_cache"] is True
    assert (saved.folder / "generation_config.json").is_file()
    assert (saved.folder / "chat_template.jinja").read_text() == TEMPLATE
    assert AutoTokenizer.from_pretrained(saved.folder).chat_template == TEMPLATE


def test_big_weights_are_cut_into_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "SHARD_SIZE", "20KB")
    model = tiny_model()
    expected = logits(model)
    saved = save_model(model, tiny_tokenizer(), tmp_path, merge=True, base_name="base")
    assert len(list(saved.folder.glob("model-*.safetensors"))) > 2
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(saved.folder)), expected)


def test_a_compiled_model_is_saved_as_what_was_compiled(tmp_path: Path) -> None:
    model = tiny_model()
    save_model(torch.compile(model), tiny_tokenizer(), tmp_path, merge=True, base_name="base")  # type: ignore[arg-type]
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "model")), logits(model))


def test_a_reward_model_keeps_its_output_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MistralForSequenceClassification(tiny_config(num_labels=1))
    expected = logits(model)
    save_model(model, tiny_tokenizer(), tmp_path, merge=True, base_name="base")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert again.config.num_labels == 1
    assert torch.equal(logits(again), expected)


@pytest.mark.parametrize(("dtype", "closeness"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_merged_weights_and_adapters_alone_both_give_what_was_trained(
    tmp_path: Path, dtype: torch.dtype, closeness: float
) -> None:
    base = with_weights_as(tiny_model(), dtype)
    model = adapted(base)
    expected = logits(model)
    saved = save_model(model, tiny_tokenizer(), tmp_path, merge=True, base_name="owner/base")
    assert saved.merge is not None
    assert saved.merge.difference < closeness
    assert saved.merge.effect > 0.2
    assert not saved.merge.dequantised
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert (logits(merged) - expected).norm() / expected.norm() < closeness
    assert weight_files(tmp_path) == {".safetensors"}
    assert (
        json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "owner/base"
    )
    again = PeftModel.from_pretrained(with_weights_as(tiny_model(), dtype), str(tmp_path / "adapter"))
    assert torch.equal(logits(again), expected)
    assert (tmp_path / "adapter" / "chat_template.jinja").is_file()


def test_without_a_merge_the_adapters_are_all_there_is(tmp_path: Path) -> None:
    model = adapted(tiny_model())
    expected = logits(model)
    saved = save_model(model, tiny_tokenizer(), tmp_path, merge=False, base_name="base")
    assert saved.model is None
    assert saved.merge is None
    assert saved.folder == tmp_path / "adapter"
    assert not (tmp_path / "model").exists()
    assert torch.equal(logits(PeftModel.from_pretrained(tiny_model(), str(saved.folder))), expected)


def test_a_reward_model_with_adapters_keeps_the_output_layer_that_was_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = MistralForSequenceClassification(tiny_config(num_labels=1))
    model = adapted(base, task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "score" in name:
                parameter.fill_(0.03)
    expected = logits(model)
    save_model(model, tiny_tokenizer(), tmp_path, merge=True, base_name="base")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert torch.allclose(logits(again), expected, atol=1e-5)


def four_bit_base(folder: Path) -> Any:
    with_weights_as(tiny_model(hidden_size=64, intermediate_size=128), torch.bfloat16).save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        ),
    )


@pytest.mark.parametrize("evaluated", [False, True])
def test_adapters_of_a_four_bit_base_are_merged_into_the_values_that_training_saw(
    tmp_path: Path, evaluated: bool
) -> None:
    model = adapted(four_bit_base(tmp_path / "base"))
    if evaluated:
        logits(model)  # on some CPUs bitsandbytes now rearranges the 4-bit weights
        keep_four_bit_layout(model)
    model.train()
    with torch.no_grad():
        expected = model(input_ids=TOKENS).logits.float()
    if evaluated:
        logits(model)
    saved = save_model(model, tiny_tokenizer(), tmp_path / "out", merge=True, base_name="base")
    assert saved.merge is not None
    assert saved.merge.dequantised
    assert saved.merge.effect > 0.2
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model")
    assert again.dtype == torch.bfloat16
    assert (logits(again) - expected).norm() / expected.norm() < 0.05
    assert "quantization_config" not in json.loads((tmp_path / "out" / "model" / "config.json").read_text())
    # The original base has other values: merging there would not give what was trained.
    original = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"), str(tmp_path / "out" / "adapter")
    )
    assert (logits(original) - expected).norm() > 2 * (logits(again) - expected).norm()
    assert weight_files(tmp_path / "out") == {".safetensors"}


def test_an_evaluation_changes_no_gradient_of_a_four_bit_base_whose_layout_is_kept(tmp_path: Path) -> None:
    model = adapted(four_bit_base(tmp_path / "base"))
    model.enable_input_require_grads()
    keep_four_bit_layout(model)

    def gradients() -> list[torch.Tensor]:
        model.train()
        model.zero_grad()
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    before = [gradient.clone() for gradient in gradients()]
    logits(model)
    after = gradients()
    assert len(after) == len(before) > 0
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_merge_that_loses_the_adapters_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PeftModel, "merge_and_unload", lambda self: self.unload(), raising=False)
    with pytest.raises(StepFailed, match=r"lora\.merge to false") as caught:
        save_model(adapted(tiny_model()), tiny_tokenizer(), tmp_path, merge=True, base_name="base")
    assert caught.value.code == "merge_differs"
    assert not (tmp_path / "model").exists()


def test_a_merge_that_yields_no_numbers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "_relative", lambda one, other: float("nan"))
    with pytest.raises(StepFailed):
        save_model(adapted(tiny_model()), tiny_tokenizer(), tmp_path, merge=True, base_name="base")


@pytest.mark.parametrize("with_adapters", [False, True])
def test_a_sharded_model_is_saved_by_the_first_process_from_the_gathered_state(
    tmp_path: Path, with_adapters: bool
) -> None:
    whole = adapted(tiny_model()) if with_adapters else tiny_model()
    expected, state = logits(whole), {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    gathered: list[int] = []

    def shell() -> Any:
        """What a process holds of a sharded model: the right names, not the right numbers."""
        model = adapted(tiny_model()) if with_adapters else tiny_model()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return model

    def full_state() -> Mapping[str, torch.Tensor]:
        gathered.append(1)
        return state if len(gathered) == 2 else {}

    options: dict[str, Any] = {"merge": True, "base_name": "base", "full_state": full_state, "plain_base": tiny_model}
    other = save_model(shell(), tiny_tokenizer(), tmp_path, is_first_process=False, **options)
    assert other.model is None
    assert not list(tmp_path.iterdir())
    saved = save_model(shell(), tiny_tokenizer(), tmp_path, **options)
    assert len(gathered) == 2
    again = AutoModelForCausalLM.from_pretrained(saved.folder)
    assert torch.allclose(logits(again), expected, atol=1e-5)
    assert saved.parameter_count == again.num_parameters()


def test_shards_hold_every_weight_once(tmp_path: Path) -> None:
    model = tiny_model()
    save_model(model, tiny_tokenizer(), tmp_path, merge=True, base_name="base")
    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(model.state_dict())


@pytest.mark.parametrize("name", ["pytorch_model.bin", "deep/optimizer.pt", "x.pkl", "y.ckpt", "z.pth"])
def test_a_pickle_in_the_folder_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(StepFailed, match=name):
        refuse_pickles(tmp_path)
