"""FLOPs of a training, against trl's count and by hand."""

import pytest
import torch
from transformers import MixtralConfig
from trl.trainer.utils import compute_flops_per_token

from services.training.models.random_models import mistral_7b_config, tiny_mistral_config
from services.training.speed import model_flops, peak_flops, utilisation


def test_without_attention_a_token_takes_six_flops_per_weight() -> None:
    weights = 7_241_732_096 - 32000 * 4096 - 65 * 4096  # without embeddings, which are looked up, and norms
    assert model_flops(mistral_7b_config(), tokens=10, squares=0, scored=10) == 6 * weights * 10


def test_one_document_takes_what_trl_counts_for_half_of_its_length() -> None:
    config, length = mistral_7b_config(), 4096
    found = model_flops(config, tokens=length, squares=length**2, scored=length)
    assert found == compute_flops_per_token(config, length // 2) * length


def test_frozen_weights_take_no_gradient_of_their_own_and_unscored_tokens_no_output_layer() -> None:
    config = tiny_mistral_config(300)
    full = model_flops(config, tokens=10, squares=0, scored=10)
    assert full is not None
    assert model_flops(config, tokens=10, squares=0, scored=10, trains_all_weights=False) == pytest.approx(full * 2 / 3)
    head = 6 * 128 * 300
    assert full - (model_flops(config, tokens=10, squares=0, scored=4) or 0) == 6 * head
    assert full - (model_flops(config, tokens=10, squares=0, scored=10, has_language_head=False) or 0) == 10 * head


def test_a_mixture_of_experts_is_not_counted() -> None:
    assert model_flops(MixtralConfig(), tokens=1, squares=1, scored=1) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("NVIDIA H200", 989e12), ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("Some GPU", None)],
)
def test_peaks_are_those_of_the_data_sheets(name: str, expected: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: name)
    assert peak_flops(torch.device("cuda"), torch.bfloat16) == expected


def test_a_cpu_and_fp32_have_no_peak_and_no_utilisation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA H200")
    assert peak_flops(torch.device("cpu"), torch.bfloat16) is None
    assert peak_flops(torch.device("cuda"), torch.float32) is None
    assert utilisation(1e12, 1.0, 1, None) is None
    assert utilisation(989e12, 2.0, 2, 989e12) == 0.25
