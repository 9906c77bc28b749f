"""Tiny tokenizers, made on the spot."""

from functools import cache
from typing import Any

import orjson

from services.training.models.random_models import random_tokenizer
from shared.sources.bundled import bundled_file


def tiny_tokenizer() -> Any:
    """A new tokenizer like Mistral's, with 1,024 tokens trained on the bundled instructions. No pad token and no chat template,
    like a base model."""
    return random_tokenizer(_instructions(), 1024)


@cache
def _instructions() -> tuple[str, ...]:
    lines = bundled_file("demo", "").read_bytes().splitlines()
    return tuple(orjson.loads(line)["instruction"] for line in lines if line.strip())
