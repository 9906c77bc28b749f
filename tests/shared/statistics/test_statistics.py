"""Counts are exact, quantiles are those of the values, and what is sampled is bounded and said."""

import statistics as standard
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.curation.assembly.assemble import run
from shared.artifacts.tables import iterate_records
from shared.domain.rows import HARMFUL_INTENT_TAG, NEUTRAL_INDEX
from shared.domain.similarity import rouge_l
from shared.statistics import CollectionStatistics, collection_columns
from shared.statistics import collection as module
from shared.statistics.distributions import length_distribution, normalised_entropy, share_distribution
from tests.services.curation.assembly.synthetic import make_context, make_rows, respond_parts, small_taxonomy


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("statistics")
    context = make_context(folder, respond_parts(folder / "respond", make_rows(60, rejected_share=0.2)))
    run(context)
    return [
        record
        for split in ("train", "test")
        for record in iterate_records(context.output_folder / "collection" / f"{split}.parquet", collection_columns())
    ]


def counted(records: list[dict[str, Any]], sampled: int = 1000) -> dict[str, Any]:
    collection = CollectionStatistics(small_taxonomy(), sampled)
    for record in records:
        collection.add(record)
    return collection.finish()


def test_counts_are_those_of_the_records(records: list[dict[str, Any]]) -> None:
    result = counted(records)
    assert result["facets"] == len(records) == sum(entry["facets"] for entry in result["splits"])
    assert result["instructions"] == len({record["row_id"] for record in records})
    assert result["instructions"] == sum(entry["instructions"] for entry in result["sources"])
    sets = [record["preference_set"] for record in records]
    preferences = sum(map(len, sets))
    details = [detail for record in records for detail in record["preference_details"]]
    coined = sum(not detail["seed_name"] for detail in details)
    assert 0 < coined < preferences / 2
    known = [entry for entry in result["coverage"] if entry["in_taxonomy"]]
    assert len(known) == 4 * 3 * 2
    assert sum(entry["count"] for entry in known) == preferences - coined
    assert result["outside_taxonomy"]["count"] == coined
    assert 1 < result["outside_taxonomy"]["distinct"] <= coined
    assert sum(entry["count"] for entry in result["hierarchy"]) == preferences
    assert result["sets"] == {
        "preferences": preferences,
        "coined_preferences": coined,
        "redrawn_slots": 0,
        "of_persistent_people": 0,
        "without_system": 0,
    }
    assert {entry["name"]: entry["count"] for entry in result["set_sizes"]} == Counter(str(len(one)) for one in sets)
    assert sum(entry["count"] for entry in result["intensities"]) == preferences
    assert sum(entry["count"] for entry in result["system_roles"]) == sum(
        record["system_role"] is not None for record in records
    )
    assert sum(result["checks"][0][outcome] for outcome in ("pass", "fail", "not_applicable", "not_run")) == sum(
        detail["check_kind"] is not None for detail in details
    )
    assert {maker["stage"] for maker in result["makers"]} == {"augment", "compose", "respond"}


def test_splits_are_told_by_level_and_code_training_first(records: list[dict[str, Any]]) -> None:
    splits = counted(records)["splits"]
    assert (splits[0]["split"], splits[0]["split_level"], splits[0]["code"]) == ("train", "seen", "U0")
    assert [entry["code"] for entry in splits[1:]] == sorted({entry["code"] for entry in splits[1:]})
    assert {(entry["split"], entry["split_level"]): entry["facets"] for entry in splits} == Counter(
        (record["split"], record["split_level"]) for record in records
    )


def test_a_neutral_answer_is_counted_apart_from_the_sets(records: list[dict[str, Any]]) -> None:
    neutral = records[0] | {
        "facet_index": NEUTRAL_INDEX,
        "preference_set": [],
        "preference_details": [],
        "system": "",
        "system_form": None,
        "system_role": None,
    }
    without, result = counted(records), counted([*records, neutral])
    assert result["sets"] == without["sets"] | {"without_system": 1}
    assert result["facets"] == without["facets"] + 1
    assert result["lengths"]["response"]["count"] == without["lengths"]["response"]["count"] + 1
    for name in ("splits", "set_sizes", "system_forms", "coverage", "hierarchy"):
        assert result[name] == without[name]


def test_persistent_people_and_redrawn_slots_are_counted(records: list[dict[str, Any]]) -> None:
    changed = [record | {"profile": position, "redrawn": 2} for position, record in enumerate(records[:5])]
    sets = counted([*changed, *records[5:]])["sets"]
    assert (sets["of_persistent_people"], sets["redrawn_slots"]) == (5, 10)


def test_preferences_of_harmful_instructions_are_counted_by_stance(records: list[dict[str, Any]]) -> None:
    chosen = {records[0]["row_id"], records[-1]["row_id"]}
    marked = [{**record, "tags": [HARMFUL_INTENT_TAG] if record["row_id"] in chosen else []} for record in records]
    facets = [record for record in marked if record["tags"]]
    poles = [
        detail["pole"]
        for record in facets
        for entry, detail in zip(record["preference_set"], record["preference_details"], strict=True)
        if entry["dimension"] == "harmlessness"
    ]
    careful = sum(pole in ("careful", "cautious", "reserved") for pole in poles)
    result = counted(marked)["harmful_intent"]
    assert result == {
        "instructions": 2,
        "facets": len(facets),
        "careful_preferences": careful,
        "frank_preferences": len(poles) - careful,
    }
    assert set(counted(records)["harmful_intent"].values()) == {0}


def test_rouge_is_taken_between_all_facets_of_one_instruction_across_splits(records: list[dict[str, Any]]) -> None:
    result = counted(records)["rouge_l"]
    by_row: dict[str, list[str]] = {}
    for record in records:
        by_row.setdefault(record["row_id"], []).append(record["output"])
    expected = [
        rouge_l(left, right)
        for outputs in by_row.values()
        for position, left in enumerate(outputs)
        for right in outputs[position + 1 :]
    ]
    assert result["all_instructions"] is True
    assert result["responses"]["count"] == len(expected)
    assert result["responses"]["mean"] == pytest.approx(standard.mean(expected))
    assert [entry["name"] for entry in result["descriptions"]] == [item.name for item in small_taxonomy().dimensions]


def test_the_sample_is_bounded_said_and_the_same_in_any_order(records: list[dict[str, Any]]) -> None:
    forwards, backwards = counted(records, 7)["rouge_l"], counted(records[::-1], 7)["rouge_l"]
    assert forwards["instructions_sampled"] == 7
    assert forwards["all_instructions"] is False
    assert forwards["responses"]["counts"] == backwards["responses"]["counts"]


def test_rare_preferences_are_counted_together_when_there_are_too_many(
    records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAXIMUM_DISTINCT_PREFERENCES", 20)
    monkeypatch.setattr(module, "PREFERENCES_PER_SUBDIMENSION", 3)
    hierarchy = counted(records)["hierarchy"]
    assert sum(entry["count"] for entry in hierarchy) == sum(len(record["preference_set"]) for record in records)
    assert max(Counter((e["dimension"], e["subdimension"]) for e in hierarchy).values()) <= 4


def test_an_empty_collection_has_statistics() -> None:
    result = counted([])
    assert result["facets"] == result["instructions"] == 0
    assert result["coverage_entropy"] == 0
    assert result["rouge_l"]["responses"]["count"] == 0


@given(st.lists(st.integers(0, 100_000), min_size=1))
def test_length_distribution_holds_every_value_once(lengths: list[int]) -> None:
    result = length_distribution(Counter(lengths))
    assert sum(result["counts"]) == result["count"] == len(lengths)
    assert len(result["edges"]) == len(result["counts"]) + 1
    assert result["edges"] == sorted(set(result["edges"]))
    assert (result["minimum"], result["maximum"]) == (min(lengths), max(lengths))
    ordered = sorted(lengths)
    assert result["quantiles"]["p50"] == ordered[(len(ordered) + 1) // 2 - 1]
    assert list(result["quantiles"].values()) == sorted(result["quantiles"].values())


@given(st.lists(st.floats(0, 1)))
def test_share_distribution_holds_every_value_once(values: list[float]) -> None:
    result = share_distribution(values)
    assert sum(result["counts"]) == result["count"] == len(values)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=40))
def test_entropy_is_one_only_for_equal_counts(counts: list[int]) -> None:
    entropy = normalised_entropy(counts)
    assert -1e-9 <= entropy <= 1 + 1e-9
    if len(set(counts)) == 1 and counts[0]:
        assert entropy == pytest.approx(1)
    if sum(map(bool, counts)) <= 1:
        assert entropy == pytest.approx(0)


def test_statistics_read_only_columns_that_the_collection_has(tmp_path: Path) -> None:
    context = make_context(tmp_path, respond_parts(tmp_path / "respond", make_rows(3)))
    run(context)
    columns = set(next(iterate_records(context.output_folder / "collection" / "train.parquet")))
    assert set(collection_columns()) <= columns
