"""Money as integers: micro-dollars. A price in USD per million tokens is the same figure in micro-USD per token."""

from shared.llm.providers import ResolvedModel

_SCALE = 1_000_000


def cost_micro_usd(model: ResolvedModel, prompt_tokens: int, completion_tokens: int) -> int | None:
    """Cost of one answer, rounded up to a whole micro-dollar; None when a price of the model is unknown."""
    if model.prompt_price is None or model.completion_price is None:
        return None
    scaled = prompt_tokens * round(model.prompt_price * _SCALE) + completion_tokens * round(
        model.completion_price * _SCALE
    )
    return -(-scaled // _SCALE)


def format_usd(micro_usd: int) -> str:
    """`$1.234567`, for messages."""
    return f"${micro_usd / _SCALE:.6f}"
