"""The judge's record in words: its figures, and a fault where it is not reliable."""

import msgspec
import pytest

from services.curation.reporting.judging import judge_notes
from shared.statistics.judge_record import ControlAnswer, judge_record


@pytest.mark.parametrize(("every", "fault"), [(0, False), (2, True)])
def test_a_judge_that_misses_controls_is_a_fault(every: int, fault: bool) -> None:
    answers = [ControlAnswer(80 + row % 3, bool(every) and row % every == 0, str(row)) for row in range(120)]
    notes = judge_notes(msgspec.to_builtins(judge_record(answers)))
    assert (notes["fault"] is not None) is fault
    assert "Of 120 controls" in (notes["told"] or "")
    assert ("50.0% (99% interval" in (notes["told"] or "")) is fault


def test_nothing_known_is_a_fault_too() -> None:
    notes = judge_notes(msgspec.to_builtins(judge_record([])))
    assert "No control" in (notes["told"] or "")
    assert "Too little" in (notes["fault"] or "")
