"""How long a slot stayed empty is counted per worker, in the order in which slots became free."""

import pytest

from benchmarks.control_plane import slot_gaps


def test_a_start_takes_the_slot_that_became_free_first() -> None:
    attempts = [
        ("a", 0.0, 10.0),
        ("a", 1.0, 9.0),
        ("a", 9.5, 30.0),  # the slot that was free since 9
        ("a", 12.0, None),  # the one that was free since 10
    ]
    assert sorted(slot_gaps(attempts)) == pytest.approx([0.5, 2.0])


def test_slots_of_other_workers_and_slots_never_used_before_count_nothing() -> None:
    assert slot_gaps([("a", 0.0, 5.0), ("b", 6.0, None), ("c", 7.0, 8.0)]) == []
