"""Tiny models of several architectures with random weights, saved as a registered model's folder is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model

from tests.support.tiny_models import tiny_tokenizer

VOCABULARY = 1024

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # Large weights: scores that tell tokens apart, and neighbours that would be noticed.
    "initializer_range": 0.2,
}

ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "mistral": lambda: transformers.MistralConfig(**_SIZES, head_dim=8, sliding_window=None),
    "mistral-window": lambda: transformers.MistralConfig(**_SIZES, head_dim=8, sliding_window=5),
    "llama": lambda: transformers.LlamaConfig(**_SIZES),
    "qwen2": lambda: transformers.Qwen2Config(**_SIZES),
    "qwen3": lambda: transformers.Qwen3Config(**_SIZES, head_dim=8),
    "gemma2": lambda: transformers.Gemma2Config(**_SIZES, head_dim=8, sliding_window=5),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **{**_SIZES, "num_hidden_layers": 6}, head_dim=8, sliding_window=5
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2,
        initializer_range=0.2,
    ),
}  # fmt: skip


def save_language_model(folder: Path, architecture: str = "mistral", **changed: Any) -> Path:
    """A model and its tokenizer; `changed`: values of the configuration."""
    config = ARCHITECTURES[architecture]()
    for name, value in changed.items():
        setattr(config, name, value)
    return save_configured(folder, config)


def save_configured(folder: Path, config: Any) -> Path:
    """A language model of any configuration, with the tiny tokenizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_reward_model(folder: Path, architecture: str = "mistral", labels: int = 1) -> Path:
    """A sequence classifier and its tokenizer. Its padding token is EOS, as it often is in practice."""
    config = ARCHITECTURES[architecture]()
    config.num_labels, config.pad_token_id = labels, config.eos_token_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path, seed: int, **options: Any) -> Path:
    """A low-rank adapter with random matrices for the model in `base`."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    chosen = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    adapted = get_peft_model(model, LoraConfig(**{**chosen, **options}))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
    adapted.save_pretrained(str(folder))
    return folder


def plain_model(folder: Path) -> Any:
    """The language model as transformers loads it."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()


@torch.inference_mode()
def plain_log_probabilities(model: Any, tokens: list[int]) -> torch.Tensor:
    """[tokens, vocabulary]: what a plain forward pass of one sequence says of the token after each."""
    logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float()
    return logits.log_softmax(dim=-1)
