"""Small taxonomies for tests of the row stages."""

from typing import Any

from shared.domain.taxonomy import Taxonomy


def _subdimension(name: str, **seeds: Any) -> dict[str, Any]:
    """A subdimension of two poles with two seeds on each; `seeds` overrides fields of a seed by `low_a`, `high_b`, …"""
    entries = []
    for pole in ("low", "high"):
        for letter in "ab":
            entry = {
                "name": f"{name} {pole} {letter}",
                "pole": f"{name} {pole}",
                "description": f"The answer leans to the {pole} side of {name} in the manner {letter}.",
            }
            entry.update(seeds.get(f"{pole}_{letter}", {}))
            entries.append(entry)
    return {
        "name": name,
        "description": f"How much {name} the answer has.",
        "poles": [{"name": f"{name} {pole}", "description": f"Wants {pole} {name}."} for pole in ("low", "high")],
        "seeds": entries,
    }


def small_taxonomy() -> Taxonomy:
    """Four dimensions of two subdimensions (`<dimension> one` and `<dimension> two`), two poles, two seeds a pole.

    Machine checks: `style one` low: at most 60 words, high: at least 200 words; `depth one` high: at least 150 words
    (so it excludes the former). `tone one low a` excludes `care one high b` by name.
    """
    check = {"check": {"kind": "maximum_words", "parameters": {"words": 60}}}
    long_check = {"check": {"kind": "minimum_words", "parameters": {"words": 200}}}
    deep_check = {"check": {"kind": "minimum_words", "parameters": {"words": 150}}}
    overrides: dict[str, dict[str, Any]] = {
        "style one": {"low_a": check, "low_b": {}, "high_a": long_check},
        "depth one": {"high_a": deep_check},
        "tone one": {"low_a": {"conflicts_with": ["care one high b"]}},
    }
    return Taxonomy.model_validate(
        {
            "name": "small",
            "dimensions": [
                {
                    "name": dimension,
                    "description": f"Everything about {dimension}.",
                    "subdimensions": [
                        _subdimension(f"{dimension} {number}", **overrides.get(f"{dimension} {number}", {}))
                        for number in ("one", "two")
                    ],
                }
                for dimension in ("style", "depth", "tone", "care")
            ],
        }
    )
