"""The leaderboard of an evaluation: who comes first, which columns there are, and what is said where nothing is known."""

from typing import Any

from shared.pages.evaluations import cell_of, differences, evaluation_charts, headlines, leaderboard, unlike

NOTHING: dict[str, Any] = {"estimate": None, "low": None, "high": None}


def figure(estimate: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"estimate": estimate, "low": low, "high": high}


def candidate(name: str, **parts: Any) -> dict[str, Any]:
    empty = {"words": {"mean": figure(10.0)}, "diversity": {"rouge_l": None}, "rewards": None}
    return {
        "name": name,
        "models": ["p/m"],
        "system": "own",
        "checks": {"passed": NOTHING, "kinds": []},
        **empty,
        **parts,
    }


def graded(name: str, score: float | None, levels: tuple[str, ...] = ()) -> dict[str, Any]:
    values = [{"name": level, **figure(score, 1.0, 5.0)} for level in levels]
    absolute = {"overall": figure(score), "items_scored": 3, "dimensions": values, "sources": [], "levels": values}
    return candidate(name, absolute={**absolute, "specificity": None})


def document(*candidates: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"candidates": list(candidates), "baseline": None, "differences": [], "configuration": {}, **more}


def test_the_best_comes_first_and_one_without_a_figure_last() -> None:
    unknown, low, high = graded("a", None), graded("b", 2.0), graded("c", 4.5)
    board = leaderboard(document(unknown, low, high))
    assert [row.name for row in board.rows] == ["c", "b", "a"]
    assert [column.title for column in board.columns] == ["Score", "Words"]
    assert [row.cells[0].estimate for row in board.rows] == ["4.50", "2.00", "–"]


def test_without_grades_ratings_and_then_checks_say_who_leads() -> None:
    talked = [candidate(name, conversation={"overall": figure(value)}) for name, value in (("a", 5.0), ("b", 7.0))]
    assert [row.name for row in leaderboard(document(*talked)).rows] == ["b", "a"]
    checked = [
        candidate(name, checks={"passed": figure(share), "kinds": []}) for name, share in (("a", 0.25), ("b", 0.5))
    ]
    board = leaderboard(document(*checked))
    assert [row.name for row in board.rows] == ["b", "a"]
    assert board.rows[0].cells[0].estimate == "50.0%"


def test_a_figure_without_an_interval_is_told_alone() -> None:
    assert cell_of(figure(0.5, 0.25, 0.75), ".1%").interval == "25.0% to 75.0%"
    assert cell_of(figure(0.5), ".1%").interval == ""
    assert cell_of(NOTHING, ".2f").estimate == cell_of(None, ".2f").estimate == "–"


def test_a_difference_is_sure_where_its_interval_leaves_out_zero() -> None:
    found = [
        {"first": "a", "second": "b", **figure(0.5, 0.1, 0.9)},
        {"first": "a", "second": "c", **figure(-0.5, -0.9, -0.1)},
        {"first": "b", "second": "c", **figure(0.1, -0.1, 0.3)},
        {"first": "b", "second": "d", **figure(0.1)},
    ]
    told = differences(document(differences=found))
    assert [(who, sure) for who, _, sure in told] == [
        ("a − b", True),
        ("a − c", True),
        ("b − c", False),
        ("b − d", False),
    ]
    assert told[0][1].estimate == "+0.50"


def test_charts_name_what_has_no_level_and_leave_out_what_has_no_data() -> None:
    charts = evaluation_charts(document(graded("a", 3.0, ("", "seen")), graded("b", 4.0, ("", "seen"))))
    assert list(charts) == ["dimensions", "levels"]
    assert charts["levels"]["layout"]["yaxis"]["ticktext"] == ["none", "seen"]
    assert evaluation_charts(document(candidate("a"))) == {}


def test_win_rates_make_a_matrix_with_both_sides() -> None:
    one = candidate("a", pairwise={"win_rate": figure(0.75)})
    charts = evaluation_charts(document(one, candidate("b"), baseline="b"))
    assert charts["wins"]["data"][0]["z"] == [[None, 0.75], [0.25, None]]


def test_what_two_evaluations_did_differently_is_named() -> None:
    one = document(judge={"model": "x"}, items=3)
    assert unlike(one, one) == []
    assert unlike(one, document(judge=None, items=3)) == ["the judge"]
    assert unlike(one, {**one, "items": 4, "configuration": {"questions": 1}}) == [
        "what was asked",
        "the number of items",
    ]


def test_headlines_are_few_words_and_none_before_there_are_figures() -> None:
    summary = {"candidates": [{"name": "a", "score": 3.456, "checks": 0.5, "words": 10.0}, {"name": "b"}]}
    assert list(headlines(summary)) == [("a", "score 3.46, checks 50%"), ("b", "")]
    assert list(headlines(None)) == []
