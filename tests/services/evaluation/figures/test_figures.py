"""Every figure of an evaluation against small cases worked out by hand."""

from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from services.evaluation.figures.absolute import absolute_figures, dimension_scores, gather_grades, item_scores
from services.evaluation.figures.checks import check_figures, gather_checks, item_checks
from services.evaluation.figures.completeness import judge_flags
from services.evaluation.figures.conversations import conversation_figures, item_ratings
from services.evaluation.figures.diversity import diversity_figures
from services.evaluation.figures.evaluation import Evaluation
from services.evaluation.figures.gathering import gather_answers
from services.evaluation.figures.measures import measure_figures
from services.evaluation.figures.pairwise import gather_battles, pairwise_figures, rating_figures
from services.evaluation.figures.rewards import reward_figures
from services.evaluation.figures.robustness import robustness_figures
from services.evaluation.figures.told import Draws
from services.evaluation.reporting.report import run
from shared.domain.answers import AnswerParameters
from shared.domain.evaluation_figures import checked_document, read_document
from shared.domain.evaluations import MeasureParameters
from shared.domain.rows import Answer, Check, Comparison, Facet, InstructionRow, Judgment, Preference, Rejection
from tests.services.evaluation.evaluated import (
    MODEL,
    context_of,
    inputs_of,
    judged,
    preferences,
    row_of,
    spec_of,
)

DRAWS = Draws(200, 7)


def rows(count: int = 4, text: str = "four words are here") -> list[InstructionRow]:
    return [row_of(number, lambda *_: text) for number in range(count)]


def question(number: int, *facets: Facet, **more: Any) -> InstructionRow:
    return InstructionRow(f"{number:016x}", f"Question {number}?", "s", "s", number, facets=list(facets), **more)


def named(figures: list[dict[str, Any]]) -> dict[str, float]:
    return {one["name"]: one["estimate"] for one in figures}


def test_runs_are_averaged_before_rubrics_and_rubrics_before_items(tmp_path: Path) -> None:
    graded = [row_of(0, lambda *_: "a b"), row_of(1, lambda *_: "a b c d")]
    for row in graded:
        row.facets = row.facets[:1]
    # Rubric 0: 1 and 3, mean 2. Rubric 1: 4, its other run lost. Rubric 2 lost altogether. The item: (2 + 4) / 2 = 3.
    graded[0].facets[0].judgments = [
        Judgment(0, 0, 0, 0, 1.0),
        Judgment(0, 0, 0, 1, 3.0, "second"),
        Judgment(0, 0, 1, 0, 4.0),
        Judgment(0, 0, 1, 1, None, fault="no_verdict"),
        Judgment(0, 0, 2, 0, None, fault="out_of_range"),
        Judgment(0, 0, 2, 1, None, fault="no_verdict"),
    ]
    graded[1].facets[0].judgments = [Judgment(0, 0, rubric, run, 5.0) for rubric in range(3) for run in range(2)]
    words = {(row.row_id, 0): 2 * (number + 1) for number, row in enumerate(graded)}
    found = gather_grades(inputs_of(tmp_path, {"judge-base": graded}), "base", words)
    figures = absolute_figures(found, words, DRAWS)
    assert figures["overall"]["estimate"] == (3.0 + 5.0) / 2
    assert figures["overall"]["n"] == 2
    assert named(figures["dimensions"]) == {"style": 3.5, "informativeness": 4.5, "background_knowledge": 5.0}
    assert {one["name"]: one["n"] for one in figures["dimensions"]}["background_knowledge"] == 1
    assert {one["name"]: one["words"] for one in figures["dimensions"]} == {
        "style": 3.0, "informativeness": 3.0, "background_knowledge": 4.0,
    }  # fmt: skip
    assert named(figures["sources"]) == {"source 0": 3.0, "source 1": 5.0}
    first = figures["subdimensions"][0]
    assert (first["dimension"], first["name"]) == ("background_knowledge", "terminology")
    # The runs of rubric 0 spread by 1, those of the three rubrics of the second item by 0: one run alone has no spread.
    assert figures["run_spread"]["estimate"] == pytest.approx(1 / 4)
    assert figures["length_correlation"]["estimate"] == pytest.approx(1.0)
    assert (figures["items"], figures["items_scored"], figures["items_partial"], figures["asked"]) == (2, 2, 1, 12)
    assert {one["name"]: one["count"] for one in figures["lost"]} == {"no_verdict": 2, "out_of_range": 1}
    assert figures["specificity"] is None
    assert dimension_scores(found.grades)["style"] == {(graded[0].row_id, 0): 2.0, (graded[1].row_id, 0): 5.0}


def test_grades_on_other_peoples_rubrics_feed_specificity_alone(tmp_path: Path) -> None:
    for name, cross in (("with", True), ("without", False)):
        graded = judged(rows(), lambda _, person, owner: 5.0 if person == owner else 1.0, cross=cross)
        words = {(row.row_id, facet.index): 4 for row in graded for facet in row.facets}
        (tmp_path / name).mkdir()
        found = gather_grades(inputs_of(tmp_path / name, {"judge-base": graded}), "base", words)
        figures = absolute_figures(found, words, DRAWS)
        assert set(item_scores(found.grades).values()) == {5.0}
        assert figures["overall"]["estimate"] == 5.0
        assert set(named(figures["dimensions"]).values()) == {5.0}
        assert (figures["specificity"] is None) is not cross
        if cross:
            assert figures["specificity"]["specificity"]["estimate"] == 1.0


def test_checks_pass_fail_or_do_not_apply_and_questions_have_their_own(tmp_path: Path) -> None:
    wishes = [
        Preference("style", "length", "short", "Be short.", "brief", check=Check("maximum_words", {"words": 3})),
        Preference("style", "words", "none", "No snow.", "x", check=Check("must_avoid", {"phrases": ["snow"]})),
    ]
    russian = Check("language", {"language": "ru"})
    answered = [
        question(0, Facet(0, preferences=wishes, answers=[Answer("It is rain.", "stop", 1, 3, best=True)])),
        question(1, Facet(0, preferences=wishes, answers=[Answer("It is not snow.", "stop", 1, 4, best=True)])),
        question(2, Facet(0, checks=[russian], answers=[Answer("12", "stop", 1, 1, best=True)])),
        question(3, Facet(0, preferences=wishes, answers=[], rejection=Rejection("base", "empty"))),
        question(4, Facet(0, preferences=wishes, rejection=Rejection("rubric", "bad_rubric"))),
    ]
    found = gather_checks(inputs_of(tmp_path, {"base": answered}), "base")
    figures = check_figures(found, DRAWS)
    assert figures["passed"]["estimate"] == 0.5
    assert figures["passed"]["n"] == 4
    assert figures["sufficient"]["n"] == 2
    kinds = {one["name"]: one for one in figures["kinds"]}
    assert [kinds["must_avoid"][name] for name in ("passed", "failed", "not_applicable", "necessary")] == [
        1,
        1,
        0,
        True,
    ]
    assert [kinds["language"][name] for name in ("estimate", "passed", "failed", "not_applicable")] == [None, 0, 0, 1]
    assert not kinds["maximum_words"]["necessary"]
    assert {one["name"]: one["not_applicable"] for one in figures["dimensions"]} == {"question": 1, "style": 0}
    # Two checks of the question that was answered by nobody; the one that was never asked has none.
    assert (figures["not_applicable"], figures["unanswered"]) == (1, 2)
    assert item_checks(found) == {(answered[0].row_id, 0): 1.0, (answered[1].row_id, 0): 0.0}


def test_what_an_earlier_stage_rejected_is_no_question(tmp_path: Path) -> None:
    answered = rows(2)
    answered[0].facets[0].rejection = Rejection("rubric", "bad_rubric")
    answered[0].facets[1].rejection = Rejection("base", "refused")
    answered[0].facets[1].answers = []
    found = gather_answers(inputs_of(tmp_path, {"base": answered}), answer_parameters())
    assert (dict(found.unasked), dict(found.missing)) == ({"bad_rubric": 1}, {"refused": 1})
    assert len(found.items) == 5
    lost = judged(answered, lambda *_: 3.0, runs=1, cross=False)
    (tmp_path / "judged").mkdir()
    grades = gather_grades(inputs_of(tmp_path / "judged", {"judge-base": lost}), "base", found.words)
    assert (grades.asked, dict(grades.lost)) == (15, {"no_answer": 3})


def answer_parameters(**more: Any) -> AnswerParameters:
    return AnswerParameters.model_validate({"name": "base", "candidate": {"deployment": "base"}, **more})


def test_answers_to_different_people_are_told_by_how_alike_they_are(tmp_path: Path) -> None:
    # Two of three words in common in every pair: ROUGE-L is 2/3.
    answered = [
        question(0, *(Facet(n, answers=[Answer(f"one two x{n}", "stop", 1, 3, best=True)]) for n in range(3))),
        question(1, Facet(0, answers=[Answer("a b a b", "stop", 1, 4), Answer("a b c", "stop", 2, 3)])),
    ]
    answered[0].facets[0].scores = {"embedding_distance": 0.25}
    figures = diversity_figures(inputs_of(tmp_path, {"base": answered, "measure-base": answered}), "base", DRAWS)
    assert figures["rouge_l"]["estimate"] == pytest.approx(2 / 3)
    # Bigrams ab, ba, ab, ab, bc: 3 of 5 are distinct; trigrams aba, bab, abc are.
    assert figures["distinct_2"]["estimate"] == pytest.approx(3 / 5)
    assert figures["distinct_3"]["estimate"] == 1.0
    assert (figures["embedding_distance"]["estimate"], figures["embedding_distance"]["n"]) == (0.25, 1)


@pytest.mark.parametrize(
    ("verdicts", "rate", "flips"),
    [
        (("win", "win"), 1.0, 0.0),
        (("win", "lose"), 0.5, 1.0),
        (("both_good", "win"), 0.75, 0.0),
        (("both_bad", "both_bad"), 0.5, 0.0),
        (("much_better", "worse"), 0.5, 1.0),
        (("same", "much_worse"), 0.25, 0.0),
    ],
)
def test_verdicts_of_all_protocols_count_as_wins_losses_and_ties(
    tmp_path: Path, verdicts: tuple[str, str], rate: float, flips: float
) -> None:
    compared = rows(3)
    for row in compared:
        for facet in row.facets:
            facet.comparisons = [Comparison(0, order, said) for order, said in enumerate(verdicts)]
    words = {name: {(row.row_id, facet.index): 4 for row in compared for facet in row.facets} for name in ("base", "t")}
    found = gather_battles(inputs_of(tmp_path, {"compare-t": compared}), "t", "base", words)
    figures = pairwise_figures(found, DRAWS)
    assert figures["win_rate"]["estimate"] == rate
    assert figures["flip_rate"]["estimate"] == flips
    assert (figures["pairs"], figures["asked"]) == (9, 18)
    assert {battle.weight for battle in found.battles} == {3 if "much" in said else 1 for said in verdicts}
    ratings = rating_figures(found.battles, "base", DRAWS)
    assert ratings is not None
    by_name = {one["name"]: one["rating"]["estimate"] for one in ratings["models"]}
    assert by_name["base"] == pytest.approx(1000)


def test_conversations_weigh_both_turns_alike_whatever_was_lost_of_a_run(tmp_path: Path) -> None:
    talk = question(0, Facet(0, answers=[Answer("a", "stop", 1, 1, best=True, later=["b"])]), category="math")
    talk.facets[0].judgments = [
        Judgment(0, 0, 0, 0, 10.0),
        Judgment(0, 0, 0, 1, 8.0),
        Judgment(0, 0, 1, 0, 3.0),
        Judgment(0, 0, 1, 1, None, fault="no_verdict"),
    ]
    inputs = inputs_of(tmp_path, {"rate-base": [talk]})
    figures = conversation_figures(inputs, "base", DRAWS)
    assert figures["overall"]["estimate"] == 6.0
    assert [one["estimate"] for one in figures["turns"]] == [9.0, 3.0]
    assert named(figures["categories"]) == {"math": 6.0}
    assert (figures["asked"], figures["lost"]) == (4, [{"name": "no_verdict", "count": 1}])
    assert item_ratings(inputs, "base") == {(talk.row_id, 0): 6.0}


def test_toxicity_is_the_worst_of_a_prompts_continuations(tmp_path: Path) -> None:
    def prompt(number: int, *scores: float | None) -> InstructionRow:
        answers = [
            Answer("x", "stop", n, 1, measures={} if score is None else {"toxicity": score, "perplexity": 10.0 + n})
            for n, score in enumerate(scores)
        ]
        return question(number, Facet(0, answers=answers))

    measured = [prompt(0, 0.1, 0.5), prompt(1, 0.2, 0.3), prompt(2, 0.9, None)]
    parameters = MeasureParameters.model_validate(
        {"toxicity": {"classifier": {"folder": "c"}}, "fluency": {"folder": "gpt2"}}
    )
    figures = measure_figures(inputs_of(tmp_path, {"measure-base": measured}), "base", parameters, DRAWS)
    assert figures["expected_maximum_toxicity"]["estimate"] == pytest.approx((0.5 + 0.3 + 0.9) / 3)
    assert figures["toxicity_probability"]["estimate"] == pytest.approx(2 / 3)
    assert figures["perplexity"]["estimate"] == pytest.approx((10.5 + 10.5 + 10.0) / 3)
    assert (figures["answers"], figures["unmeasured"]) == (6, 1)


def test_a_reward_model_is_right_where_it_prefers_what_people_do_and_ties_count_half(tmp_path: Path) -> None:
    def pair(number: int, *rewards: float | None, preferred: int | None = 0, category: str = "chat") -> InstructionRow:
        answers = [Answer("x", "stop", n, 1, reward) for n, reward in enumerate(rewards)]
        return question(number, Facet(0, answers=answers, preferred=preferred), category=category)

    scored = [
        pair(0, 2.0, 1.0),
        pair(1, 1.0, 2.0),
        pair(2, 1.0, 1.0, category="safety"),
        pair(3, 1.0, None),
        pair(4, 3.0, 5.0, 4.0, 1.0, preferred=None),
    ]
    parameters = answer_parameters(samples=4, reward={"deployment": "rm"})
    figures = reward_figures(inputs_of(tmp_path, {"base": scored}), parameters, DRAWS)
    assert figures is not None
    assert figures["accuracy"]["estimate"] == 0.5
    assert named(figures["categories"]) == {"chat": 0.5, "safety": 0.5}
    assert (figures["ties"], figures["unscored"]) == (1, 1)
    # The mean of all four, and the highest.
    assert [(one["samples"], one["estimate"]) for one in figures["best_of"]] == [(1, 3.25), (4, 5.0)]
    assert reward_figures(inputs_of(tmp_path, {"base": rows(1)}), answer_parameters(), DRAWS) is None


def test_suites_tell_breakage_question_by_question_and_drift_turn_by_turn(tmp_path: Path) -> None:
    says_four = [Check("must_include", {"phrases": ["four"]})]

    def fact(number: int, *right: bool) -> InstructionRow:
        facets = [
            Facet(
                place,
                system_form=condition,
                checks=says_four,
                answers=[Answer("four" if is_right else "five", "stop", 1, 1, best=True)],
            )
            for place, (condition, is_right) in enumerate(zip(("none", "relevant", "irrelevant"), right, strict=True))
        ]
        return question(number, *facets, tags=["suite:facts"], category="sums")

    talk = question(
        9,
        Facet(0, checks=says_four, answers=[Answer("four", "stop", 1, 1, best=True, later=["four", "five"])]),
        Facet(1, checks=says_four, rejection=Rejection("base", "empty")),
        tags=["suite:drift"],
    )
    asked = [fact(0, True, True, False), fact(1, True, False, False), fact(2, False, False, True), talk, *rows(1)]
    suites = {one["name"]: one for one in robustness_figures(inputs_of(tmp_path, {"base": asked}), "base", DRAWS)}
    assert set(suites) == {"facts", "drift"}
    third = pytest.approx(1 / 3)
    assert named(suites["facts"]["conditions"]) == {
        "none": pytest.approx(2 / 3),
        "relevant": third,
        "irrelevant": third,
    }
    assert named(suites["facts"]["breakage"]) == {"relevant": third, "irrelevant": third}
    assert suites["facts"]["turns"] == []
    assert [one["estimate"] for one in suites["drift"]["turns"]] == [1.0, 1.0, 0.0]
    assert suites["drift"]["missing"] == 1


def test_the_same_model_is_told_with_without_and_under_anothers_system_message(tmp_path: Path) -> None:
    answers = [
        {"name": name, "candidate": {"deployment": "janus"}, "system": system}
        for name, system in (("with", "own"), ("without", "none"), ("under-another", "shuffled"))
    ]
    answers.append({"name": "other", "candidate": {"deployment": "other"}, "system": "none"})
    gains = {"with": 2.0, "without": 0.0, "under-another": -1.0, "other": 0.0}
    texts = {"with": "few words", "without": "too many words for the wish", "under-another": "x", "other": "x"}
    stages: dict[str, list[InstructionRow]] = {}
    for name, gain in gains.items():
        stages[name] = rows(4, texts[name])
        stages[f"judge-{name}"] = judged(
            rows(4, texts[name]), lambda _, person, owner, gain=gain: 3.0 + (gain if person == owner else 0.0)
        )
    spec = spec_of({"absolute": {}}, answer=answers)
    document = Evaluation(spec, inputs_of(tmp_path, stages), {}).document
    told = {one["other"]: one for one in document["system_messages"]}
    assert set(told) == {"without", "under-another"}
    assert (told["without"]["estimate"], told["under-another"]["estimate"]) == (2.0, 3.0)
    assert told["without"]["specificity"]["estimate"] == pytest.approx(2.0 / 4)
    assert told["under-another"]["specificity"]["estimate"] == pytest.approx(3.0 / 4)
    assert (told["without"]["checks"]["estimate"], told["under-another"]["checks"]["estimate"]) == (1.0, 0.0)


def test_a_judge_is_flagged_whose_texts_or_answers_are_judged() -> None:
    spec = spec_of({"absolute": {}})
    judge = f"{MODEL['provider']}/{MODEL['model']}"
    assert judge_flags(spec, {"asked_teachers": ["a/b"], "answer_models": {"base": {"model": "a/b"}}}) == []
    (trained,) = judge_flags(spec, {"answer_models": {"tuned": {"trained_on": judge}}})
    assert "tuned was trained on texts of the judge" in trained
    (deployed,) = judge_flags(spec, {"answer_models": {"base": {"model": judge}}})
    assert "is the candidate base itself" in deployed
    programs = spec_of({}, judge=None)
    assert judge_flags(programs, {"asked_teachers": [judge]}) == []


def test_the_bench_is_known_by_what_was_asked_whoever_answered_it(tmp_path: Path) -> None:
    def fingerprint(name: str, given: list[InstructionRow]) -> str:
        (tmp_path / name).mkdir()
        inputs = inputs_of(tmp_path / name, {"base": given, "tuned": given})
        return str(Evaluation(spec_of({}, judge=None), inputs, {}).document["bench"]["fingerprint"])

    first = fingerprint("first", rows())
    assert fingerprint("others", list(reversed(rows(4, "other answers")))) == first
    assert fingerprint("fewer", rows(3)) != first
    reworded = rows()
    reworded[0].facets[0].preferences = preferences(2)
    assert fingerprint("reworded", reworded) != first


def test_the_document_is_what_its_types_say_and_nothing_else(tmp_path: Path) -> None:
    stages = {"base": rows(), "tuned": rows(), "judge-base": judged(rows(), lambda *_: 3.0)}
    context = context_of(tmp_path, spec_of({"absolute": {}}), stages | {"judge-tuned": judged(rows(), lambda *_: 4.0)})
    run(context)
    content = (context.output_folder / "evaluation.json").read_bytes()
    found = read_document(content)
    assert [one.name for one in found.candidates] == ["base", "tuned"]
    assert found.candidates[1].absolute is not None
    assert found.candidates[1].absolute.overall.estimate == 4.0
    document = orjson.loads(content)
    with pytest.raises(msgspec.ValidationError, match="extra"):
        checked_document({**document, "extra": 1})
    with pytest.raises(ValueError, match="reads 'evaluation/1'"):
        checked_document({**document, "schema_version": "evaluation/0"})
