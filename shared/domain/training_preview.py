"""What a training's rows look like as tokens: `preview.json`, written by the preflight and shown in terminal and browser."""

import re

import msgspec

OMITTED = -1
"""Token id of an entry that stands for tokens that are not shown."""

# Characters that move a cursor, end a string or turn the direction of writing: shown, never obeyed.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


class LengthFigures(msgspec.Struct, frozen=True):
    """Distribution of lengths in tokens. `counts[i]` lengths are at most `bounds[i]` and above `bounds[i - 1]`."""

    bounds: list[int]
    counts: list[int]
    mean: float
    p50: int
    p95: int
    p99: int
    maximum: int


class PreviewToken(msgspec.Struct, frozen=True, array_like=True):
    """`[text, in_loss, id]`. A character that is spelled by several tokens is the text of the first; the others have none."""

    text: str
    in_loss: bool
    id: int


class PreviewRow(msgspec.Struct, frozen=True):
    """A row, or one side of a pair. `tokens` may leave out the middle of a long text; `length` and `loss_tokens` count all."""

    name: str
    length: int
    loss_tokens: int
    tokens: list[PreviewToken]


class Preview(msgspec.Struct, frozen=True):
    """Rows as tokens with their loss mask. `special_ids` are tokens that only the template writes."""

    method: str
    template: str
    maximum_length: int
    rows: list[PreviewRow]
    special_ids: list[int]
    lengths: dict[str, LengthFigures]
    """Of `prompt`, `response` and `whole`, over all training rows that have tokens."""
    drawn: int
    kept: int
    lost: dict[str, int]


def visible(text: str) -> str:
    """The text with its control characters as symbols: a terminal or page shows them and does not obey them."""
    return _UNSEEN.sub(lambda found: _symbol(ord(found.group())), text)


def _symbol(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"<U+{code:04X}>"
