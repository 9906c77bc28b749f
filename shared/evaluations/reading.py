"""Reads an evaluation back: its document, and the table of its items where it lies beside it."""

import csv
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shared.domain.errors import MultifacetError
from shared.domain.evaluation_figures import EVALUATION_FILE, ITEMS_FILE, EvaluationDocument, read_document
from shared.domain.evaluations import EVALUATE

ItemKey = tuple[str, int]
"""Row id and facet index."""


class StoredEvaluation(msgspec.Struct, frozen=True):
    """`columns`: the figures of `items.csv`, by column (`score:<candidate>`, `score.<dimension>:<candidate>`, …) and item; empty
    where there is no such table, and then nothing can be paired."""

    name: str
    document: EvaluationDocument
    columns: Mapping[str, Mapping[ItemKey, float]] = {}
    items: frozenset[ItemKey] = frozenset()


def read_evaluation(path: Path) -> StoredEvaluation:
    """An evaluation out of its `evaluation.json`, or out of a folder that holds one, itself or below `evaluate`.

    Raises MultifacetError for what is no evaluation.
    """
    file = _document_file(path)
    try:
        document = read_document(file.read_bytes())
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise MultifacetError(
            f"{file} is no evaluation that this version reads: {error}; give an evaluation.json that the stage `evaluate` wrote"
        ) from error
    table = file.with_name(ITEMS_FILE)
    if not table.is_file():
        return StoredEvaluation(str(path), document)
    try:
        columns, items = _columns(table)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise MultifacetError(
            f"{table} is no table of items: {error!r}; it must be the one that was written beside {file.name}, or leave it out"
        ) from error
    return StoredEvaluation(str(path), document, columns, items)


def _document_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for folder in (path, path / EVALUATE):
        if (folder / EVALUATION_FILE).is_file():
            return folder / EVALUATION_FILE
    raise MultifacetError(
        f"neither {path} nor its folder {EVALUATE} holds an {EVALUATION_FILE}; `multifacet pull` brings one here"
    )


def _columns(table: Path) -> tuple[dict[str, dict[ItemKey, float]], frozenset[ItemKey]]:
    columns: dict[str, dict[ItemKey, float]] = {}
    items: set[ItemKey] = set()
    with table.open(encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            key = line["row_id"], int(line["facet"])
            items.add(key)
            for name, text in line.items():
                if ":" in name and text:
                    columns.setdefault(name, {})[key] = float(text)
    return columns, frozenset(items)
