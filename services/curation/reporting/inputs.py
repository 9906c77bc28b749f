"""What the stages before left for the report: rejected input rows, the decontamination record, the collection."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from shared.artifacts.tables import iterate_records
from shared.stages.protocol import InputObject

REJECTED_EXAMPLES = 3
"""Shown per reason."""

READ_BATCH = 200


def find(inputs: Sequence[InputObject], name: str) -> InputObject | None:
    """The input called `name`, whichever stage made it."""
    return next((item for item in inputs if item.name == name), None)


def collection_records(inputs: Sequence[InputObject], columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Records of the collection, training first; memory holds one batch."""
    for split in ("train", "test"):
        item = find(inputs, f"collection/{split}.parquet")
        if item is not None:
            yield from iterate_records(item.path, columns, READ_BATCH)


def matrix_records(inputs: Sequence[InputObject]) -> Iterator[dict[str, Any]]:
    """Verdicts on the collection's answers, in the order of `collection_records`."""
    for split in ("train", "test"):
        item = find(inputs, f"facet_matrix/{split}.parquet")
        if item is not None:
            yield from iterate_records(item.path, batch=READ_BATCH)


def pair_records(inputs: Sequence[InputObject]) -> Iterator[dict[str, Any]]:
    """Rows of the `dpo` export, training first."""
    for split in ("train", "test"):
        item = find(inputs, f"exports/dpo/{split}.parquet")
        if item is not None:
            yield from iterate_records(item.path, ("prompt", "chosen", "rejected"), READ_BATCH)


def rejected_rows(inputs: Sequence[InputObject]) -> list[dict[str, Any]]:
    """Rejected input rows by reason, most frequent first: `reason`, `count`, `is_duplicate`, `sources`, a few `examples`."""
    counts: Counter[str] = Counter()
    sources: dict[str, Counter[str]] = {}
    examples: dict[str, list[dict[str, Any]]] = {}
    item = find(inputs, "rejected.parquet")
    if item is not None:
        for record in iterate_records(item.path, batch=READ_BATCH):
            reason = record["reason"]
            counts[reason] += 1
            sources.setdefault(reason, Counter())[record["main_source"]] += 1
            shown = examples.setdefault(reason, [])
            if len(shown) < REJECTED_EXAMPLES:
                shown.append(record)
    return [
        {
            "reason": reason,
            "count": count,
            "is_duplicate": "duplicate" in reason,
            "sources": [{"name": name, "count": number} for name, number in sources[reason].most_common(20)],
            "examples": examples[reason],
        }
        for reason, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def decontamination(inputs: Sequence[InputObject]) -> dict[str, Any] | None:
    """The decontamination record as `facts` (single values) and `tables` (lists of records), or None without one."""
    item = find(inputs, "decontamination.json")
    if item is None:
        return None
    content = orjson.loads(item.path.read_bytes())
    if not isinstance(content, dict):
        return None
    facts: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {}
    for name, value in content.items():
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            columns = list(dict.fromkeys(key for entry in value for key in entry))
            tables[name] = {"columns": columns, "rows": value[:20], "total": len(value)}
        elif isinstance(value, dict):
            facts.update({f"{name}: {key}": _short(inner) for key, inner in value.items()})
        else:
            facts[name] = _short(value)
    return {"facts": facts, "tables": tables}


def splits(inputs: Sequence[InputObject]) -> dict[str, Any] | None:
    """What curation held out, as it wrote it; None without the record."""
    item = find(inputs, "splits.json")
    if item is None:
        return None
    content: dict[str, Any] = orjson.loads(item.path.read_bytes())
    return content


def pair_reasons(inputs: Sequence[InputObject]) -> dict[str, int]:
    """How many ordered pairs assembly left out, or kept in doubt, by reason; nothing where it did not say."""
    item = find(inputs, "exports/dpo/provenance.parquet")
    found: dict[str, int] = {} if item is None else item.metadata.get("pair_margins", {})
    return found


def _short(value: object) -> str:
    if isinstance(value, list):
        value = ", ".join(map(str, value[:20])) + (f" and {len(value) - 20} more" if len(value) > 20 else "")
    return str(value) if value not in (None, "") else "none"
