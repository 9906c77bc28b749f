"""Gives a tokenizer its chat template; `shared.chat_template` then turns conversations into tokens by it."""

from services.training.chat_template.installation import install

__all__ = ["install"]
