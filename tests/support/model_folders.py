"""Folders of tiny random models, as training saves them."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import MistralForSequenceClassification

from services.training.models.random_models import random_tiny_mistral, tiny_mistral_config
from shared.chat_template import template_text
from tests.support.tiny_models import tiny_tokenizer


def language_model_folder(folder: Path, seed: int = 3) -> Path:
    """A language model of 4 layers with our chat template."""
    tokenizer = _tokenizer()
    random_tiny_mistral(len(tokenizer), seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def reward_model_folder(folder: Path, seed: int = 3) -> Path:
    """A reward model: the same with a score layer."""
    tokenizer = _tokenizer()
    config = tiny_mistral_config(len(tokenizer))
    config.num_labels = 1
    config.pad_token_id = tokenizer.unk_token_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        MistralForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def adapter_folder(folder: Path, seed: int = 3) -> Path:
    """Adapters of the language model of the same seed that change it much."""
    base: Any = random_tiny_mistral(len(_tokenizer()), seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        model = get_peft_model(
            base,
            LoraConfig(
                r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
            ),
        )
        model.save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template_text()
    return tokenizer
