"""Benches made up for tests: items, and lines in the layout of the Multifaceted Bench."""

from typing import Any

from shared.domain.rows import Facet, InstructionRow, Preference, Rubric

REFERENCE = "An answer as this person would like it."


def rubric(what: str = "brevity") -> Rubric:
    return Rubric(f"Does the answer show {what}?", [f"{what}, level {score}" for score in range(1, 6)])


def bench_facet(index: int = 0, **values: Any) -> Facet:
    preferences = [
        Preference("style", "length", "brief", "Be brief.", ""),
        Preference("harmlessness", "candour", "frank", "Say it plainly.", ""),
    ]
    told = {
        "preferences": preferences,
        "system": f"You answer person {index} in few words.",
        "response": REFERENCE,
        "rubrics": [rubric("brevity"), rubric("candour")],
        **values,
    }
    return Facet(index, **told)


def bench_row(number: int = 0, *facets: Facet, **values: Any) -> InstructionRow:
    told = {"split": "test", **values}
    return InstructionRow(
        f"{number:016x}", f"instruction {number}", "a set", "a set", number, facets=list(facets), **told
    )


def bench_line(**changes: Any) -> dict[str, Any]:
    """A line of the layout that can be used, with the columns that are given changed."""
    levels = {str(score): f"level {score}" for score in range(1, 6)}
    return {
        "source": "koala",
        "preference_set": [
            {"dimension": "style", "subdimension": "length", "preference": "brief", "description": "Be brief."}
        ],
        "system": "You answer in few words.",
        "prompt": "Why is the sky blue?",
        "reference_answer": REFERENCE,
        "rubrics": [{"criteria": "Is it brief?", "score_descriptions": levels}],
        **changes,
    }
