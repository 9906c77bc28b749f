"""Planted people: what they prefer is found and predicts; people who choose by chance, or by too little, get no proposal."""

from random import Random

import numpy as np
import pytest

from shared.domain.profiles import MAXIMUM_PREFERENCES, StatedPreference
from shared.personal.composer import compose
from shared.personal.inference.choices import Choice
from shared.personal.inference.columns import Column, program_columns
from shared.personal.inference.inferring import LEAST_PROMPTS, infer
from shared.personal.inference.report import InferenceReport
from tests.shared.personal.inference.planted import CHECKED, TAXONOMY, Chosen, choices_of

PROMPTS = 150
BRIEF, LISTS, EXAMPLES = "eighty words at most", "bullets to skim", "one illustration at least"


def person(*seeds: str, number: int = 0, prompts: int = PROMPTS, **more: float) -> Chosen:
    wishes = [wish for wish in CHECKED if wish.seed is not None and wish.seed.name in seeds]
    assert len(wishes) == len(seeds)
    return choices_of(wishes, prompts, Random(number), **more)


def inferred(chosen: Chosen, **more: float) -> InferenceReport:
    return infer(chosen.choices, chosen.columns, **more)  # type: ignore[arg-type]


def proposed(report: InferenceReport) -> list[str]:
    return [one.preference.seed or f"{one.subdimension}/{one.pole}" for one in report.proposed]


def test_what_a_person_prefers_is_found_and_predicts_held_out_choices() -> None:
    report = inferred(person(BRIEF, LISTS))
    assert report.verdict.outcome == "supported"
    assert set(proposed(report)) >= {BRIEF, LISTS}
    assert report.accuracy is not None
    assert report.accuracy.low is not None
    assert report.accuracy.low > 0.6
    assert compose([one.preference for one in report.proposed], TAXONOMY)
    for one in report.proposed:
        evidence = one.evidence
        assert evidence.chosen_follows + evidence.rejected_follows + evidence.silent == PROMPTS
        assert evidence.weight > 0
        assert evidence.chance <= 0.01


def test_examples_are_choices_that_speak_for_the_preference() -> None:
    chosen = person(BRIEF, LISTS, flipped=0.1)
    for one in inferred(chosen).proposed:
        column = next(column for column in chosen.columns if column.stated == one.preference)
        assert one.evidence.examples_for
        assert all(column.values[position] > 0 for position in one.evidence.examples_for)
        assert all(column.values[position] < 0 for position in one.evidence.examples_against)


def test_label_noise_weakens_what_is_found_and_does_not_invent() -> None:
    clean, noisy = (inferred(person(BRIEF, flipped=share)) for share in (0.0, 0.2))
    assert clean.accuracy is not None
    assert noisy.accuracy is not None
    assert clean.accuracy.estimate is not None
    assert noisy.accuracy.estimate is not None
    assert noisy.accuracy.estimate < clean.accuracy.estimate
    assert {one.pole for one in noisy.proposed} <= {"brief"}


def test_turning_every_choice_round_turns_what_is_found() -> None:
    found, turned = (inferred(person("compact but complete", flipped=share)) for share in (0.0, 1.0))
    assert {one.pole for one in found.proposed} == {"brief"}
    assert turned.proposed
    assert not {"brief", "overview"} & {one.pole for one in turned.proposed}


def test_people_who_choose_by_chance_get_no_proposal() -> None:
    reports = [inferred(person(number=number, prompts=40), seed=number) for number in range(60)]
    # One in a hundred is allowed by the level; more than 3 of 60 come with a probability of 0.3%.
    assert sum(bool(report.proposed) for report in reports) <= 3
    accuracies = [report.accuracy.estimate for report in reports if report.accuracy and report.accuracy.estimate]
    assert abs(np.mean(accuracies) - 0.5) < 0.02
    silent = next(report for report in reports if not report.proposed)
    assert silent.verdict.outcome == "no_better_than_chance"
    assert "Nothing is proposed" in silent.verdict.words


def test_selection_from_noise_alone_does_not_raise_the_reported_accuracy() -> None:
    """Chosen outside the folds, the best of many columns would predict its own choices well."""
    generator = np.random.default_rng(5)
    template = person(prompts=40)
    estimates = []
    for number in range(15):
        columns = [
            Column(column.stated, column.wish, "program", generator.choice([-1.0, 1.0], size=40))
            for column in template.columns
        ]
        report = infer(template.choices, columns, seed=number)
        assert report.accuracy is not None
        assert report.accuracy.estimate is not None
        estimates.append(report.accuracy.estimate)
    assert np.mean(estimates) < 0.53


def test_too_few_prompts_are_told_and_nothing_is_proposed() -> None:
    chosen = person(BRIEF)
    few = infer(
        chosen.choices[: LEAST_PROMPTS - 1],
        [Column(c.stated, c.wish, c.source, c.values[: LEAST_PROMPTS - 1]) for c in chosen.columns],
    )
    assert (few.verdict.outcome, few.proposed, few.accuracy) == ("too_few", [], None)
    assert "19 different prompts are too few" in few.verdict.words


def test_the_same_prompt_again_and_again_is_one_observation() -> None:
    chosen = person(BRIEF)
    again = [choice.model_copy(update={"prompt": "The  same"}) for choice in chosen.choices]
    report = infer(again, chosen.columns)
    assert (report.prompts, report.verdict.outcome) == (1, "too_few")


def test_never_more_is_proposed_than_a_tenth_of_the_prompts_or_than_a_person_can_state() -> None:
    template = person()
    # Every column alike but for noise: each would be taken if the evidence were not shared out.
    for prompts in (25, PROMPTS):
        generator = np.random.default_rng(1)
        columns = [
            Column(c.stated, c.wish, "program", np.where(generator.random(prompts) < 0.9, 1.0, -1.0))
            for c in template.columns
        ]
        report = infer(template.choices[:prompts], columns)
        assert len(report.proposed) <= min(prompts // 10, MAXIMUM_PREFERENCES)
        assert compose([one.preference for one in report.proposed], TAXONOMY) if report.proposed else True


def test_what_only_mirrors_length_is_not_proposed_beside_it() -> None:
    chosen = person("every point developed")
    lengths = next(c.values for c in chosen.columns if c.by_length and c.stated.pole == "expansive")
    generator = np.random.default_rng(2)
    mirrored = [
        Column(c.stated, c.wish, "program", np.where(generator.random(PROMPTS) < 0.95, np.sign(lengths), 0.0))
        for c in chosen.columns
        if c.stated.seed == EXAMPLES
    ]
    report = infer(chosen.choices, mirrored)
    assert (report.verdict.outcome, report.proposed) == ("no_better_than_length", [])
    with_length = infer(chosen.choices, [*mirrored, *(c for c in chosen.columns if c.by_length)])
    by_length = {c.stated for c in chosen.columns if c.by_length}
    assert with_length.proposed
    assert {one.preference for one in with_length.proposed} <= by_length


def test_equal_answers_are_left_out_and_counted() -> None:
    chosen = person(BRIEF)
    alike = [Choice(prompt=f"again {n}", chosen="The same.", rejected="The same.") for n in range(10)]
    columns = [
        Column(c.stated, c.wish, c.source, np.concatenate([np.zeros(10), c.values]), c.by_length)
        for c in chosen.columns
    ]
    report = infer([*alike, *chosen.choices], columns)
    assert (report.alike, report.choices, report.prompts) == (10, PROMPTS + 10, PROMPTS)
    assert min(position for one in report.proposed for position in one.evidence.examples_for) >= 10


def test_the_same_choices_give_the_same_report() -> None:
    chosen = person(BRIEF, LISTS, flipped=0.1)
    assert inferred(chosen, seed=3) == inferred(chosen, seed=3)


def test_without_any_evidence_nothing_is_claimed() -> None:
    report = infer(person(BRIEF).choices, [])
    assert (report.verdict.outcome, report.looked_at) == ("no_better_than_chance", 0)


@pytest.mark.parametrize(
    ("chosen", "rejected", "stated", "value"),
    [
        ("- one\n- two", "One and two.", StatedPreference(seed="bullets to skim"), 1.0),
        ("One and two.", "- one\n- two", StatedPreference(seed="bullets to skim"), -1.0),
        ("One.", "Two.", StatedPreference(seed="bullets to skim"), 0.0),
        ("word " * 10, "word " * 90, StatedPreference(seed=BRIEF), 1.0),
        ("word " * 10, "word " * 20, StatedPreference(seed=BRIEF), 0.0),
        ("word " * 10, "word " * 20, StatedPreference(subdimension="conciseness", pole="brief"), 1.0),
        ("word " * 10, "word " * 20, StatedPreference(subdimension="conciseness", pole="expansive"), -1.0),
        ("One.\n\n- a\n- b", "One.", StatedPreference(subdimension="layout", pole="structured"), 1.0),
        ("Short text.", "Short too.", StatedPreference(seed="words a child knows"), 0.0),
    ],
)
def test_columns_say_which_answer_follows_a_preference(
    chosen: str, rejected: str, stated: StatedPreference, value: float
) -> None:
    columns = program_columns([Choice(prompt="p", chosen=chosen, rejected=rejected)], TAXONOMY)
    (column,) = [one for one in columns if one.stated == stated]
    assert column.values.tolist() == [value]
