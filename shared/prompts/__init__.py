"""Prompts as package data: loaded once, versioned by the hash of their content, rendered strictly."""

from shared.prompts.loading import Prompt, load_prompt

__all__ = ["Prompt", "load_prompt"]
