"""The pairs of an annotation task: the best answers of two candidates to the same questions, shuffled and swapped by seed."""

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from shared.artifacts.tables import iterate_rows
from shared.domain.identifiers import seed_of
from shared.domain.judged_answers import best_answer
from shared.domain.prose import words
from shared.domain.rows import Answer, Facet, InstructionRow


class Pairs(msgspec.Struct, frozen=True):
    """`items` as the repository stores them; `left_out` counts, by reason, what became no pair: `no_answer` (one of the two has
    none that counts), `same_text`, `not_asked` (only one of the two was asked), `not_drawn` (by the limit)."""

    items: list[dict[str, Any]]
    left_out: dict[str, int]


def make_pairs(first: Iterable[Path], second: Iterable[Path], *, limit: int | None, seed: int) -> Pairs:
    """Pair the answers of two stages, whose parts are given. The same parts and seed give the same pairs; half are swapped."""
    others: dict[tuple[str, int], Facet] = {
        (row.row_id, facet.index): facet for path in second for row in iterate_rows(path) for facet in row.facets
    }
    left_out: Counter[str] = Counter()
    items = []
    for row in (row for path in first for row in iterate_rows(path)):
        for facet in row.facets:
            other = others.pop((row.row_id, facet.index), None)
            if other is None:
                left_out["not_asked"] += 1
                continue
            one, two = best_answer(facet), best_answer(other)
            if one is None or two is None:
                left_out["no_answer"] += 1
            elif (one.text, one.later) == (two.text, two.later):
                left_out["same_text"] += 1
            else:
                items.append(_item(row, facet, one, two))
    left_out["not_asked"] += len(others)
    items.sort(key=lambda item: seed_of(seed, "annotation", item["row_id"], item["facet_index"]))
    if limit is not None and len(items) > limit:
        left_out["not_drawn"] = len(items) - limit
        items = items[:limit]
    sides = [place % 2 == 0 for place in range(len(items))]
    random.Random(seed_of(seed, "sides")).shuffle(sides)
    for item, swapped in zip(items, sides, strict=True):
        item["swapped"] = swapped
    return Pairs(items, {reason: count for reason, count in sorted(left_out.items()) if count})


def order_for(annotator: str, items: int, seed: int) -> list[int]:
    """The order in which one annotator sees the pairs: their own, and the same whenever they come back."""
    return sorted(range(items), key=lambda number: seed_of(seed, "order", annotator, number))


def _item(row: InstructionRow, facet: Facet, first: Answer, second: Answer) -> dict[str, Any]:
    return {
        "row_id": row.row_id,
        "facet_index": facet.index,
        "body": {
            "instruction": _storable(row.instruction),
            "preferences": [_storable(preference.description) for preference in facet.preferences],
            "first": _storable(_told(row, first)),
            "second": _storable(_told(row, second)),
            "first_words": _length(first),
            "second_words": _length(second),
        },
    }


def _told(row: InstructionRow, answer: Answer) -> str:
    """The answer's text; of a conversation with what the user said between."""
    parts = [answer.text]
    for user, assistant in zip(row.turns, answer.later, strict=False):
        parts += [f"> {user}", assistant]
    return "\n\n".join(parts)


def _length(answer: Answer) -> int:
    """In words, of all turns, without what the user said between."""
    return sum(len(words(text)) for text in (answer.text, *answer.later))


def _storable(text: str) -> str:
    """A model may write NUL characters, which PostgreSQL cannot hold; the mark of an unreadable character stands for them."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
