"""The measurement finds a gate that works, and one that does not."""

import re

import pytest

from gates.measure import GATES, Gate, measure
from gates.pipeline import training_rows
from services.augmentation import validation
from services.simulator.faults import CLASS_OF_SLIP

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


def test_every_slip_of_the_simulator_has_a_gate() -> None:
    assert {gate.slip for gate in GATES} == {slip.value for slip in CLASS_OF_SLIP}
    assert {gate.stage.value for gate in GATES} == {kind.value for kind in CLASS_OF_SLIP.values()}


def test_training_rows_differ_in_their_draw() -> None:
    rows = training_rows(150)
    assert len({row.row_id for row in rows}) == 150
    assert [row.draw for row in rows] == list(range(150))
