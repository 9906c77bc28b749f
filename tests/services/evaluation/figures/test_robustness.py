"""What the evaluation tells of the suites, with candidates whose answers are known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.evaluation.figures.robustness import holds, robustness_figures
from services.evaluation.figures.told import Draws
from shared.domain.checks import Check
from shared.domain.evaluations import RobustnessSuite
from shared.domain.rows import Answer, Facet, Rejection
from shared.robustness.suites import SuiteEntry, suite_entries
from tests.services.evaluation.evaluated import inputs_of

DRAWS = Draws(200, 3)
Texts = Callable[[int, SuiteEntry, Facet], list[str]]
"""What is answered to a facet of the row of that number: one text per turn; an empty list is no answer."""


def figures(folder: Path, suite: RobustnessSuite, texts: Texts) -> dict[str, Any]:
    rows = []
    for number, entry in enumerate(suite_entries(suite)):
        for facet in entry.row.facets:
            said = texts(number, entry, facet)
            if said:
                facet.answers = [Answer(said[0], "stop", 1, 9, best=True, later=said[1:])]
            else:
                facet.rejection = Rejection("a", "empty")
        rows.append(entry.row)
    (found,) = robustness_figures(inputs_of(folder, {"a": rows}), "a", DRAWS)
    assert found["name"] == suite.value
    return found


def by_name(records: list[dict[str, Any]], key: str = "name") -> dict[Any, float]:
    return {record[key]: record["estimate"] for record in records}


def test_facts_that_break_under_preferences_show_how_many_do(tmp_path: Path) -> None:
    count = len(suite_entries(RobustnessSuite.FACTS))

    def texts(number: int, entry: SuiteEntry, facet: Facet) -> list[str]:
        broken = {"none": False, "relevant": number % 3 == 0, "irrelevant": number % 2 == 0}
        return [entry.wrong if broken[facet.system_form or ""] else entry.right]

    found = figures(tmp_path, RobustnessSuite.FACTS, texts)
    relevant, irrelevant = -(-count // 3) / count, -(-count // 2) / count
    right = {"none": 1, "relevant": 1 - relevant, "irrelevant": 1 - irrelevant}
    assert by_name(found["conditions"]) == pytest.approx(right)
    assert by_name(found["breakage"]) == pytest.approx({"relevant": relevant, "irrelevant": irrelevant})
    assert all(record["low"] > 0 for record in found["breakage"])
    assert (found["turns"], found["missing"]) == ([], 0)
    assert len(found["categories"]) >= 5


def test_answers_that_are_not_there_are_counted_and_not_averaged(tmp_path: Path) -> None:
    found = figures(tmp_path, RobustnessSuite.FACTS, lambda number, entry, _: [entry.right] if number else [])
    assert (found["missing"], found["right"]["estimate"]) == (3, 1.0)


def test_users_that_are_obeyed_show_by_kind_of_rule(tmp_path: Path) -> None:
    found = figures(
        tmp_path,
        RobustnessSuite.CONFLICTS,
        lambda _, entry, __: [entry.wrong if entry.row.category == "format" else entry.right],
    )
    kinds = by_name(found["categories"])
    assert kinds.pop("format") == 0
    assert set(kinds.values()) == {1.0}
    assert by_name(found["conditions"]) == {"system": found["right"]["estimate"]}
    assert found["breakage"] == []


def test_wishes_that_are_forgotten_show_from_which_turn_on(tmp_path: Path) -> None:
    found = figures(
        tmp_path,
        RobustnessSuite.DRIFT,
        lambda _, entry, __: [entry.right if turn < 2 else entry.wrong for turn in range(1 + len(entry.row.turns))],
    )
    assert by_name(found["turns"], "turn") == {0: 1, 1: 1, 2: 0, 3: 0, 4: 0, 5: 0}
    observations = [record["n"] for record in found["turns"]]
    assert observations[0] == len(suite_entries(RobustnessSuite.DRIFT)) > observations[-1] > 0
    assert by_name(found["conditions"]) == {"kept": found["right"]["estimate"]}


def test_what_cannot_be_measured_does_not_hold() -> None:
    french = [Check("language", {"language": "fr"})]
    assert holds(french, "Le matin, beaucoup de Français mangent du pain avec du beurre et de la confiture.")
    assert not holds(french, "42")
