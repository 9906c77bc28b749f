"""Batches without padding: one row of N tokens in which whole documents lie one behind the other.

Positions restart at each document and `cu_seq_lens_*` holds the bounds, so attention stays within a document. The first token
of a document is never predicted, so nothing is learned across a bound. A pair is two documents, chosen before rejected.

Rows of weight 0 ("fillers") complete the last round of several processes: they are computed, since all processes must take
part, and count for nothing.
"""

from collections.abc import Sequence
from typing import Any

import torch

IGNORED = -100
FILLER = "is_filler"

# What the model itself is given of a batch.
MODEL_INPUTS = (
    "input_ids",
    "position_ids",
    "cu_seq_lens_q",
    "cu_seq_lens_k",
    "max_length_q",
    "max_length_k",
)

Row = dict[str, Any]
Batch = dict[str, Any]


def lay_out(documents: Sequence[Sequence[int]]) -> Batch:
    """The model's inputs for documents of at least one token each, and `document_lengths`, their tokens."""
    lengths = [len(document) for document in documents]
    starts = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    longest = max(lengths)
    return {
        "input_ids": torch.tensor([token for document in documents for token in document])[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seq_lens_q": starts,
        "cu_seq_lens_k": starts,
        "max_length_q": longest,
        "max_length_k": longest,
        "document_lengths": lengths,
    }


def model_inputs(batch: Batch) -> dict[str, Any]:
    """The part of a batch that the model's forward takes. No mask and no cache: both would let documents see each other."""
    return {**{name: batch[name] for name in MODEL_INPUTS}, "attention_mask": None, "use_cache": False}


def _counts(documents: Sequence[Sequence[int]], scored: int, items: int, is_real: Sequence[bool]) -> dict[str, int]:
    """`items` is what the loss is averaged over; `tokens`, `squares` (of the lengths) and `scored` are for speed."""
    lengths = [len(document) for document, real in zip(documents, is_real, strict=True) if real]
    return {
        "items": items,
        "tokens": sum(lengths),
        "squares": sum(length * length for length in lengths),
        "scored": scored,
    }


class SupervisedCollator:
    """Rows of `input_ids` and `labels` (-100 where nothing is learned), packed (`seq_lengths`) or not."""

    def __call__(self, rows: Sequence[Row]) -> Batch:
        documents: list[list[int]] = []
        labels: list[int] = []
        is_real: list[bool] = []
        for row in rows:
            real = not row.get(FILLER, False)
            start = 0
            for length in row.get("seq_lengths") or [len(row["input_ids"])]:
                documents.append(row["input_ids"][start : start + length])
                kept = row["labels"][start + 1 : start + length] if real else [IGNORED] * (length - 1)
                labels += [IGNORED, *kept]
                is_real.append(real)
                start += length
        scored = sum(label != IGNORED for label in labels)
        return {
            **lay_out(documents),
            "labels": torch.tensor(labels)[None],
            "counts": _counts(documents, scored, scored, is_real),
        }


class PairCollator:
    """Rows of `prompt_ids`, `chosen_ids` and `rejected_ids`, none of them empty: chosen, rejected, chosen, ...

    `labels` marks the response tokens. `learns_prompts` marks the prompt of the chosen document as well (ORPO).
    `weights` is 1 for a pair and 0 for a filler; reference log-probabilities are taken along where the rows have them.
    """

    def __init__(self, learns_prompts: bool = False) -> None:
        self.learns_prompts = learns_prompts

    def __call__(self, rows: Sequence[Row]) -> Batch:
        documents: list[list[int]] = []
        labels: list[int] = []
        responses: list[int] = []
        is_real: list[bool] = []
        scored = 0
        for row in rows:
            prompt, real = row["prompt_ids"], not row.get(FILLER, False)
            for side in ("chosen_ids", "rejected_ids"):
                response = row[side]
                documents.append([*prompt, *response])
                marked = prompt if self.learns_prompts and side == "chosen_ids" else [IGNORED] * len(prompt)
                predicted = [*marked, *response][1:]
                labels += [IGNORED, *predicted]
                responses.append(len(response))
                is_real.append(real)
                scored += sum(label != IGNORED for label in predicted) if real else 0
        weights = [0.0 if row.get(FILLER, False) else 1.0 for row in rows]
        batch: Batch = {
            **lay_out(documents),
            "labels": torch.tensor(labels)[None],
            "response_lengths": responses,
            "weights": torch.tensor(weights),
            "counts": _counts(documents, scored, int(sum(weights)), is_real),
        }
        for name in ("reference_chosen", "reference_rejected"):
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows], dtype=torch.float32)
        return batch
