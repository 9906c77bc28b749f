"""The tables that assembly writes. Exports have exactly the released columns and types, and nothing else.

Layouts: Multifaceted-Collection and its -DPO, -ORPO and -RM sets as released with Lee et al. 2024 (arXiv 2405.17977).
What we know beyond those columns stands in `collection/` and, row by row, in each export's `provenance.parquet`.
"""

from collections.abc import Collection, Iterator
from typing import Any

import orjson
import pyarrow as pa

from services.curation.assembly.pairs import Pair
from shared.domain.rows import NEUTRAL_INDEX, Facet, InstructionRow
from shared.domain.splits import Split, SplitLevel

COLLECTION_SCHEMA_VERSION = "collection/2"
EXPORT_SCHEMA_VERSION = "multifaceted-collection/1"
PROVENANCE_SCHEMA_VERSION = "export-provenance/2"
FACET_MATRIX_SCHEMA_VERSION = "facet-matrix/1"

_TEXT = pa.string()

_PREFERENCE_SET = pa.list_(
    pa.struct([("dimension", _TEXT), ("subdimension", _TEXT), ("preference", _TEXT), ("description", _TEXT)])
)
_TURNS = pa.list_(pa.struct([("content", _TEXT), ("role", _TEXT)]))

SFT_SCHEMA = pa.schema(
    [
        ("main_source", _TEXT),
        ("original_source", _TEXT),
        ("preference_set", _PREFERENCE_SET),
        ("system", _TEXT),
        ("prompt", _TEXT),
        ("output", _TEXT),
    ]
)

PREFERENCE_SCHEMA = pa.schema(
    [
        ("main_source", _TEXT),
        ("original_source", _TEXT),
        ("system", _TEXT),
        ("prompt", _TEXT),
        ("chosen", _TURNS),
        ("rejected", _TURNS),
    ]
)
"""Of both -DPO and -ORPO: the released two differ in their number of rows only."""

REWARD_SCHEMA = pa.schema([("input", _TEXT), ("chosen", _TEXT), ("rejected", _TEXT)])

COLLECTION_SCHEMA = pa.schema(
    [
        ("row_id", _TEXT),
        ("facet_index", pa.int64()),
        ("split", _TEXT),
        ("split_level", _TEXT),
        # What curation assigned: `split_level` is what the facet turned out to show.
        ("assigned_level", _TEXT),
        ("held_out_preferences", pa.list_(_TEXT)),
        ("main_source", _TEXT),
        ("original_source", _TEXT),
        ("source_row", pa.int64()),
        ("language", _TEXT),
        ("tags", pa.list_(_TEXT)),
        ("preference_set", _PREFERENCE_SET),
        (
            "preference_details",
            pa.list_(
                pa.struct(
                    [
                        ("dimension", _TEXT),
                        ("pole", _TEXT),
                        ("intensity", _TEXT),
                        ("seed_name", _TEXT),
                        ("check_kind", _TEXT),
                        ("check_parameters", _TEXT),
                        ("check_result", _TEXT),
                    ]
                )
            ),
        ),
        ("profile", pa.int64()),
        ("redrawn", pa.int64()),
        ("system_form", _TEXT),
        ("system_role", _TEXT),
        ("system", _TEXT),
        ("prompt", _TEXT),
        ("output", _TEXT),
        ("finish_reason", _TEXT),
        ("moot_preferences", pa.list_(pa.int64())),
        ("contradictions", pa.list_(pa.struct([("answer_quote", _TEXT), ("reference_quote", _TEXT)]))),
        ("scores", pa.list_(pa.struct([("name", _TEXT), ("value", pa.float64())]))),
        ("teacher", _TEXT),
        ("teacher_provider", _TEXT),
        ("teacher_model", _TEXT),
        (
            "provenance",
            pa.list_(
                pa.struct(
                    [
                        ("stage", _TEXT),
                        ("provider", _TEXT),
                        ("model", _TEXT),
                        ("prompt_version", _TEXT),
                        ("seed", pa.int64()),
                        ("temperature", pa.float64()),
                        ("top_p", pa.float64()),
                        ("max_tokens", pa.int64()),
                        ("attempts", pa.int64()),
                        ("prompt_tokens", pa.int64()),
                        ("completion_tokens", pa.int64()),
                    ]
                )
            ),
        ),
        ("taxonomy", _TEXT),
        ("taxonomy_version", _TEXT),
        ("job_id", _TEXT),
        ("job_seed", pa.int64()),
    ],
    metadata={"schema_version": COLLECTION_SCHEMA_VERSION},
)

FACET_MATRIX_SCHEMA = pa.schema(
    [
        ("row_id", _TEXT),
        # Facet index of the answer; -1 for the neutral one.
        ("answer", pa.int64()),
        # Whose wish, and its position in that facet's preference set.
        ("facet", pa.int64()),
        ("preference", pa.int64()),
        ("verdict", _TEXT),
        ("source", _TEXT),
        ("quote", _TEXT),
    ],
    metadata={"schema_version": FACET_MATRIX_SCHEMA_VERSION},
)

_ORIGIN = [
    ("split", _TEXT),
    # Position in that split's file, from 0.
    ("row", pa.int64()),
    ("row_id", _TEXT),
    ("split_level", _TEXT),
    ("teacher", _TEXT),
    ("job_id", _TEXT),
]

SFT_PROVENANCE_SCHEMA = pa.schema(
    [*_ORIGIN, ("facet_index", pa.int64())], metadata={"schema_version": PROVENANCE_SCHEMA_VERSION}
)
PAIR_PROVENANCE_SCHEMA = pa.schema(
    [*_ORIGIN, ("chosen_facet_index", pa.int64()), ("rejected_facet_index", pa.int64()), ("pairing", _TEXT)],
    metadata={"schema_version": PROVENANCE_SCHEMA_VERSION},
)


def collection_record(
    row: InstructionRow,
    facet: Facet,
    *,
    split: Split,
    level: SplitLevel,
    held_out: list[str],
    constants: dict[str, Any],
) -> dict[str, Any]:
    """One facet as a record of COLLECTION_SCHEMA. `constants`: teacher, taxonomy and job columns, equal in all rows."""
    return {
        "row_id": row.row_id,
        "facet_index": facet.index,
        "split": split.value,
        "split_level": level.value,
        "assigned_level": row.level,
        "held_out_preferences": held_out,
        "source_row": row.source_row,
        "language": row.language,
        "tags": row.tags,
        **sft_record(row, facet),
        "preference_details": [
            {
                "dimension": entry.dimension,
                "pole": entry.pole,
                "intensity": entry.intensity,
                "seed_name": entry.seed_name,
                "check_kind": entry.check.kind if entry.check else None,
                "check_parameters": (
                    orjson.dumps(entry.check.parameters, option=orjson.OPT_SORT_KEYS).decode() if entry.check else None
                ),
                "check_result": facet.check_results.get(entry.subdimension) if entry.check else None,
            }
            for entry in facet.preferences
        ],
        "profile": facet.profile,
        "redrawn": facet.redrawn,
        "system_form": facet.system_form,
        "system_role": facet.system_role,
        "finish_reason": facet.finish_reason,
        "moot_preferences": facet.moot,
        "contradictions": [
            {"answer_quote": one.answer_quote, "reference_quote": one.reference_quote} for one in facet.contradictions
        ],
        "scores": [{"name": name, "value": value} for name, value in sorted(facet.scores.items())],
        "provenance": [{field: getattr(made, field) for field in made.__struct_fields__} for made in facet.provenance],
        **constants,
    }


def matrix_records(row: InstructionRow, kept: Collection[int]) -> Iterator[dict[str, Any]]:
    """The row's verdicts as records of FACET_MATRIX_SCHEMA: those on the answers of the facets in `kept`, and on the neutral
    answer where it stands, about these facets' preferences."""
    answers = {*kept, NEUTRAL_INDEX} if row.neutral is not None and row.neutral.alive else set(kept)
    for one in row.matrix:
        if one.answer in answers and one.facet in kept:
            yield {"row_id": row.row_id, **{field: getattr(one, field) for field in one.__struct_fields__}}


def sft_record(row: InstructionRow, facet: Facet) -> dict[str, Any]:
    """One facet as a record of SFT_SCHEMA (Multifaceted-Collection)."""
    return {
        "main_source": row.main_source,
        "original_source": row.original_source,
        "preference_set": [
            {
                "dimension": entry.dimension,
                "subdimension": entry.subdimension,
                "preference": entry.preference,
                "description": entry.description,
            }
            for entry in facet.preferences
        ],
        "system": facet.system or "",
        "prompt": row.instruction,
        "output": facet.response,
    }


def preference_record(row: InstructionRow, pair: Pair) -> dict[str, Any]:
    """One pair as a record of PREFERENCE_SCHEMA: each side a user turn, then an assistant turn."""
    return {
        "main_source": row.main_source,
        "original_source": row.original_source,
        "system": pair.own.system,
        "prompt": row.instruction,
        "chosen": _turns(row.instruction, pair.own.response),
        "rejected": _turns(row.instruction, pair.other.response),
    }


def reward_record(row: InstructionRow, pair: Pair) -> dict[str, Any]:
    """One pair as a record of REWARD_SCHEMA: the input is system message, newline, instruction."""
    return {
        "input": f"{pair.own.system}\n{row.instruction}",
        "chosen": pair.own.response,
        "rejected": pair.other.response,
    }


def _turns(instruction: str, response: str | None) -> list[dict[str, str | None]]:
    return [{"content": instruction, "role": "user"}, {"content": response, "role": "assistant"}]
