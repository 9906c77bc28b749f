"""The content words of a text, cut to stems: what two texts on the same matter share whatever their wording."""

from functools import lru_cache
from importlib.resources import files

import yaml

from shared.domain.similarity import word_tokens

STEM_LETTERS = 5


@lru_cache(maxsize=1)
def function_words() -> frozenset[str]:
    """English words that say nothing about the matter."""
    return frozenset(yaml.safe_load(files("shared.domain").joinpath("function_words.yaml").read_text(encoding="utf-8")))


def content_stems(text: str) -> frozenset[str]:
    """First five letters of every word of four letters or more that is not a function word; tokens outside ASCII count at
    any length."""
    ignored = function_words()
    return frozenset(
        token[:STEM_LETTERS]
        for token in word_tokens(text)
        if (len(token) > 3 or not token.isascii()) and token not in ignored
    )
