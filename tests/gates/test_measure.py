"""The measurement finds a gate that works, and one that does not."""

import re

import pytest

from gates.__main__ import LEAST_RECALL, MOST_FALSE_REJECTS
from gates.measure import COMMANDED, GATES, Gate, measure
from gates.pipeline import training_rows
from services.augmentation import validation
from services.augmentation.held_out_seeds import HeldOutSeeds
from services.simulator.faults import CLASS_OF_SLIP
from services.simulator.judge_profile import preset, preset_names

ROWS = 24


def _gate(slip: str) -> Gate:
    return next(gate for gate in GATES if gate.slip == slip)


def test_a_gate_is_measured_on_slips_and_on_sound_facets() -> None:
    result = measure(_gate("comma_split_keywords"), "faithful", ROWS)
    assert result.recall.estimate == 1.0
    assert result.recall.clusters >= 3
    assert result.false_rejects.clusters >= 2 * ROWS
    assert result.false_rejects.estimate is not None
    assert result.false_rejects.estimate <= 0.05


def test_a_gate_that_is_open_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_LIST_MARKS", re.compile(r"(?!)"))
    monkeypatch.setattr(validation, "_joins_qualities", lambda _: False)
    assert measure(_gate("comma_split_keywords"), "faithful", ROWS).recall.estimate == 0.0


def test_a_gate_that_turns_away_everything_shows_in_false_rejects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_LIST_MARKS", re.compile(r""))
    assert measure(_gate("comma_split_keywords"), "faithful", ROWS).false_rejects.estimate == 1.0


def test_a_judge_who_reports_too_few_contradictions_costs_recall() -> None:
    faithful = measure(_gate("broken_fact"), "faithful", ROWS).recall.estimate
    lenient = measure(_gate("broken_fact"), "lenient", ROWS).recall.estimate
    assert faithful is not None
    assert lenient is not None
    assert lenient < faithful


def test_a_judge_who_errs_on_answers_alone_reviews_like_one_who_never_errs() -> None:
    profiles = {name: preset(name).model_dump() for name in preset_names()}
    of_answers = ("confusion", "length_bias")
    reviews = {
        name: {key: one for key, one in profile.items() if key not in of_answers} for name, profile in profiles.items()
    }
    left_out = [name for name in preset_names() if name not in COMMANDED]
    assert [reviews[name] for name in left_out] == [reviews["faithful"]] * len(left_out)
    assert len({str(reviews[name]) for name in COMMANDED}) == len(COMMANDED)


def test_every_slip_of_the_simulator_has_a_gate() -> None:
    assert {gate.slip for gate in GATES} == {slip.value for slip in CLASS_OF_SLIP}
    assert {gate.stage.value for gate in GATES} == {kind.value for kind in CLASS_OF_SLIP.values()}


@pytest.mark.slow
@pytest.mark.parametrize(("slip", "rows"), [("held_out_reworded", 120), ("restated_task", 40), ("ignored_facet", 40)])
def test_a_gate_of_each_stage_holds_its_bounds_as_far_as_few_rows_can_tell(slip: str, rows: int) -> None:
    result = measure(_gate(slip), "noisy", rows)
    recall, false_rejects = result.recall, result.false_rejects
    assert recall.high is not None
    assert false_rejects.low is not None
    # Enough of both that a gate which does half of its work would fail.
    assert recall.clusters >= 20
    assert false_rejects.clusters >= 60
    assert recall.high >= LEAST_RECALL
    assert false_rejects.low <= MOST_FALSE_REJECTS


def test_without_its_answer_to_held_out_seeds_a_judge_finds_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeldOutSeeds, "beside", lambda *_: ())
    recall = measure(_gate("held_out_reworded"), "faithful", 3 * ROWS).recall
    assert recall.high is not None
    assert recall.high < LEAST_RECALL


def test_training_rows_differ_in_their_draw() -> None:
    rows = training_rows(150)
    assert len({row.row_id for row in rows}) == 150
    assert [row.draw for row in rows] == list(range(150))
