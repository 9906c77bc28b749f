"""What the facet matrix of a collection says, by split and by level."""

from typing import Any

import pytest

from shared.statistics.matrix_figures import FacetMatrixFigures
from tests.shared.statistics.records import facet_record, verdict_records

TONE, LENGTH = ("style", "tone", "warm"), ("depth", "length", "less")
COOL, MORE = ("style", "tone", "cool"), ("depth", "length", "more")


def figures_of(*instructions: tuple[list[dict[str, Any]], list[dict[str, Any]]], sampled: int = 100) -> dict[str, Any]:
    counted = FacetMatrixFigures(sampled)
    for records, verdicts in instructions:
        counted.add(records, verdicts)
    return counted.finish()


def told_apart(row_id: str, **changes: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two people with opposite wishes, each served by their own answer alone."""
    records = [facet_record(row_id, 0, [TONE, LENGTH], **changes), facet_record(row_id, 2, [COOL, MORE], **changes)]
    verdicts = [
        verdict
        for answer in (0, 2)
        for facet in (0, 2)
        for verdict in verdict_records(row_id, answer, facet, "ff" if answer == facet else "vv")
    ]
    return records, verdicts


def served_alike(row_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One answer that follows one wish of each person."""
    records, _ = told_apart(row_id)
    return records, [v for answer in (0, 2) for facet in (0, 2) for v in verdict_records(row_id, answer, facet, "fv")]


def test_answers_that_serve_their_own_person_are_specific_and_matched() -> None:
    found = figures_of(*(told_apart(str(number)) for number in range(12)))
    (split,) = found["splits"]
    assert (split["split"], split["instructions"], split["pairs"]) == ("train", 12, 24)
    assert (
        split["specificity"]["estimate"]
        == split["matched_share"]["estimate"]
        == split["exact_match"]["estimate"]
        == 1.0
    )
    assert split["exact_match_by_chance"] == 0.5
    assert split["own_score"]["estimate"] == 5.0
    assert (split["words"]["estimate"], split["breakage"]["estimate"]) == (5.0, 0.0)
    assert found["verdicts"] == {"judge": 12 * 8}


def test_one_answer_for_everybody_has_no_specificity_and_matches_by_chance() -> None:
    found = figures_of(*(served_alike(str(number)) for number in range(12)))
    (split,) = found["splits"]
    assert split["specificity"]["estimate"] == 0.0
    assert split["exact_match"]["estimate"] == 0.5
    assert found["levels"][0]["specificity"]["estimate"] == 0.0
    # The one that every answer follows is moot; the other is not followed.
    assert found["levels"][0]["moot"]["estimate"] == 0.5
    assert found["levels"][0]["followed"]["estimate"] == 0.0


def test_every_level_is_told_by_itself() -> None:
    levels = [("train", "seen", "U0"), ("test", "seen", "U0"), ("test", "unseen_pair", "U2")]
    found = figures_of(
        *(
            told_apart(f"{split}{level}{n}", split=split, split_level=level)
            for split, level, _ in levels
            for n in range(3)
        ),
        told_apart("broken", split="test", split_level="unseen_pair", contradictions=[{"answer_quote": "x"}]),
    )
    assert [(one["split"], one["split_level"], one["code"], one["facets"]) for one in found["levels"]] == [
        ("train", "seen", "U0", 6),
        ("test", "seen", "U0", 6),
        ("test", "unseen_pair", "U2", 8),
    ]
    assert [one["broken"]["estimate"] for one in found["levels"]] == [0.0, 0.0, 0.25]
    assert [one["split"] for one in found["splits"]] == ["train", "test"]


def test_a_wish_that_two_people_share_tells_them_not_apart() -> None:
    records = [facet_record("r", 0, [TONE, LENGTH]), facet_record("r", 1, [TONE, MORE])]
    verdicts = [
        *verdict_records("r", 0, 0, "ff"),
        *verdict_records("r", 1, 0, "vv"),
        *verdict_records("r", 0, 1, "fv"),
        *verdict_records("r", 1, 1, "ff"),
    ]
    found = figures_of((records, verdicts))
    # By tone alone the first answer would be better for both.
    assert found["splits"][0]["specificity"]["estimate"] == 1.0
    assert found["levels"][0]["specificity"]["estimate"] == 1.0


def test_what_programs_know_is_told_and_nothing_more() -> None:
    records, _ = told_apart("r")
    found = figures_of((records, verdict_records("r", 0, 0, "f-", "program")), (told_apart("s")[0], []))
    assert found["verdicts"] == {"program": 1}
    (level,) = found["levels"]
    assert (level["facets"], level["followed"]["estimate"], level["specificity"]["estimate"]) == (4, 1.0, None)
    assert level["broken"]["estimate"] is None


def test_more_people_than_can_be_matched_are_told_by_level_alone() -> None:
    records = [facet_record("r", index, [("style", "tone", str(index))]) for index in range(9)]
    verdicts = [v for a in range(9) for f in range(9) for v in verdict_records("r", a, f, "f" if a == f else "v")]
    found = figures_of((records, verdicts))
    assert found["splits"] == []
    assert found["levels"][0]["specificity"]["estimate"] == 1.0


def test_of_many_instructions_a_sample_is_taken() -> None:
    found = figures_of(*(told_apart(str(number)) for number in range(30)), sampled=10)
    assert (found["instructions_sampled"], found["all_instructions"]) == (10, False)
    assert found["splits"][0]["instructions"] == 10
    assert found["levels"][0]["facets"] == 20


@pytest.mark.parametrize("level", ["seen", "unseen_pair"])
def test_intervals_stay_within_what_a_figure_can_be(level: str) -> None:
    mixed = [told_apart("a", split_level=level, split="test"), told_apart("b", split_level=level, split="test")]
    mixed[1][1][0]["verdict"] = "violated"
    found = figures_of(*mixed)
    for name in ("followed", "specificity"):
        interval = found["levels"][0][name]
        assert interval["low"] >= -1
        assert interval["high"] == 1.0
