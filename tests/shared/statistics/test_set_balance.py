"""Spread over the taxonomy and differences of sets, counted over what training holds."""

from typing import Any

import pytest

from shared.statistics.set_balance import SetBalance
from tests.shared.statistics.records import Wish, facet_record
from tests.support.taxonomies import small_taxonomy

TAXONOMY = small_taxonomy()
CELLS = [
    (dimension.name, subdimension.name, pole.name)
    for dimension in TAXONOMY.dimensions
    for subdimension in dimension.subdimensions
    for pole in subdimension.poles
]


def balance_of(*instructions: list[list[Wish]], **changes: Any) -> dict[str, Any]:
    counted = SetBalance(TAXONOMY, frozenset(changes.pop("held_out", ())))
    for number, sets in enumerate(instructions):
        counted.add([facet_record(str(number), index, wishes, **changes) for index, wishes in enumerate(sets)])
    return counted.finish()


def test_equal_use_of_all_poles_is_even() -> None:
    found = balance_of(*([[cell]] for cell in CELLS for _ in range(20)))
    assert found["entropy"] == pytest.approx(1.0)
    assert found["largest_share"]["estimate"] == 0.5
    assert (found["unbalanced"], found["preferences_per_pole"]) == ([], 20)


def test_a_pole_that_crowds_out_the_other_is_named() -> None:
    one, other = CELLS[0], CELLS[1]
    assert one[1] == other[1]
    found = balance_of(*([[one]] for _ in range(80)), *([[other]] for _ in range(20)))
    assert {share["pole"] for share in found["unbalanced"]} == {one[2], other[2]}
    assert found["largest_share"]["estimate"] == 0.8
    # Few preferences say nothing of balance.
    assert balance_of([[one]], [[one]])["unbalanced"] == []


def test_subdimensions_that_are_held_out_are_not_expected() -> None:
    held_out = CELLS[0][1]
    rest = [cell for cell in CELLS if cell[1] != held_out]
    assert balance_of(*([[cell]] for cell in rest))["entropy"] < 1
    assert balance_of(*([[cell]] for cell in rest), held_out=[held_out])["entropy"] == pytest.approx(1.0)


def test_sets_that_differ_too_little_and_rows_without_opposite_poles_are_counted() -> None:
    one, other, third = CELLS[0], CELLS[1], next(cell for cell in CELLS if cell[0] != CELLS[0][0])
    found = balance_of([[one], [other]], [[one], [one]], [[one], [third]], [[one]])
    assert (found["instructions"], found["several"], found["pairs"]) == (4, 3, 3)
    assert (found["alike"], found["without_opposite_poles"]) == (1, 2)


def test_instructions_of_harmful_intent_have_their_poles_on_purpose() -> None:
    found = balance_of(*([[CELLS[0]]] for _ in range(50)), tags=["harmful-intent"])
    assert found["unbalanced"] == []
    assert found["largest_share"] is None
