"""The step `evaluate` as a whole: its files, what they say of hand-made verdicts, and that they are always the same."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from services.evaluation.reporting.report import run
from shared.domain.errors import StepFailed
from shared.domain.rows import Answer, Check, InstructionRow, Judgment
from tests.services.evaluation.evaluated import compared, context_of, judged, row_of, spec_of
from tests.support.browser import browser_page

WHOLE = {"absolute": {}, "pairwise": {"baseline": "base"}}


def answer(number: int, person: int) -> str:
    return f"answer {number} for {person}" + " with words" * (number % 3)


def rows(count: int = 12) -> list[InstructionRow]:
    return [row_of(number, answer) for number in range(count)]


def stages(count: int = 12) -> dict[str, list[InstructionRow]]:
    """`tuned` serves its own person with 4 and others with 2, `base` everybody with 3; `tuned` wins but for every third."""
    return {
        "base": rows(count),
        "tuned": rows(count),
        "judge-base": judged(rows(count), lambda *_: 3.0),
        "judge-tuned": judged(rows(count), lambda _, person, owner: 4.0 if person == owner else 2.0),
        "compare-tuned": compared(rows(count), lambda number, _: "win" if number % 3 else "both_good"),
    }


def evaluated(folder: Path, spec: Any = None, given: Any = None, **facts: Any) -> dict[str, Any]:
    context = context_of(folder, spec or spec_of(WHOLE), given or stages(), **facts)
    run(context)
    document: dict[str, Any] = orjson.loads((context.output_folder / "evaluation.json").read_bytes())
    return document


def of(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in document["candidates"] if one["name"] == name]
    return dict(found)


def test_hand_made_verdicts_give_the_figures_that_follow_from_them(tmp_path: Path) -> None:
    document = evaluated(tmp_path)
    base, tuned = of(document, "base"), of(document, "tuned")
    assert base["absolute"]["overall"]["estimate"] == 3.0
    assert tuned["absolute"]["overall"]["estimate"] == 4.0
    assert base["absolute"]["specificity"]["specificity"]["estimate"] == 0.0
    assert tuned["absolute"]["specificity"]["specificity"]["estimate"] == pytest.approx(0.5)
    assert tuned["absolute"]["specificity"]["exact_match"]["estimate"] == 1.0
    assert [one["name"] for one in tuned["absolute"]["dimensions"]] == [
        "background_knowledge",
        "informativeness",
        "style",
    ]
    assert tuned["absolute"]["asked"] == 12 * 3 * 3 * 3 * 2
    assert tuned["pairwise"]["win_rate"]["estimate"] == pytest.approx((8 + 4 * 0.5) / 12)
    assert (tuned["pairwise"]["wins"], tuned["pairwise"]["ties"], tuned["pairwise"]["both_good"]) == (24, 12, 12)
    assert tuned["pairwise"]["flip_rate"]["estimate"] == 0.0
    assert document["differences"][0]["estimate"] == -1.0
    assert not document["completeness"]["incomplete"]
    # Answers of 4 words pass the check of at most 4, those with more words do not.
    assert tuned["checks"]["passed"]["estimate"] == pytest.approx(4 / 12)
    assert document["ratings"]["models"][0]["name"] == "tuned"


def test_the_same_inputs_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        context = context_of(folder, spec_of(WHOLE), stages())
        result = run(context)
        made.append({output.name: output.path.read_bytes() for output in result.outputs})
    assert made[0] == made[1]
    assert set(made[0]) == {"evaluation.json", "items.csv", "report.html", "scores.csv", "comparisons.csv"}


def test_the_tables_hold_every_verdict_and_every_item(tmp_path: Path) -> None:
    evaluated(tmp_path)
    tables = {
        name: list(csv.DictReader(io.StringIO((tmp_path / "out" / f"{name}.csv").read_text())))
        for name in ("scores", "comparisons", "items")
    }
    assert len(tables["scores"]) == 2 * 12 * 3 * 9 * 2
    own = [line for line in tables["scores"] if line["candidate"] == "tuned" and line["facet"] == line["rubric_of"]]
    assert {line["score"] for line in own} == {"4"}
    assert len(tables["comparisons"]) == 12 * 3 * 2
    assert len(tables["items"]) == 36
    assert {(line["score:base"], line["score:tuned"]) for line in tables["items"]} == {("3.0", "4.0")}


def test_lost_verdicts_and_missing_answers_are_counted_and_mark_the_evaluation_incomplete(tmp_path: Path) -> None:
    def partly(number: int, person: int) -> str | None:
        return None if number == 0 else answer(number, person)

    missing = [row_of(number, partly) for number in range(12)]
    given = stages() | {
        "tuned": missing,
        "judge-tuned": judged(
            [row_of(number, partly) for number in range(12)],
            lambda number, person, owner: None if number == 1 and person == owner else 4.0,
        ),
    }
    document = evaluated(tmp_path, given=given)
    found = of(document, "tuned")["absolute"]
    assert {one["name"]: one["count"] for one in found["lost"]} == {"no_answer": 18, "no_verdict": 18}
    assert found["overall"]["estimate"] == 4.0
    assert (found["items"], found["items_scored"]) == (36, 30)
    assert document["completeness"]["incomplete"]
    assert "tuned has no answer to 3 of 36 questions (empty: 3)" in document["completeness"]["reasons"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<strong>Incomplete</strong>" in page
    lenient = spec_of({**WHOLE, "maximum_missing": 0.5})
    (tmp_path / "lenient").mkdir()
    assert not evaluated(tmp_path / "lenient", lenient, given)["completeness"]["incomplete"]


def test_a_set_of_ties_alone_and_one_without_verdicts_are_told_as_they_are(tmp_path: Path) -> None:
    ties = stages() | {"compare-tuned": compared(rows(), lambda *_: "both_bad")}
    rate = of(evaluated(tmp_path, given=ties), "tuned")["pairwise"]
    assert (rate["win_rate"]["estimate"], rate["win_rate"]["method"]) == (0.5, "no_variation")
    assert rate["both_bad"] == 36
    (tmp_path / "none").mkdir()
    silent = stages() | {"compare-tuned": compared(rows(), lambda *_: "")}
    none = evaluated(tmp_path / "none", given=silent)
    assert of(none, "tuned")["pairwise"]["win_rate"] is None
    assert none["ratings"] is None
    assert "compare-tuned lost 72 of 72 verdicts (no_verdict: 72)" in none["completeness"]["reasons"]


def test_a_judge_that_is_teacher_or_candidate_is_flagged_and_an_outsider_is_not(tmp_path: Path) -> None:
    outsider = evaluated(tmp_path, asked_teachers=["openai/gpt-x"])
    assert outsider["flags"] == []
    (tmp_path / "teacher").mkdir()
    teacher = evaluated(tmp_path / "teacher", asked_teachers=["simulator/simulator-large"])
    assert "wrote the reference answers" in teacher["flags"][0]
    (tmp_path / "self").mkdir()
    answers = [{"name": "base", "candidate": MODEL_ALONE}, {"name": "tuned", "candidate": {"deployment": "tuned"}}]
    itself = evaluated(tmp_path / "self", spec_of(WHOLE, answer=answers))
    assert "is the candidate base itself" in itself["flags"][0]


MODEL_ALONE = {"provider": "simulator", "model": "simulator-large"}


def test_without_any_judge_programs_measure_and_the_page_still_reads(tmp_path: Path) -> None:
    spec = spec_of({}, judge=None)
    document = evaluated(tmp_path, spec, {"base": rows(), "tuned": rows()})
    assert "absolute" not in of(document, "base")
    assert of(document, "base")["checks"]["passed"]["n"] == 36
    assert not (tmp_path / "out" / "scores.csv").exists()
    assert "Machine checks" in (tmp_path / "out" / "report.html").read_text()


def test_conversations_are_told_by_turn_and_category(tmp_path: Path) -> None:
    talks = rows()
    for row in talks:
        row.category = "math" if row.source_row % 2 else "writing"
        for facet in row.facets:
            facet.judgments = [Judgment(0, facet.index, turn, 0, 8.0 - 2 * turn) for turn in (0, 1)]
    given = {"base": rows(), "tuned": rows(), "rate-base": talks, "rate-tuned": talks}
    found = of(evaluated(tmp_path, spec_of({"conversation": {}}), given), "base")["conversation"]
    assert found["overall"]["estimate"] == 7.0
    assert [(one["turn"], one["estimate"]) for one in found["turns"]] == [(0, 8.0), (1, 6.0)]
    assert [one["name"] for one in found["categories"]] == ["math", "writing"]


def test_an_evaluation_of_nothing_fails_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="no candidate was asked"):
        run(context_of(tmp_path, spec_of(WHOLE), {}))


def test_no_text_of_the_data_becomes_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    given = stages()
    for of_stage in given.values():
        for row in of_stage:
            row.instruction = evil
    evaluated(tmp_path, given=given)
    page = (tmp_path / "out" / "report.html").read_text()
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page


def everything() -> dict[str, Any]:
    """An evaluation with every section at once: its spec's parts and its stages."""
    measured, scored = rows(), rows()
    for row in scored:
        row.tags, row.category = ["suite:facts"], "sums"
        for facet in row.facets:
            facet.system_form = ("none", "relevant", "irrelevant")[facet.index]
            facet.checks = [Check("must_include", {"phrases": [str(row.source_row % 2)]})]
            facet.preferred = 0
            facet.answers = [Answer("yes", "stop", 1, 1, 2.0, best=True), Answer("no", "stop", 2, 1, 1.0)]
    for row in measured:
        for facet in row.facets:
            measures = {"toxicity": 0.1 * row.source_row, "perplexity": 20.0}
            facet.answers = [msgspec.structs.replace(one, measures=measures) for one in facet.answers]
    given = stages() | {"base": scored, "measure-base": measured, "measure-tuned": measured}
    local = {"toxicity": {"classifier": {"folder": "c"}}, "fluency": {"folder": "gpt2"}}
    return {"evaluate": {**WHOLE, "measure": local}, "given": given}


PROTOCOLS: dict[str, tuple[dict[str, Any], list[str], tuple[str, ...]]] = {
    "grades of one": ({"absolute": {}}, ["base"], ("scores", "specificity")),
    "pairs": ({"pairwise": {"baseline": "base", "protocol": "arena_hard"}}, ["base", "tuned"], ("pairs",)),
    "programs alone": ({}, ["base"], ("checks", "lengths")),
}


@pytest.mark.browser
@pytest.mark.parametrize("name", [*PROTOCOLS, "everything"])
def test_the_page_has_a_section_for_what_was_done_and_fits_a_phone(tmp_path: Path, name: str) -> None:
    if name == "everything":
        made = everything()
        names, sections = ["base", "tuned"], ("scores", "pairs", "measures", "rewards", "robustness", "checks")
        spec, given = spec_of(made["evaluate"]), made["given"]
    else:
        evaluate, names, sections = PROTOCOLS[name]
        answers = [{"name": one, "candidate": {"deployment": one}} for one in names]
        spec = spec_of(evaluate, answer=answers, **({} if evaluate else {"judge": None}))
        given = {stage: found for stage, found in stages().items() if stage.split("-")[-1] in names}
    evaluated(tmp_path, spec, given)
    path = tmp_path / "out" / "report.html"
    shown = set(re.findall(r'<section id="(\w+)"', path.read_text()))
    assert {*sections, "leaderboard", "completeness", "cost", "examples", "configuration"} <= shown
    assert ("scores" in shown) is ("absolute" in (spec.evaluate.model_dump(exclude_none=True) if spec.evaluate else {}))
    with browser_page(f"file://{path}") as page:
        page.set_viewport_size({"width": 390, "height": 800})
        page.goto(f"file://{path}")
        drawn = page.locator(".chart .main-svg").first
        drawn.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.locator("#leaderboard tbody tr").count() >= len(names)
