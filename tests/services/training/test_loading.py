"""What can be trained from, and what is refused with a word of what to do."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MistralForCausalLM, MistralForSequenceClassification

from services.training.attention import VARLEN
from services.training.fused_heads import own_model
from services.training.models.adapters import linear_layers
from services.training.models.compiling import compile_layers
from services.training.models.loading import load_base
from services.training.models.random_models import (
    mistral_7b_config,
    random_tiny_mistral,
    random_tokenizer,
    tiny_mistral_config,
)
from shared.domain.errors import InputRefused
from tests.services.training.tiny import TEXTS, parameters


def saved(folder: Path) -> Path:
    tokenizer = random_tokenizer(TEXTS)
    random_tiny_mistral(len(tokenizer), 0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("base"))


@pytest.fixture
def base(stored: Path, tmp_path: Path) -> Path:
    """A folder of its own, to be damaged."""
    return Path(shutil.copytree(stored, tmp_path / "base"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def refusal(folder: Path | None, method: str = "sft", **values: Any) -> str:
    with pytest.raises(InputRefused) as caught:
        load_base(parameters(method, base={"folder": "m"}, **values), folder)
    return str(caught.value)


# Random models.


def test_the_same_texts_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        folder = saved(tmp_path / name)
        digests.append({path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()})
    assert digests[0] == digests[1]
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(digests[0])


def test_another_seed_gives_another_model_and_torchs_random_state_stays_as_it_was() -> None:
    before = torch.get_rng_state()
    models = [random_tiny_mistral(300, seed).lm_head.weight for seed in (0, 1)]
    assert not torch.equal(*models)
    assert torch.equal(before, torch.get_rng_state())


def test_the_random_tokenizer_has_mistrals_special_tokens_and_loses_no_text() -> None:
    tokenizer = random_tokenizer(TEXTS)
    assert [tokenizer.convert_ids_to_tokens(i) for i in range(5)] == ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    text = "[INST] Grüße, 東京! 🎈\n\tEnd [/INST] ok"
    ids = tokenizer(text).input_ids
    assert ids[:2] == [1, 3]
    assert tokenizer.decode(ids, skip_special_tokens=False) == f"<s>{text}"
    assert tokenizer(text, add_special_tokens=False).input_ids == ids[1:]


def test_the_tiny_model_is_tiny_and_the_large_one_is_mistral_7b() -> None:
    tiny = random_tiny_mistral(4096, 0)
    assert 1e6 < sum(weight.numel() for weight in tiny.parameters()) < 2e6
    with torch.device("meta"):
        large = MistralForCausalLM(mistral_7b_config())
    assert sum(weight.numel() for weight in large.parameters()) == 7_241_732_096


def test_a_random_base_needs_no_folder() -> None:
    loaded = load_base(parameters(), None, TEXTS)
    assert loaded.source == "random tiny-mistral"
    assert loaded.model.config.vocab_size == len(loaded.tokenizer)


# Folders.


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_weights_come_in_the_type_of_the_precision_with_the_attention_asked_for(
    stored: Path, precision: str, dtype: torch.dtype
) -> None:
    loaded = load_base(parameters(precision=precision), stored)
    assert {weight.dtype for weight in loaded.model.parameters()} == {dtype}
    assert loaded.model.config._attn_implementation == VARLEN
    assert load_base(parameters(attention="sdpa"), stored).model.config._attn_implementation == "sdpa"
    assert loaded.source == f"folder {stored}"


def test_a_wrong_path_is_named_with_what_was_looked_for(tmp_path: Path) -> None:
    text = refusal(tmp_path / "nowhere")
    assert "nowhere does not exist" in text
    assert "safetensors" in text


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "no config.json (it holds nothing)" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_pickled_weights_are_refused_and_not_opened(base: Path, name: str) -> None:
    (base / "model.safetensors").unlink()
    (base / name).write_bytes(b"\x80\x04not to be read")
    text = refusal(base)
    assert name in text
    assert "convert it to safetensors" in text


def test_missing_weights_are_refused(base: Path) -> None:
    (base / "model.safetensors").unlink()
    assert "no weights" in refusal(base)


def test_a_missing_part_of_the_weights_is_named(base: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002.safetensors" in refusal(base)


def test_torn_weights_are_refused(base: Path) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "cannot be loaded" in refusal(base)


def test_weights_that_the_config_asks_for_are_never_drawn_at_random(base: Path) -> None:
    change(base / "config.json", num_hidden_layers=5)
    assert "lack model.layers.4" in refusal(base)


def test_a_missing_tokenizer_is_refused(base: Path) -> None:
    (base / "tokenizer.json").unlink()
    assert "no tokenizer" in refusal(base)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_refused(base: Path, name: str) -> None:
    change(base / name, auto_map={"AutoModelForCausalLM": "evil.Model"})
    (base / "evil.py").write_text("raise SystemExit('this ran')")
    assert "never run" in refusal(base)


def test_an_unknown_architecture_is_refused(base: Path) -> None:
    change(base / "config.json", model_type="no-such-model")
    assert "cannot be loaded" in refusal(base)


def test_a_quantised_base_is_refused(base: Path) -> None:
    change(base / "config.json", quantization_config={"quant_method": "gptq"})
    assert "quantised already" in refusal(base)


def test_adapters_without_their_base_are_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    assert "adapters without their base" in refusal(tmp_path)


def test_dropout_of_attention_is_refused_for_varlen_alone(base: Path) -> None:
    change(base / "config.json", attention_dropout=0.1)
    assert "set attention to sdpa" in refusal(base)
    load_base(parameters(attention="sdpa"), base)


def test_no_folder_and_no_random_architecture_is_refused() -> None:
    assert "not fetched" in refusal(None)


# Pad tokens and reward models.


@pytest.mark.parametrize("pad", [None, "</s>"])
def test_the_pad_token_is_never_the_end_token(base: Path, pad: str | None) -> None:
    change(base / "tokenizer_config.json", pad_token=pad)
    loaded = load_base(parameters("rm"), base)
    assert loaded.tokenizer.pad_token == "<unk>"
    assert loaded.model.config.pad_token_id == 0


def test_an_own_pad_token_stays(base: Path) -> None:
    change(base / "tokenizer_config.json", pad_token="[INST]")
    assert load_base(parameters("rm"), base).tokenizer.pad_token == "[INST]"


def test_a_reward_model_gets_a_score_layer_drawn_by_the_seed(stored: Path) -> None:
    scores = [load_base(parameters("rm", seed=seed), stored).model.score.weight for seed in (0, 0, 1)]
    assert scores[0].shape == (1, 128)
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])


def test_a_reward_models_own_score_layer_is_kept(stored: Path, tmp_path: Path) -> None:
    first = load_base(parameters("rm", seed=3), stored)
    first.model.save_pretrained(tmp_path)
    first.tokenizer.save_pretrained(tmp_path)
    again = load_base(parameters("rm", seed=4), tmp_path)
    assert torch.equal(again.model.score.weight, first.model.score.weight)
    assert "holds a reward model" in refusal(tmp_path, "dpo")


def test_a_classifier_of_several_classes_is_refused(stored: Path, tmp_path: Path) -> None:
    config = tiny_mistral_config(300)
    config.num_labels = 3
    MistralForSequenceClassification(config).save_pretrained(tmp_path)
    shutil.copy(stored / "tokenizer.json", tmp_path)
    shutil.copy(stored / "tokenizer_config.json", tmp_path)
    assert "classifier of 3 classes" in refusal(tmp_path, "rm")


# Adapters.


@pytest.mark.parametrize("tuning", ["lora", "qlora"])
def test_adapters_alone_are_trained_on_all_linear_layers_but_the_head(stored: Path, tuning: str) -> None:
    model = load_base(parameters(tuning=tuning), stored).model
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    layers = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trained}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_qlora_holds_the_layers_in_four_bits_and_the_head_as_it_is(stored: Path) -> None:
    inner = own_model(load_base(parameters(tuning="qlora"), stored).model)
    layer = inner.model.layers[0].mlp.up_proj.base_layer
    assert layer.weight.dtype is torch.uint8
    assert layer.weight.quant_state.quant_type == "nf4"
    assert inner.lm_head.weight.dtype is torch.float32


def test_a_reward_models_score_layer_is_trained_beside_its_adapters(stored: Path) -> None:
    model = load_base(parameters("rm", tuning="lora"), stored).model
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad and "lora_" not in name}
    assert trained == {"base_model.model.score.modules_to_save.default.weight"}


def test_adapters_are_drawn_by_the_seed_and_put_where_they_are_asked_for(stored: Path) -> None:
    lora = {"target_modules": ["q_proj"], "rank": 4}
    models = [load_base(parameters(tuning="lora", lora=lora, seed=seed), stored).model for seed in (0, 0, 1)]
    drawn = [
        {name: weight for name, weight in model.named_parameters() if "lora_A" in name and weight.requires_grad}
        for model in models
    ]
    assert len(drawn[0]) == 4
    assert all(torch.equal(weight, drawn[1][name]) for name, weight in drawn[0].items())
    assert not any(torch.equal(weight, drawn[2][name]) for name, weight in drawn[0].items())


def test_an_unknown_layer_for_adapters_is_refused_with_the_known_ones(stored: Path) -> None:
    with pytest.raises(InputRefused, match="names query, which") as caught:
        load_base(parameters(tuning="lora", lora={"target_modules": ["query"]}), stored)
    assert "q_proj" in str(caught.value)


def test_heads_are_no_layers_for_adapters() -> None:
    assert "lm_head" not in linear_layers(random_tiny_mistral(300, 0))


def test_layers_are_compiled_in_place_and_compute_the_same() -> None:
    model = random_tiny_mistral(300, 0)
    ids = torch.arange(12)[None]
    before, names = model(ids).logits, list(model.state_dict())
    assert compile_layers(model, backend="eager") == 4
    assert (model(ids).logits - before).abs().max() < 1e-5
    assert list(model.state_dict()) == names
