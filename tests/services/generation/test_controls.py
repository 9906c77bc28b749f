"""Controls are violated by construction, vary, and leave nothing to argue about."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.controls import Control, _stock, plant_control
from shared.domain.checks import canonical_sentence, evaluate

ANSWER = "Prune the old tree in late winter, when the branches are bare and easy to see from below."


@given(st.text(max_size=400), st.integers(0, 2**62))
def test_no_answer_follows_its_control(answer: str, seed: int) -> None:
    control = plant_control(answer, seed)
    assert evaluate(control.check, answer).outcome == "fail"
    assert control.wish.endswith(canonical_sentence(control.check))
    assert plant_control(answer, seed) == control


def test_controls_vary_in_kind_and_in_words() -> None:
    controls = [plant_control(ANSWER, seed) for seed in range(300)]
    assert {control.check.kind for control in controls} == {
        "must_include",
        "starts_with",
        "ends_with",
        "format",
        "language",
    }
    assert len({control.wish for control in controls}) > 200
    leads = {control.wish.removesuffix(canonical_sentence(control.check)).strip() for control in controls}
    assert len(leads) == sum(map(len, _stock().leads.values()))


@pytest.mark.parametrize("kept", ["", "late winter 1000 1001 9999"])
def test_an_answer_that_holds_all_stock_phrases_has_a_control_too(kept: str) -> None:
    stock = _stock()
    table = "\n\n| a | b |\n|---|---|\n| c | d |\n"
    answer = f"{' '.join(stock.qualities)} {' '.join(stock.things)} {kept} {table}"
    found: list[Control] = [plant_control(answer, seed) for seed in range(20)]
    for control in found:
        assert evaluate(control.check, answer).outcome == "fail"
