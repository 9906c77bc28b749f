"""Machine checks on text of the wrong pole: what was written for the opposite pole must not pass."""

import pytest

from services.simulator.respond import answer_respond
from shared.domain.checks import NECESSARY_KINDS, evaluate
from shared.domain.taxonomy import PlacedSeed, default_taxonomy, seed_check, seed_description
from tests.services.simulator.sets import INSTRUCTIONS


def _with_checks_on_both_poles() -> list[tuple[PlacedSeed, PlacedSeed]]:
    """Each checked seed with the checked seeds of the other poles of its subdimension."""
    checked = [placed for placed in default_taxonomy().seeds() if placed.seed.check is not None]
    return [
        (own, other)
        for own in checked
        for other in checked
        if own.subdimension is other.subdimension and own.seed.pole != other.seed.pole
    ]


PAIRS = _with_checks_on_both_poles()
PASSED_BY_ABSENCE = {
    ("no warm-up phrases", "unhurried explanation"),
    ("no warm-up phrases", "every point developed"),
    ("no contractions", "friendly sign-off"),
    ("no offers of more help", "inviting last question"),
    ("general statements only", "two contrasting examples"),
    ("no scare words", "warning in plain sight"),
    ("no scare words", "where to turn for help"),
    ("gentle wording", "no soothing phrases"),
    ("no soothing phrases", "gentle wording"),
    ("no hedging words", "confidence stated"),
    ("no talk about being a machine", "limits of this answer"),
}
"""(Checked seed, opposite seed) where the check passes all the same. All are `must_avoid`: the opposite seed makes nobody write
one of the few words, so that they are absent says nothing. So a pass of such a check is left to the judge (`NECESSARY_KINDS`)."""


def _outcomes(own: PlacedSeed, opposite: PlacedSeed) -> set[str]:
    check = seed_check(own.seed)
    assert check is not None
    system = f"You are calm. {seed_description(opposite.seed)}"
    return {
        evaluate(check, answer_respond(system, instruction, 0, bytes([number]))).outcome
        for number, instruction in enumerate(INSTRUCTIONS)
    }


@pytest.mark.parametrize(
    ("own", "opposite"),
    [pair for pair in PAIRS if (pair[0].seed.name, pair[1].seed.name) not in PASSED_BY_ABSENCE],
    ids=lambda placed: placed.seed.name,
)
def test_an_answer_to_the_opposite_wish_does_not_pass_the_check(own: PlacedSeed, opposite: PlacedSeed) -> None:
    assert "pass" not in _outcomes(own, opposite)


@pytest.mark.parametrize(
    ("own", "opposite"),
    [pair for pair in PAIRS if (pair[0].seed.name, pair[1].seed.name) in PASSED_BY_ABSENCE],
    ids=lambda placed: placed.seed.name,
)
def test_what_passes_by_absence_is_never_believed_alone(own: PlacedSeed, opposite: PlacedSeed) -> None:
    check = seed_check(own.seed)
    assert check is not None
    assert check.kind == "must_avoid"
    assert check.kind in NECESSARY_KINDS
    assert "pass" in _outcomes(own, opposite)


def test_every_exception_is_a_pair_of_the_taxonomy() -> None:
    assert {(own.seed.name, opposite.seed.name) for own, opposite in PAIRS} >= PASSED_BY_ABSENCE
    assert len(PAIRS) > 5 * len(PASSED_BY_ABSENCE)
