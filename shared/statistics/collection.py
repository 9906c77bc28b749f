"""Statistics of a collection, from its records, one pass, memory bounded whatever its size.

Counts are exact. ROUGE-L costs a comparison of each pair of texts, so it is taken from a sample of instructions, drawn by
hash (the same for the same collection, whatever its order), and the result says how many they were.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, groupby
from typing import Any

import msgspec

from shared.domain.rows import HARMFUL_INTENT_TAG, NEUTRAL_INDEX
from shared.domain.similarity import rouge_l
from shared.domain.splits import Split, SplitLevel
from shared.domain.taxonomy import Taxonomy, stances_of
from shared.statistics.distributions import length_distribution, normalised_entropy, share_distribution
from shared.statistics.instruction_sample import InstructionSample
from shared.statistics.judge_record import ControlCounts

STATISTICS_SCHEMA_VERSION = "collection-statistics/4"

SAMPLED_INSTRUCTIONS = 1000
COMPARED_CHARACTERS = 4000
"""Longer answers are compared by their beginning."""
PREFERENCES_PER_SUBDIMENSION = 40
MAXIMUM_DISTINCT_PREFERENCES = 100_000
OUTSIDE_SHOWN = 50
"""Poles outside the taxonomy that are listed; a teacher can coin any number."""

_COLUMNS = (
    "row_id",
    "split",
    "split_level",
    "main_source",
    "original_source",
    "language",
    "tags",
    "preference_set",
    "preference_details",
    "facet_index",
    "profile",
    "redrawn",
    "system_form",
    "system_role",
    "system",
    "prompt",
    "output",
    "finish_reason",
    "scores",
    "provenance",
)


def collection_columns() -> tuple[str, ...]:
    """The columns of `collection/*.parquet` that `CollectionStatistics.add` reads."""
    return _COLUMNS


class _Sample:
    """A sample of instructions, each with the texts of its facets."""

    def __init__(self, size: int) -> None:
        self._texts: InstructionSample[tuple[str, dict[str, str]]] = InstructionSample("statistics-sample", size)

    def add(self, row_id: str, output: str, descriptions: dict[str, str]) -> None:
        self._texts.add(row_id, (output[:COMPARED_CHARACTERS], descriptions))

    def similarities(self, dimensions: Sequence[str]) -> dict[str, Any]:
        descriptions: dict[str, list[float]] = {}
        outputs: list[float] = []
        for _, several in groupby(self._texts.items(), key=lambda item: item[0]):
            facets = [texts for _, texts in several]
            for (left_output, left), (right_output, right) in combinations(facets, 2):
                outputs.append(rouge_l(left_output, right_output))
                for dimension in left.keys() & right.keys():
                    descriptions.setdefault(dimension, []).append(rouge_l(left[dimension], right[dimension]))
        return {
            "instructions_sampled": self._texts.instructions,
            "all_instructions": self._texts.complete,
            "compared_characters": COMPARED_CHARACTERS,
            "descriptions": [
                {"name": dimension, **share_distribution(descriptions[dimension])}
                for dimension in sorted(descriptions, key=_in_order_of(dimensions))
            ],
            "responses": {"name": "responses", **share_distribution(outputs)},
        }


class _Preferences:
    """Counts of preference keywords; the rarest of more than MAXIMUM_DISTINCT_PREFERENCES are counted together."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._rare: Counter[tuple[str, str]] = Counter()
        self._rare_distinct: Counter[tuple[str, str]] = Counter()

    def add(self, dimension: str, subdimension: str, keywords: str) -> None:
        self._counts[dimension, subdimension, " ".join(keywords.casefold().split())] += 1
        floor = 1
        while len(self._counts) > MAXIMUM_DISTINCT_PREFERENCES:
            for key in [key for key, count in self._counts.items() if count <= floor]:
                self._rare[key[:2]] += self._counts.pop(key)
                self._rare_distinct[key[:2]] += 1
            floor += 1

    def records(self, dimensions: Sequence[str]) -> list[dict[str, Any]]:
        groups: dict[tuple[str, str], list[tuple[int, str]]] = {key: [] for key in self._rare}
        for (dimension, subdimension, keywords), count in self._counts.items():
            groups.setdefault((dimension, subdimension), []).append((-count, keywords))
        records: list[dict[str, Any]] = []
        rank = _in_order_of(dimensions)
        for (dimension, subdimension), found in sorted(groups.items(), key=lambda item: (rank(item[0][0]), item[0][1])):
            place = {"dimension": dimension, "subdimension": subdimension}
            ordered = sorted(found)
            for negative, keywords in ordered[:PREFERENCES_PER_SUBDIMENSION]:
                records.append({**place, "preference": keywords, "count": -negative, "distinct": 1})
            rest = ordered[PREFERENCES_PER_SUBDIMENSION:]
            count = self._rare[dimension, subdimension] - sum(negative for negative, _ in rest)
            distinct = self._rare_distinct[dimension, subdimension] + len(rest)
            if count:
                records.append({**place, "preference": None, "count": count, "distinct": distinct})
        return records


class CollectionStatistics:
    """Give every record of `collection/train.parquet`, then of `test.parquet`, to `add`; `finish` returns plain JSON.

    Facets of one instruction must follow one another within a split, as assembly writes them.
    """

    def __init__(self, taxonomy: Taxonomy, sampled_instructions: int = SAMPLED_INSTRUCTIONS) -> None:
        self._taxonomy = taxonomy
        self._sample = _Sample(sampled_instructions)
        self._preferences = _Preferences()
        self._controls = ControlCounts()
        self._previous = ("", "")
        self._instructions = 0
        self._facets = 0
        self._splits: Counter[tuple[str, str]] = Counter()
        self._sizes: Counter[int] = Counter()
        self._intensities: Counter[str] = Counter()
        self._roles: Counter[str] = Counter()
        self._sets: Counter[str] = Counter()
        self._sources: Counter[tuple[str, str]] = Counter()
        self._languages: Counter[str] = Counter()
        self._forms: Counter[str] = Counter()
        self._finish_reasons: Counter[str] = Counter()
        self._coverage: Counter[tuple[str, str, str]] = Counter()
        self._checks: Counter[tuple[str, str]] = Counter()
        self._makers: dict[tuple[Any, ...], Counter[int | None]] = {}
        self._harmful_intent: Counter[str] = Counter()
        self._stances = stances_of(taxonomy)
        self._lengths: dict[str, Counter[int]] = {name: Counter() for name in ("instruction", "system", "response")}

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one record with the columns of `collection_columns()`."""
        row_id, split = record["row_id"], record["split"]
        harmful = HARMFUL_INTENT_TAG in record["tags"]
        if (row_id, split) != self._previous:
            self._instructions += 1
            self._harmful_intent["instructions"] += harmful
            self._sources[record["main_source"], record["original_source"]] += 1
            self._languages[record["language"]] += 1
            self._lengths["instruction"][len(record["prompt"])] += 1
        self._previous = (row_id, split)
        self._facets += 1
        self._harmful_intent["facets"] += harmful
        self._finish_reasons[record["finish_reason"] or "unknown"] += 1
        self._lengths["response"][len(record["output"])] += 1
        descriptions: dict[str, str] = {}
        if record["facet_index"] == NEUTRAL_INDEX:
            self._sets["without_system"] += 1
        else:
            descriptions = self._add_set(record, harmful=harmful)
        for made in record["provenance"]:
            key = ("stage", "provider", "model", "prompt_version", "temperature", "top_p")
            self._makers.setdefault(tuple(made[name] for name in key), Counter())[made["max_tokens"]] += 1
        self._controls.add(row_id, {entry["name"]: entry["value"] for entry in record["scores"] or ()})
        self._sample.add(row_id, record["output"], descriptions)

    def _add_set(self, record: Mapping[str, Any], *, harmful: bool) -> dict[str, str]:
        """Count what a facet has beyond its answer; returns the first description of each dimension."""
        self._splits[record["split"], record["split_level"]] += 1
        self._sizes[len(record["preference_set"])] += 1
        self._forms[record["system_form"] or "unnamed"] += 1
        if record["system_role"]:
            self._roles[record["system_role"]] += 1
        self._lengths["system"][len(record["system"])] += 1
        self._sets["of_persistent_people"] += record["profile"] is not None
        self._sets["redrawn_slots"] += record["redrawn"] or 0
        descriptions: dict[str, str] = {}
        for entry, detail in zip(record["preference_set"], record["preference_details"], strict=True):
            descriptions.setdefault(entry["dimension"], entry["description"])
            self._preferences.add(entry["dimension"], entry["subdimension"], entry["preference"])
            self._coverage[entry["dimension"], entry["subdimension"], detail["pole"]] += 1
            if harmful and (stance := self._stances.get((entry["subdimension"], detail["pole"]))):
                self._harmful_intent[f"{stance}_preferences"] += 1
            self._sets["preferences"] += 1
            self._sets["coined_preferences"] += not detail["seed_name"]
            self._intensities[detail["intensity"] or "unnamed"] += 1
            if detail["check_kind"]:
                self._checks[detail["check_kind"], detail["check_result"] or "not_run"] += 1
        return descriptions

    def finish(self) -> dict[str, Any]:
        """All figures as plain JSON; ROUGE-L is computed here.

        `harmful_intent` counts the instructions so tagged, their facets, and their preferences on poles that the taxonomy marks
        careful and frank; there should be none on a frank one. `judge_record` is `JudgeRecord` over the answers that were kept.
        """
        coverage = self._coverage_records()
        dimensions = [dimension.name for dimension in self._taxonomy.dimensions]
        return {
            "schema_version": STATISTICS_SCHEMA_VERSION,
            "taxonomy": {"name": self._taxonomy.name, "version": self._taxonomy.version},
            "instructions": self._instructions,
            "facets": self._facets,
            "splits": [
                {"split": split, "split_level": level, "code": SplitLevel(level).code, "facets": count}
                for (split, level), count in sorted(self._splits.items(), key=_in_order_of_splits)
            ],
            "sets": {
                name: self._sets[name]
                for name in (
                    "preferences",
                    "coined_preferences",
                    "redrawn_slots",
                    "of_persistent_people",
                    "without_system",
                )
            },
            "set_sizes": [{"name": str(size), "count": count} for size, count in sorted(self._sizes.items())],
            "intensities": _ranked(self._intensities),
            "system_roles": _ranked(self._roles),
            "sources": [
                {"main_source": main, "original_source": original, "instructions": count}
                for (main, original), count in self._sources.most_common()
            ],
            "languages": _ranked(self._languages),
            "system_forms": _ranked(self._forms),
            "finish_reasons": _ranked(self._finish_reasons),
            "harmful_intent": {
                name: self._harmful_intent[name]
                for name in ("instructions", "facets", "careful_preferences", "frank_preferences")
            },
            "lengths": {name: length_distribution(counts) for name, counts in self._lengths.items()},
            "coverage": coverage,
            "outside_taxonomy": self._outside(),
            "coverage_entropy": normalised_entropy([record["count"] for record in coverage if record["in_taxonomy"]]),
            "hierarchy": self._preferences.records(dimensions),
            "checks": self._check_records(),
            "makers": [
                {
                    "stage": maker[0],
                    "provider": maker[1],
                    "model": maker[2],
                    "prompt_version": maker[3],
                    "temperature": maker[4],
                    "top_p": maker[5],
                    "max_tokens": _range_of(limits),
                    "facets": limits.total(),
                }
                for maker, limits in sorted(self._makers.items(), key=lambda item: -item[1].total())
            ],
            "judge_record": msgspec.to_builtins(self._controls.record()),
            "rouge_l": self._sample.similarities(dimensions),
        }

    def _coverage_records(self) -> list[dict[str, Any]]:
        """Every pole of the taxonomy, also those never used, then what stands outside of it."""
        known = [
            (dimension.name, subdimension.name, pole.name)
            for dimension in self._taxonomy.dimensions
            for subdimension in dimension.subdimensions
            for pole in subdimension.poles
        ]
        outside = Counter({key: self._coverage[key] for key in self._coverage.keys() - set(known)})
        foreign = sorted(outside, key=lambda key: (-outside[key], key))[:OUTSIDE_SHOWN]
        totals: Counter[tuple[str, str]] = Counter()
        for (dimension, subdimension, _), count in self._coverage.items():
            totals[dimension, subdimension] += count
        return [
            {
                "dimension": dimension,
                "subdimension": subdimension,
                "pole": pole,
                "count": (count := self._coverage[dimension, subdimension, pole]),
                "share": count / total if (total := totals[dimension, subdimension]) else 0.0,
                "in_taxonomy": position < len(known),
            }
            for position, (dimension, subdimension, pole) in enumerate([*known, *foreign])
        ]

    def _outside(self) -> dict[str, int]:
        """Preferences whose subdimension or pole is not the taxonomy's: how many, and of how many different poles."""
        known = {
            (dimension.name, subdimension.name, pole.name)
            for dimension in self._taxonomy.dimensions
            for subdimension in dimension.subdimensions
            for pole in subdimension.poles
        }
        counts = [count for key, count in self._coverage.items() if key not in known]
        return {"count": sum(counts), "distinct": len(counts)}

    def _check_records(self) -> list[dict[str, Any]]:
        kinds = sorted({kind for kind, _ in self._checks})
        outcomes = ("pass", "fail", "not_applicable", "not_run")
        return [{"kind": kind, **{name: self._checks[kind, name] for name in outcomes}} for kind in kinds]


def _in_order_of_splits(item: tuple[tuple[str, str], int]) -> tuple[bool, str]:
    """Training first, then the test levels."""
    (split, level), _ = item
    return split != Split.TRAIN, SplitLevel(level).code


def _in_order_of(names: Sequence[str]) -> Callable[[str], tuple[int, str]]:
    """A sort key: the taxonomy's dimensions in its order, then any others by name."""
    ranks = {name: rank for rank, name in enumerate(names)}
    return lambda name: (ranks.get(name, len(ranks)), name)


def _range_of(limits: Counter[int | None]) -> str:
    """The token limits of a kind of call: a judge's grow with the wishes it is asked about."""
    known = [limit for limit in limits if limit is not None]
    if not known:
        return "default"
    return f"{min(known):,}" if len(set(known)) == 1 else f"{min(known):,} to {max(known):,}"


def _ranked(counts: Counter[str]) -> list[dict[str, Any]]:
    return [{"name": name, "count": count} for name, count in counts.most_common()]
