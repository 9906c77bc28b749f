"""Models with random weights and a tokenizer trained on the spot: for trials, tests and measurements without any download.

The same texts and seed give the same tokenizer and the same weights, byte for byte, on every machine (`mistral-7b`: on every
device of the same kind, because its weights are drawn where they will live).
"""

from collections.abc import Iterable

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

# Ids 0, 1 and 2 are those of Mistral's own tokenizer.
SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]")
TINY_VOCABULARY = 4096


def random_tokenizer(texts: Iterable[str], vocabulary: int = TINY_VOCABULARY) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer of at most `vocabulary` tokens with Mistral's special tokens, trained on `texts`.

    No texts leave the 256 bytes and the special tokens. As Mistral's tokenizer does, it puts `<s>` in front of a text unless it
    is told to add no special tokens.
    """
    unknown, begin, end, *instruction = SPECIAL_TOKENS
    tokenizer = Tokenizer(models.BPE(unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special_tokens = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=special_tokens,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    made: PreTrainedTokenizerBase = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        unk_token=unknown,
        bos_token=begin,
        eos_token=end,
        additional_special_tokens=instruction,
        clean_up_tokenization_spaces=False,
    )
    return made


def tiny_mistral_config(vocabulary: int) -> MistralConfig:
    """Mistral's architecture with 4 layers of width 128, 4 query heads on 2 key heads: under 2 million parameters."""
    return _mistral(vocabulary, hidden=128, feed_forward=384, layers=4, heads=4, key_heads=2)


def mistral_7b_config() -> MistralConfig:
    """The architecture of Mistral-7B-v0.2 (no sliding window, rotary base 1e6): 7.24 billion parameters."""
    return _mistral(32000, hidden=4096, feed_forward=14336, layers=32, heads=32, key_heads=8)


def _mistral(
    vocabulary: int, *, hidden: int, feed_forward: int, layers: int, heads: int, key_heads: int
) -> MistralConfig:
    return MistralConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=32768,
        rms_norm_eps=1e-5,
        sliding_window=None,
        bos_token_id=SPECIAL_TOKENS.index("<s>"),
        eos_token_id=SPECIAL_TOKENS.index("</s>"),
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )


def random_tiny_mistral(vocabulary: int, seed: int, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A tiny Mistral on the CPU. Weights are drawn in float32 and then cast, so that every `dtype` holds the same model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MistralForCausalLM(tiny_mistral_config(vocabulary))
    torch.nn.Module.to(model, dtype)
    return model


def random_mistral_7b(seed: int, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """The 7B architecture, its weights drawn on `device` in `dtype`: 14.5 GB in bf16, never held anywhere else."""
    devices = [device] if device.type == "cuda" else []
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with torch.random.fork_rng(devices=devices), device:
            torch.manual_seed(seed)
            return MistralForCausalLM(mistral_7b_config())
    finally:
        torch.set_default_dtype(before)
