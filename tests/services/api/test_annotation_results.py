"""Figures of hand-made verdicts: majorities, ties, annotators, and a judge in two orders beside people."""

from collections.abc import Mapping

from services.api.annotation_results import AnnotationResults, results_of
from shared.domain.rows import Comparison
from shared.metadata.tables import Annotation, AnnotationItem, AnnotationTask

FIRST, GOOD, BAD, SECOND = "first", "both_good", "both_bad", "second"


def compared(*by_order: str | tuple[str, ...]) -> list[Comparison]:
    """Verdicts in order 0, then in order 1; a tuple holds those of several runs."""
    return [
        Comparison(run, order, verdict, fault="" if verdict else "no_verdict")
        for order, said in enumerate(by_order)
        for run, verdict in enumerate((said,) if isinstance(said, str) else said)
    ]


def results(
    said: Mapping[int, Mapping[str, str]], judge: Mapping[int, list[Comparison]] | None = None, **words: tuple[int, int]
) -> AnnotationResults:
    """`said`: number of the pair -> annotator -> outcome. Pairs with an odd number are swapped."""
    task = AnnotationTask(
        id="annotation_1", project_id="default", name="n", job_id="job_1", first="tuned", second="base", seed=0,
        shows_preferences=True, items=len(said),
    )  # fmt: skip
    items = [
        AnnotationItem(
            task_id=task.id, number=number, row_id=f"r{number}", facet_index=0, swapped=number % 2 == 1,
            body=dict(zip(("first_words", "second_words"), words.get(f"pair_{number}", (10, 10)), strict=True)),
        )
        for number in said
    ]  # fmt: skip
    annotations = [
        Annotation(task_id=task.id, number=number, annotator=name, outcome=outcome, seconds=float(number))
        for number, by_name in said.items()
        for name, outcome in by_name.items()
    ]
    verdicts = None if judge is None else {(f"r{number}", 0): found for number, found in judge.items()}
    return results_of(task, items, annotations, verdicts, "" if judge is not None else "why not")


def test_majorities_are_of_the_four_outcomes_and_pairs_without_one_are_undecided() -> None:
    found = results(
        {
            0: {"ada": FIRST, "bob": FIRST, "eve": SECOND},
            1: {"ada": GOOD, "bob": BAD},
            2: {"ada": BAD, "bob": BAD},
            3: {"eve": SECOND},
        }
    )
    assert found.majorities == {FIRST: 1, GOOD: 0, BAD: 1, SECOND: 1, "undecided": 1}
    assert found.outcomes == {FIRST: 2, GOOD: 1, BAD: 3, SECOND: 2}
    # 2/3, 1/2, 1/2 and 0 of the four pairs go to the first.
    assert found.win_rate is not None
    assert abs((found.win_rate.interval.estimate or 0) - (2 / 3 + 1 / 2 + 1 / 2) / 4) < 1e-12
    assert (found.win_rate.pairs, found.win_rate.wins, found.win_rate.losses, found.win_rate.ties) == (4, 1, 1, 2)


def test_kappas_are_over_the_pairs_that_two_annotators_share() -> None:
    found = results({0: {"ada": FIRST, "bob": FIRST}, 1: {"ada": SECOND, "bob": SECOND}, 2: {"ada": GOOD}})
    (kappa,) = found.kappas
    assert (kappa.annotators, kappa.pairs, kappa.kappa.estimate) == (("ada", "bob"), 2, 1.0)
    assert found.fleiss.clusters == 2


def test_the_side_that_an_annotator_takes_is_told_by_where_the_answer_was_shown() -> None:
    # The second answer stands on the left of pairs 1 and 3.
    (ada,) = results({0: {"ada": FIRST}, 1: {"ada": SECOND}, 2: {"ada": SECOND}, 3: {"ada": GOOD}}).annotators
    assert (ada.judged, ada.left.estimate, ada.median_seconds) == (4, 2 / 3, 1.5)


def test_a_judge_is_held_against_the_majority_of_people_with_both_ties_as_one() -> None:
    found = results(
        {
            0: {"ada": FIRST},
            1: {"ada": GOOD, "bob": BAD, "eve": FIRST},
            2: {"ada": SECOND},
            3: {"ada": FIRST, "bob": SECOND},
            4: {"ada": FIRST},
        },
        {
            0: compared("win", "win"),
            1: compared("both_bad", "both_good"),
            2: compared("win", "win"),
            3: compared("lose", "lose"),
            4: compared("", ""),
        },
    ).calibration
    assert found is not None
    assert (found.pairs, found.undecided, found.unjudged) == (5, 1, 1)
    assert found.accuracy.estimate == 2 / 3
    assert found.accuracy_decided.estimate == 1 / 2


def test_a_judge_whose_orders_differ_has_flipped_and_said_tie() -> None:
    found = results(
        {0: {"ada": FIRST}, 1: {"ada": FIRST}, 2: {"ada": GOOD}},
        {0: compared("win", "lose"), 1: compared("win", "win"), 2: compared("much_better", "same")},
    ).calibration
    assert found is not None
    assert found.flip_rate.estimate == 1 / 3
    assert found.accuracy.estimate == 2 / 3


def test_of_several_runs_in_one_order_most_count_and_an_even_split_is_a_tie() -> None:
    found = results(
        {0: {"ada": FIRST}, 1: {"ada": BAD}},
        {0: compared(("win", "lose", "win"), ("win", "win", "")), 1: compared(("win", "lose"), ("win", "lose"))},
    ).calibration
    assert found is not None
    assert (found.accuracy.estimate, found.flip_rate.estimate) == (1.0, 0.0)


def test_a_judge_that_takes_the_longer_answer_where_people_do_not_has_a_length_bias() -> None:
    found = results(
        {0: {"ada": SECOND}, 1: {"ada": SECOND}, 2: {"ada": FIRST}},
        {number: compared("win", "win") for number in range(3)},
        pair_0=(90, 10),
        pair_1=(90, 10),
        pair_2=(90, 10),
    ).calibration
    assert found is not None
    assert abs((found.length_bias.estimate or 0) - 2 / 3) < 1e-12


def test_without_comparisons_there_is_no_calibration_and_the_reason_is_told() -> None:
    found = results({0: {"ada": FIRST}})
    assert (found.calibration, found.calibration_note) == (None, "why not")
