"""Tiny tokenizers, made on the spot."""

from functools import cache
from typing import Any

import orjson
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from shared.sources.bundled import bundled_file

CONTROL_TOKENS = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]")


def tiny_tokenizer() -> Any:
    """A new tokenizer like Mistral's, with 1,024 tokens: `<unk>` 0, `<s>` 1, `</s>` 2, `[INST]` 3, `[/INST]` 4, then
    byte-level BPE, so that every text comes back from its tokens. No pad token and no chat template, like a base model."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()), unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@cache
def _trained() -> str:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in CONTROL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    lines = bundled_file("demo", "").read_bytes().splitlines()
    tokenizer.train_from_iterator((orjson.loads(line)["instruction"] for line in lines if line.strip()), trainer)
    return str(tokenizer.to_str())
