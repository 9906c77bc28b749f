"""One line of the layout and one item of a bench: each made of the other.

Columns as released (Lee et al. 2024, arXiv 2405.17977, Multifaceted-Bench): source, preference_set list<{dimension, subdimension,
preference, description}>, system, prompt, reference_answer, rubrics list<{criteria, score_descriptions {"1".."5"}}>.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import orjson
import pyarrow as pa

from shared.domain.benches import LEVELS, BenchFault, why_incomplete
from shared.domain.rows import Facet, InstructionRow, Preference, Rubric

SCORES = tuple(str(score) for score in range(1, LEVELS + 1))
PREFERENCE_FIELDS = ("dimension", "subdimension", "preference", "description")

BENCH_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string()),
        pa.field("preference_set", pa.list_(pa.struct([(name, pa.string()) for name in PREFERENCE_FIELDS]))),
        pa.field("system", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("reference_answer", pa.string()),
        pa.field(
            "rubrics",
            pa.list_(
                pa.struct(
                    [
                        ("criteria", pa.string()),
                        ("score_descriptions", pa.struct([(score, pa.string()) for score in SCORES])),
                    ]
                )
            ),
        ),
    ]
)
"""Without a schema version in its metadata: the columns are others'."""
BENCH_COLUMNS = tuple(BENCH_SCHEMA.names)


class BenchItem(msgspec.Struct, frozen=True):
    """What a line of the layout holds. The facet's index is 0: whoever groups the lines of an instruction counts them."""

    instruction: str
    source: str
    """Empty where the line names none."""
    facet: Facet


def is_bench(columns: Collection[str]) -> bool:
    """Whether a file with these columns has the layout."""
    return {"prompt", "rubrics", "reference_answer"} <= set(columns)


def bench_record(row: InstructionRow, facet: Facet) -> dict[str, Any]:
    """The line of one facet; nested values as plain lists and dicts."""
    return {
        "source": row.main_source,
        "preference_set": [
            {name: getattr(preference, name) for name in PREFERENCE_FIELDS} for preference in facet.preferences
        ],
        "system": facet.system or "",
        "prompt": row.instruction,
        "reference_answer": facet.response or "",
        "rubrics": [
            {"criteria": rubric.criterion, "score_descriptions": dict(zip(SCORES, rubric.levels, strict=True))}
            for rubric in facet.rubrics
        ],
    }


def read_bench_record(fields: Mapping[str, Any]) -> BenchItem | BenchFault:
    """The item that a line holds, or why it is none; columns beyond the layout's are not read.

    Nested columns may also be JSON text, as in a CSV file. Reasons: `empty` (no prompt), `bad_preferences`, and those of
    `shared.domain.benches.why_incomplete`; rubrics of another form are a `bad_rubric`.
    """
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        return BenchFault("empty", "prompt is empty or no text")
    preferences = _preferences(fields.get("preference_set"))
    if isinstance(preferences, BenchFault):
        return preferences
    rubrics = _rubrics(fields.get("rubrics"))
    if isinstance(rubrics, BenchFault):
        return rubrics
    facet = Facet(
        0,
        preferences=preferences,
        system=_text(fields.get("system")) or None,
        response=_text(fields.get("reference_answer")) or None,
        rubrics=rubrics,
    )
    fault = why_incomplete(facet)
    return BenchItem(prompt, _text(fields.get("source")), facet) if fault is None else fault


def _preferences(value: object) -> list[Preference] | BenchFault:
    entries = _list(value)
    if entries is None:
        return BenchFault("bad_preferences", "preference_set is no list")
    preferences = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            return BenchFault("bad_preferences", f"preference {number} is no object")
        told = {name: _text(entry.get(name)) for name in PREFERENCE_FIELDS}
        if not (told["preference"].strip() or told["description"].strip()):
            return BenchFault("bad_preferences", f"preference {number} has neither keywords nor a description")
        preferences.append(
            Preference(told["dimension"], told["subdimension"], told["preference"], told["description"], pole="")
        )
    return preferences


def _rubrics(value: object) -> list[Rubric] | BenchFault:
    entries = _list(value)
    if entries is None:
        return BenchFault("bad_rubric", "rubrics is no list")
    rubrics = []
    for number, entry in enumerate(entries, 1):
        levels = _mapping(entry.get("score_descriptions")) if isinstance(entry, dict) else None
        if levels is None:
            return BenchFault("bad_rubric", f"rubric {number} is no object with criteria and score_descriptions")
        if set(levels) != set(SCORES):
            seen = ", ".join(sorted(map(str, levels))) or "none"
            return BenchFault("bad_rubric", f"rubric {number} describes the scores {seen}; 1, 2, 3, 4 and 5 are needed")
        rubrics.append(Rubric(_text(entry.get("criteria")), [_text(levels[score]) for score in SCORES]))
    return rubrics


def _list(value: object) -> list[Any] | None:
    value = _decoded(value)
    return [] if value is None else value if isinstance(value, list) else None


def _mapping(value: object) -> dict[Any, Any] | None:
    """An object; also as Parquet's map type gives it, a list of pairs."""
    value = _decoded(value)
    if isinstance(value, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return dict(value)
    return value if isinstance(value, dict) else None


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        decoded: object = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    return decoded


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
