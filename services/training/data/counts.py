"""What was counted while rows became tokens: how many were lost and why, how long they are, how well they pack."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from shared.domain.training_preview import LengthFigures

LOSSES: dict[str, str] = {
    "unreadable": "the line or record cannot be read",
    "wrong_form": "a column is missing, of another type, or two columns disagree about the prompt",
    "empty_prompt": "an instruction of white space alone",
    "empty_response": "a response of white space alone",
    "reserved_text": "a text holds the private-use character U+10FFFD, which marks control tokens here",
    "template": "the chat template refuses the order of roles",
    "unclear_boundary": "a token spans the end of the prompt and the beginning of the response",
    "double_bos": "the prompt holds the token that begins a sequence more than once",
    "prompt_too_long": "the prompt alone fills maximum_length",
    "too_long": "prompt and response (of a pair: the longer one) are longer than maximum_length",
    "identical_pair": "chosen and rejected are the same tokens: nothing can be learnt from them",
}
"""Every reason why a row is not trained on, in words. No row is ever cut: what does not fit is dropped and counted."""

TOO_LONG = ("prompt_too_long", "too_long")

SHOWN_ROWS = 5
"""Rows named per reason."""


class SplitCounts(msgspec.Struct, frozen=True):
    """Of one file. Lengths are those of all rows that have tokens, kept or not; `whole` is prompt and response together, of a
    pair with its longer side. `lost_rows` names the first rows of the file (from 0) that fell for a reason."""

    rows: int
    drawn: int
    kept: int
    lost: dict[str, int]
    lost_rows: dict[str, list[int]]
    lengths: dict[str, LengthFigures]
    tokens: int
    """Of all kept rows as the model reads them: of a pair both sides with their prompts."""
    loss_tokens: int
    """Of these, tokens of responses."""
    unknown_tokens: int
    """Of these, how many are the tokenizer's unknown token: characters that the vocabulary cannot spell."""
    digest: str
    """sha256 of the kept rows' tokens, in order."""

    @property
    def lost_share(self) -> float:
        """Share of the drawn rows that are not trained on."""
        return sum(self.lost.values()) / self.drawn if self.drawn else 0.0


class Packing(msgspec.Struct, frozen=True):
    """How rows fill sequences of `maximum_length` tokens."""

    sequences: int
    rows_per_sequence: float
    most_rows: int
    fill_share: float
    """Tokens / (sequences x maximum_length)."""


class DataCounts(msgspec.Struct, frozen=True):
    """Of a training's data as prepared."""

    columns: list[str]
    """Of the training file."""
    used_columns: list[str]
    train: SplitCounts
    test: SplitCounts | None
    packing: Packing | None
    sequences: int
    """What one epoch goes through: packs, rows or pairs."""
    longest_tokens: int
    """Tokens of the longest of them; of a pair, both sides with their prompts."""
    longest_loss_tokens: int
    """The most tokens with a loss in one of them."""


def length_figures(lengths: Sequence[int]) -> LengthFigures | None:
    """None of no lengths. Buckets grow by half an octave: 16, 24, 32, 48, 64 and so on, up to the longest.

    Percentiles are lengths that occur: the smallest that so many rows do not exceed.
    """
    if not len(lengths):
        return None
    values = np.asarray(lengths, dtype=np.int64)
    maximum = int(values.max())
    bounds = [16]
    while bounds[-1] < maximum:
        bounds.append(bounds[-1] * 3 // 2 if len(bounds) % 2 else bounds[-1] * 4 // 3)
    counts = np.bincount(np.searchsorted(bounds, values, side="left"), minlength=len(bounds))
    ordered = np.sort(values)
    p50, p95, p99 = (int(ordered[math.ceil(share * len(ordered)) - 1]) for share in (0.5, 0.95, 0.99))
    return LengthFigures(bounds, counts.tolist(), float(values.mean()), p50, p95, p99, maximum)
