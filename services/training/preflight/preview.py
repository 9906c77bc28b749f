"""Some training rows as tokens with their loss mask."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from services.training.data.prepared import PreparedData
from services.training.data.tokens import IGNORED
from shared.chat_template import ConversationTokenizer
from shared.domain.training import Method, TrainParameters
from shared.domain.training_preview import OMITTED, Preview, PreviewRow, PreviewToken

SHOWN_ROWS = 8
"""Rows, or pairs, of a preview: spread evenly over the training data."""

_MOST_TOKENS_OF_A_CHARACTER = 8

SHOWN_TOKENS = 400
"""Of a longer prompt or response the first and the last half of so many tokens are shown."""


def make_preview(parameters: TrainParameters, tokenizer: Any, data: PreparedData, template: str) -> Preview:
    """Preview of the prepared training rows; `template` is the family of the chat template."""
    special = ConversationTokenizer(tokenizer).control_ids
    spelling = _Spelling(tokenizer, special)
    counts = data.counts.train
    rows = [
        PreviewRow(
            name=name,
            length=len(ids),
            loss_tokens=sum(mask),
            tokens=_shown(spelling.tokens(ids, mask), prompt),
        )
        for name, ids, mask, prompt in _chosen(data, parameters.method)
    ]
    return Preview(
        method=parameters.method.value,
        template=template,
        maximum_length=parameters.maximum_length,
        rows=rows,
        special_ids=sorted(special),
        lengths=counts.lengths,
        drawn=counts.drawn,
        kept=counts.kept,
        lost=counts.lost,
    )


def _chosen(data: PreparedData, method: Method) -> Iterator[tuple[str, list[int], list[bool], int]]:
    """(name, token ids, mask, length of the prompt) of rows spread over the data; of a pack one row, of a pair both sides."""
    count = len(data.train)
    for number in np.unique(np.linspace(0, count - 1, min(SHOWN_ROWS, count)).astype(int)).tolist():
        row = data.train[number]
        if method is not Method.SFT:
            for side in ("chosen", "rejected"):
                reply = row[f"{side}_ids"]
                prompt = row["prompt_ids"]
                # ORPO learns the prompt of the chosen side too, but for its first token, which nothing predicts.
                learnt = method is Method.ORPO and side == "chosen"
                mask = [learnt and place > 0 for place in range(len(prompt))] + [True] * len(reply)
                yield f"pair {number}, {side}", prompt + reply, mask, len(prompt)
            continue
        start, stop, name = 0, len(row["input_ids"]), f"row {number}"
        if lengths := row.get("seq_lengths"):
            place = number % len(lengths)
            start = sum(lengths[:place])
            stop, name = start + lengths[place], f"pack {number}, row {place + 1} of {len(lengths)}"
        mask = [label != IGNORED for label in row["labels"][start:stop]]
        yield name, row["input_ids"][start:stop], mask, mask.count(False)


class _Spelling:
    """Texts of single tokens that put together give the text of all."""

    def __init__(self, tokenizer: Any, special: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._special = special
        # Decoded alone, a token of some vocabularies loses the space before it; behind another one it keeps it.
        self._before = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        self._before_text = self._decoded([])

    def tokens(self, ids: Sequence[int], mask: Sequence[bool]) -> list[PreviewToken]:
        tokens: list[PreviewToken] = []
        start = 0
        while start < len(ids):
            stop, text = self._character(ids, start)
            tokens.append(PreviewToken(text, mask[start], ids[start]))
            tokens += [PreviewToken("", mask[place], ids[place]) for place in range(start + 1, stop)]
            start = stop
        return tokens

    def _character(self, ids: Sequence[int], start: int) -> tuple[int, str]:
        """(end, text) of the fewest tokens from `start` on that spell whole characters; of one token where none do."""
        if ids[start] in self._special:
            return start + 1, str(self._tokenizer.convert_ids_to_tokens(ids[start]))
        for stop in range(start + 1, min(len(ids), start + _MOST_TOKENS_OF_A_CHARACTER) + 1):
            if ids[stop - 1] in self._special:
                break
            text = self._text(ids[start:stop])
            if "\ufffd" not in text:
                return stop, text
        return start + 1, self._text(ids[start : start + 1])

    def _text(self, ids: Sequence[int]) -> str:
        return self._decoded(ids).removeprefix(self._before_text)

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(
            self._tokenizer.decode([*self._before, *ids], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )


def _shown(tokens: list[PreviewToken], prompt: int) -> list[PreviewToken]:
    return [*_middle_left_out(tokens[:prompt]), *_middle_left_out(tokens[prompt:])]


def _middle_left_out(tokens: list[PreviewToken]) -> list[PreviewToken]:
    left_out = len(tokens) - SHOWN_TOKENS
    if left_out <= 0:
        return tokens
    half = SHOWN_TOKENS // 2
    note = PreviewToken(f" … {left_out:,} tokens not shown … ", tokens[0].in_loss, OMITTED)
    return [*tokens[:half], note, *tokens[-half:]]
