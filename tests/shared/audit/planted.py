"""A clean data set of made-up words in the layouts that an audit reads; tests plant one defect at a time in it."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from shared.domain.checks import Check, canonical_sentence

SUBDIMENSIONS = {
    "style": ("clarity", "tone", "format", "vividness"),
    "background_knowledge": ("novice", "basic", "advanced", "expert"),
    "informativeness": ("depth", "relevance", "practicality", "creativity"),
    "harmlessness": ("morality", "safety", "accuracy", "sensitivity"),
}
_SYLLABLES = [first + vowel + last for first in "bdfgklmnprstvz" for vowel in "aeiou" for last in ("", "n", "r", "s")]
_GENERATOR = random.Random(99)
WORDS = ["".join(_GENERATOR.choices(_SYLLABLES, k=_GENERATOR.randint(2, 3))) for _ in range(3000)]

Row = dict[str, Any]


def prose(generator: random.Random, words: int) -> str:
    return " ".join(generator.choices(WORDS, k=words)).capitalize() + "."


def clean_rows(instructions: int = 80, facets: int = 3, seed: int = 1) -> list[Row]:
    """Rows of the Multifaceted-Collection layout without a defect that an audit knows of; provenance lies beside."""
    generator = random.Random(seed)
    rows = []
    for number in range(instructions):
        prompt = f"{prose(generator, generator.randint(8, 25))} {number}?"
        for _ in range(facets):
            phrase = " ".join(generator.sample(WORDS, 2))
            rows.append(
                {
                    "main_source": "made up",
                    "original_source": "made up",
                    "preference_set": _preference_set(generator),
                    "system": _system(generator, phrase),
                    "prompt": prompt,
                    "output": f"{prose(generator, generator.randint(40, 200))} {phrase}. {prose(generator, 5)}",
                }
            )
    return rows


def _preference_set(generator: random.Random) -> list[Row]:
    entries = []
    for dimension in generator.sample(list(SUBDIMENSIONS), 4):
        subdimension = generator.choice(SUBDIMENSIONS[dimension])
        frank = dimension == "harmlessness" and generator.random() < 0.5
        entries.append(
            {
                "dimension": dimension,
                "subdimension": subdimension,
                "preference": f"{prose(generator, 3)[:-1].lower()} {subdimension}",
                "description": ("Without any warnings. " if frank else "") + prose(generator, generator.randint(8, 20)),
            }
        )
    return entries


def _system(generator: random.Random, phrase: str) -> str:
    parts = [prose(generator, generator.randint(4, 20)) for _ in range(generator.randint(1, 8))]
    parts.append(canonical_sentence(Check("must_include", {"phrases": [phrase]})))
    match generator.randrange(4):
        case 0:
            return f"You are {prose(generator, 4)} {' '.join(parts)}"
        case 1:
            return "\n".join(parts)
        case 2:
            return "\n".join([parts[0], *(f"- {part}" for part in parts[1:])])
        case _:
            return " ".join(parts)


def mirrored_pairs(rows: list[Row]) -> list[Row]:
    """All ordered pairs of the answers of an instruction, in the -DPO layout."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["prompt"], []).append(row)
    return [
        pair(own, other["output"]) for group in groups.values() for own in group for other in group if own is not other
    ]


def pair(own: Row, rejected: str, chosen: str | None = None) -> Row:
    sides = {"chosen": own["output"] if chosen is None else chosen, "rejected": rejected}
    turns = {
        name: [{"content": own["prompt"], "role": "user"}, {"content": text, "role": "assistant"}]
        for name, text in sides.items()
    }
    return {**{name: own[name] for name in ("main_source", "original_source", "system", "prompt")}, **turns}


def write_lines(path: Path, rows: Iterable[Row], *, provenance: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    if provenance:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"row": [0]}), path.with_name("provenance.parquet"))
    return path
