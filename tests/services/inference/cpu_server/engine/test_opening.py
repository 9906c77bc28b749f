import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from services.inference.cpu_server.engine.opening import open_engine
from shared.domain.errors import InputRefused
from tests.support.served_models import (
    VOCABULARY,
    save_adapter,
    save_configured,
    save_language_model,
    save_reward_model,
)

_SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}


def test_facts_say_what_is_served(model_folder: Path) -> None:
    facts = open_engine(model_folder, slots=3, maximum_total_tokens=100, model_id="mine").facts
    assert (facts.model_id, facts.is_reward_model, facts.dtype) == ("mine", False, "float32")
    assert (facts.maximum_total_tokens, facts.slots, facts.adapters) == (100, 3, ())


def test_the_wanted_type_is_taken_and_the_models_length_where_none_is_wanted(model_folder: Path) -> None:
    facts = open_engine(model_folder, dtype="bfloat16").facts
    assert (facts.dtype, facts.maximum_total_tokens) == ("bfloat16", 256)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dtype": "int8"}, "float32, bfloat16, float16"),
        ({"maximum_total_tokens": 257}, "256 positions"),
        ({"maximum_total_tokens": 1}, "set 2 to 256"),
        ({"slots": 0}, "at least 1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str, model_folder: Path) -> None:
    with pytest.raises(InputRefused, match=message):
        open_engine(model_folder, **values)


def test_pickled_weights_are_refused(model_folder: Path, tmp_path: Path) -> None:
    for path in model_folder.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputRefused, match=r"pytorch_model\.bin"):
        open_engine(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        # Scores are shifted by distance.
        (transformers.FalconConfig(**_SMALL, num_attention_heads=4, alibi=True), "other scores in a batch than alone"),
        (transformers.MambaConfig(**_SMALL, state_size=8), "linear_attention"),
        (
            transformers.GptOssConfig(
                **_SMALL, intermediate_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                num_local_experts=2, num_experts_per_tok=1,
            ),
            "s_aux",
        ),
    ],
    ids=["falcon", "mamba", "gpt-oss"],
)  # fmt: skip
def test_an_architecture_that_cannot_share_a_batch_is_refused(config: Any, message: str, tmp_path: Path) -> None:
    save_configured(tmp_path, config)
    with pytest.raises(InputRefused, match=message):
        open_engine(tmp_path, maximum_total_tokens=64)


def test_positions_that_turn_differently_for_long_texts_bound_the_length(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4, "original_max_position_embeddings": 128}
    folder = save_language_model(tmp_path, "llama", rope_parameters=rope)
    with pytest.raises(InputRefused, match="at most 128"):
        open_engine(folder)
    assert open_engine(folder, maximum_total_tokens=128).facts.maximum_total_tokens == 128


def test_a_classifier_is_no_reward_model(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="3 labels"):
        open_engine(save_reward_model(tmp_path, labels=3))


def test_another_kind_of_model_is_refused(model_folder: Path, tmp_path: Path) -> None:
    for path in model_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["BertModel"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputRefused, match="BertModel"):
        open_engine(tmp_path)


def test_a_reward_model_takes_no_adapters(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="reward model takes no adapters"):
        open_engine(save_reward_model(tmp_path), adapters={"one": tmp_path})


@pytest.mark.parametrize(
    ("options", "message"), [({"use_dora": True}, "use_dora"), ({"modules_to_save": ["lm_head"]}, "modules_to_save")]
)
def test_an_adapter_that_is_more_than_low_rank_is_refused(
    options: dict[str, Any], message: str, model_folder: Path, tmp_path: Path
) -> None:
    adapter = save_adapter(tmp_path / "adapter", model_folder, 1, **options)
    with pytest.raises(InputRefused, match=message):
        open_engine(model_folder, adapters={"one": adapter})


def test_an_adapter_of_another_model_is_refused(model_folder: Path, tmp_path: Path) -> None:
    other = save_language_model(tmp_path / "other", hidden_size=64, head_dim=16)
    with pytest.raises(InputRefused, match=r"adapter one .* does not fit"):
        open_engine(model_folder, adapters={"one": save_adapter(tmp_path / "adapter", other, 1)})


def test_a_folder_without_an_adapter_and_a_pickled_one_are_refused(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"adapter_config\.json"):
        open_engine(model_folder, adapters={"one": model_folder})
    adapter = save_adapter(tmp_path / "adapter", model_folder, 1)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(InputRefused, match=r"adapter_model\.bin"):
        open_engine(model_folder, adapters={"one": adapter})
