"""Records of a collection and of its facet matrix, as a test needs them."""

from collections.abc import Sequence
from typing import Any

Wish = tuple[str, str, str]
"""Dimension, subdimension, pole."""


def facet_record(row_id: str, index: int, wishes: Sequence[Wish], **changes: Any) -> dict[str, Any]:
    return {
        "row_id": row_id,
        "facet_index": index,
        "split": "train",
        "split_level": "seen",
        "tags": [],
        "output": "some words of an answer",
        "contradictions": [],
        "preference_set": [
            {
                "dimension": dimension,
                "subdimension": subdimension,
                "preference": pole,
                "description": f"{row_id} {index} wants {pole} {subdimension}.",
            }
            for dimension, subdimension, pole in wishes
        ],
        "preference_details": [{"pole": pole} for _, _, pole in wishes],
    } | changes


def verdict_records(row_id: str, answer: int, facet: int, verdicts: str, source: str = "judge") -> list[dict[str, Any]]:
    """One letter a preference: f, p, v; - leaves one out."""
    names = {"f": "followed", "p": "partly", "v": "violated"}
    return [
        {
            "row_id": row_id,
            "answer": answer,
            "facet": facet,
            "preference": position,
            "verdict": names[letter],
            "source": source,
        }
        for position, letter in enumerate(verdicts)
        if letter != "-"
    ]
