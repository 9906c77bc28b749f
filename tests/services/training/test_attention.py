"""Documents in a batch without padding see only themselves."""

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from services.training.attention import VARLEN, kernel_options, register_varlen, what_a_neighbour_changes
from services.training.batches import lay_out, model_inputs
from services.training.models.random_models import random_tiny_mistral, tiny_mistral_config

FIRST, SECOND, OTHER = [1, 7, 8, 9, 30, 31], [1, 50, 51, 52], [1, 90, 12, 13]


def model_with(attention: str, window: int | None = None) -> PreTrainedModel:
    register_varlen()
    config = tiny_mistral_config(100)
    config.sliding_window = window
    torch.manual_seed(3)
    model = MistralForCausalLM(config).eval()
    model.set_attn_implementation(attention)
    return model


def logits(model: PreTrainedModel, *documents: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(**model_inputs(lay_out(documents))).logits[0]


@pytest.mark.parametrize("attention", [VARLEN, "sdpa"])
def test_a_neighbour_in_the_pack_changes_no_logit(attention: str) -> None:
    model = model_with(attention)
    alone = logits(model, FIRST)
    for before in (SECOND, OTHER):
        packed = logits(model, before, FIRST, before)[len(before) : len(before) + len(FIRST)]
        assert (packed - alone).abs().max() < 1e-6
    assert what_a_neighbour_changes(model) < 1e-6


def test_an_all_ones_mask_would_leak_so_that_the_test_above_can_fail() -> None:
    model = model_with("sdpa")
    ids = torch.tensor([[*SECOND, *FIRST]])
    with torch.no_grad():
        naive = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, len(SECOND) :]
    assert (naive - logits(model, FIRST)).abs().max() > 1e-2


def test_a_leak_is_seen_as_a_neighbours_change(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with("sdpa")
    plain = model.base_model.forward

    def without_positions(**options: torch.Tensor) -> object:
        return plain(**{**options, "position_ids": None})

    monkeypatch.setattr(model.base_model, "forward", without_positions)
    assert what_a_neighbour_changes(model) > 1e-2


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_other_architectures_keep_documents_apart_too(kind: str) -> None:
    register_varlen()
    sizes = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = (
        LlamaForCausalLM(LlamaConfig(**sizes, **heads))
        if kind == "llama"
        else Qwen2ForCausalLM(Qwen2Config(**sizes, **heads))
    )
    model.set_attn_implementation(VARLEN)
    assert what_a_neighbour_changes(model) < 1e-6


def test_bounds_are_read_off_positions_where_a_batch_brings_none() -> None:
    model = model_with(VARLEN)
    batch = model_inputs(lay_out([SECOND, FIRST]))
    without = {name: batch[name] for name in ("input_ids", "position_ids", "use_cache")}
    with torch.no_grad():
        assert torch.equal(model(**without).logits[0], logits(model, SECOND, FIRST))


@pytest.mark.parametrize("window", [1, 3, 6])
def test_a_sliding_window_is_kept_as_sdpa_keeps_it(window: int) -> None:
    document = [1, 7, 8, 9, 30, 31, 44, 45]
    found = logits(model_with(VARLEN, window), SECOND, document)
    assert (found - logits(model_with("sdpa", window), SECOND, document)).abs().max() < 1e-5
    assert (found - logits(model_with(VARLEN), SECOND, document)).abs().max() > 1e-3


def test_gradients_equal_those_of_sdpa() -> None:
    gradients = []
    for attention in (VARLEN, "sdpa"):
        model = model_with(attention)
        model(**model_inputs(lay_out([SECOND, FIRST]))).logits.square().sum().backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
    assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[1].abs().max()


def test_generation_with_padding_and_cache_goes_on_as_with_sdpa() -> None:
    ids = torch.tensor([[1, 7, 8, 9], [0, 0, 1, 50]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    answers = [
        model_with(attention).generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False, pad_token_id=0)
        for attention in (VARLEN, "sdpa")
    ]
    assert torch.equal(*answers)


def test_dropout_is_refused_instead_of_left_out() -> None:
    config = tiny_mistral_config(100)
    config.attention_dropout = 0.1
    model = MistralForCausalLM(config).train()
    register_varlen()
    model.set_attn_implementation(VARLEN)
    with pytest.raises(ValueError, match="no dropout"):
        model(**model_inputs(lay_out([FIRST])))


@pytest.mark.parametrize(
    ("known", "window", "expected"),
    [
        (("is_causal", "scale"), None, ({"is_causal": True, "scale": 0.5}, 4)),
        (("window_size", "scale"), None, ({"window_size": (-1, 0), "scale": 0.5}, 4)),
        (("window_size", "scale", "enable_gqa"), None, ({"window_size": (-1, 0), "scale": 0.5, "enable_gqa": True}, 1)),
        (("window_size", "scale", "enable_gqa"), 16, ({"window_size": (15, 0), "scale": 0.5, "enable_gqa": True}, 1)),
    ],
)
def test_the_kernel_is_called_as_each_torch_takes_it(
    known: tuple[str, ...], window: int | None, expected: tuple[dict[str, object], int]
) -> None:
    assert kernel_options(known, 8, 2, 0.5, window) == expected


def test_a_window_is_refused_where_torch_has_none() -> None:
    with pytest.raises(ValueError, match=r"torch 2\.11"):
        kernel_options(("is_causal", "scale"), 8, 2, None, 16)


def test_the_kernel_of_this_torch_takes_what_it_is_told() -> None:
    import inspect

    from torch.nn.attention.varlen import varlen_attn

    known = tuple(inspect.signature(varlen_attn).parameters)
    options, groups = kernel_options(known, 8, 2, 0.5, None)
    assert set(options) <= set(known)
    assert groups in (1, 4)


def test_random_models_are_apart_in_bf16_as_well() -> None:
    model = random_tiny_mistral(100, 0, torch.bfloat16)
    register_varlen()
    model.set_attn_implementation(VARLEN)
    assert what_a_neighbour_changes(model) == 0
