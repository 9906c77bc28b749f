"""The promise that nothing held out stands in a training record, checked on the files of a finished collection."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from shared.domain.containment import grams_of
from shared.domain.prose import fold_name
from shared.domain.splits import HeldOut
from shared.domain.taxonomy import Taxonomy

EXPORTS = ("sft", "dpo", "orpo", "rm")


def records(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)


def training_texts(folder: Path) -> dict[str, set[str]]:
    """Every text of every training record, by table. `folder` holds what assembly made."""
    texts = {"collection": set(_strings(records(folder / "collection" / "train.parquet")))}
    for export in EXPORTS:
        path = folder / "exports" / export / "train"
        texts[export] = set(_strings(records(path.with_suffix(".parquet"))))
        assert texts[export] == set(_strings([orjson.loads(line) for line in path.with_suffix(".jsonl").open()]))
        assert texts[export]
    return texts


def assert_nothing_held_out(
    folder: Path, taxonomy: Taxonomy, held_out: HeldOut, unseen: Mapping[str, Collection[str]], *, answers_too: bool
) -> None:
    """`unseen`: instructions that do not train, by the reason why. `answers_too`: whether answers are searched for held-out roles
    and wordings as well. Those of a real job may speak of anybody, and are so long that they hold most of the character
    5-grams of a short text by chance."""
    texts = training_texts(folder)
    everything = set().union(*texts.values())
    named = {name for text in everything for name in re.findall(r"\[([^\]]+)\]", text)} | everything
    assert not set(map(fold_name, named)) & set(map(fold_name, held_out.seeds))
    assert not everything & held_out.subdimensions
    assert not everything & held_out.forms
    trained = records(folder / "collection" / "train.parquet")
    written = {record["system"] or "" for record in trained}
    written |= {entry["description"] for record in trained for entry in record["preference_set"] or ()}
    if answers_too:
        written = everything
        assert not [role for role in held_out.roles if any(role in text for text in everything)]
    described = {
        seed.name: set(grams_of(seed.description).tolist())
        for _, _, seed in taxonomy.seeds()
        if seed.name in held_out.seeds
    }
    assert len(described) == len(held_out.seeds) > 0
    for text in written:
        grams = set(grams_of(text).tolist())
        near = {name: share for name, one in described.items() if (share := len(one & grams) / len(one)) >= 0.6}
        assert not near, (near, text)
    for reason, instructions in unseen.items():
        assert instructions, reason
        assert not everything & set(instructions), reason
        assert not any(instruction in text for text in texts["rm"] for instruction in instructions), reason
    assert not {record["system_role"] for record in trained} & held_out.roles
    for record in trained:
        cells = [
            (entry["subdimension"], detail["pole"])
            for entry, detail in zip(record["preference_set"], record["preference_details"], strict=True)
        ]
        assert not held_out.has_pair(cells)
        assigned = zip(cells, record["preference_details"], strict=True)
        assert not held_out.holds_combination([cell for cell, detail in assigned if detail["seed_name"]])
