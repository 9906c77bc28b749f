"""Forms and target lengths are varied, drawn by seed, and stay within their bounds."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.composition.forms import SHARE_OF_DESCRIPTIONS, draw_target, draw_wordings
from shared.domain.splits import HeldOut, SplitLevel
from shared.domain.system_forms import load_forms, load_roles


def test_there_are_at_least_eight_forms_of_different_length() -> None:
    forms = load_forms()
    assert len(forms) >= 8
    assert min(form.minimum_characters for form in forms) <= 150
    assert max(form.maximum_characters for form in forms) >= 1400


HELD_OUT = HeldOut(forms=frozenset({"terse_rules", "mentor_portrait"}), roles=frozenset({load_roles()[3]}))


@given(seed=st.integers(0, 2**62), facets=st.integers(1, 16), level=st.sampled_from(["", *SplitLevel]))
def test_siblings_have_different_forms_while_there_are_enough(seed: int, facets: int, level: str) -> None:
    drawn = draw_wordings(seed, facets, HELD_OUT, level)
    names = [wording.form.name for wording in drawn]
    unseen = level == SplitLevel.UNSEEN_WORDING
    # With unseen wording: the two held-out forms, and the two others that can give the held-out role.
    assert max(Counter(names).values()) == -(-facets // (4 if unseen else len(load_forms()) - 2))
    assert drawn == draw_wordings(seed, facets, HELD_OUT, level)
    for wording in drawn:
        assert (wording.role is not None) == wording.form.gives_role
        is_unseen = wording.form.name in HELD_OUT.forms or wording.role in HELD_OUT.roles
        assert is_unseen == unseen


def test_every_form_and_every_role_is_drawn_about_equally() -> None:
    drawn = [wording for seed in range(3000) for wording in draw_wordings(seed, 3, HeldOut(), "")]
    forms = Counter(wording.form.name for wording in drawn)
    roles = Counter(wording.role for wording in drawn if wording.role)
    assert set(forms) == {form.name for form in load_forms()}
    assert set(roles) == set(load_roles())
    for counts in (forms, roles):
        expected = sum(counts.values()) / len(counts)
        assert all(0.6 * expected < count < 1.5 * expected for count in counts.values())


def test_with_nothing_held_out_an_unseen_wording_is_any() -> None:
    assert len(draw_wordings(1, 3, HeldOut(), SplitLevel.UNSEEN_WORDING)) == 3


@given(
    number=st.integers(0, len(load_forms()) - 1),
    seed=st.integers(0, 2**62),
    described=st.integers(0, 2400),
    minimum=st.integers(1, 500),
    room=st.integers(0, 3000),
)
def test_targets_respect_the_job_and_leave_room_for_the_wishes(
    number: int, seed: int, described: int, minimum: int, room: int
) -> None:
    form = load_forms()[number]
    maximum = minimum + room
    target = draw_target(form, seed, description_characters=described, minimum=minimum, maximum=maximum)
    assert minimum <= target <= maximum
    assert target >= min(maximum, round(SHARE_OF_DESCRIPTIONS * described))
    assert target >= min(maximum, form.minimum_characters)


def test_targets_spread_over_the_whole_range() -> None:
    targets = [
        draw_target(form, seed, description_characters=200, minimum=80, maximum=3000)
        for seed in range(300)
        for form in load_forms()
    ]
    assert min(targets) < 200
    assert max(targets) > 1300
    assert sum(target < 400 for target in targets) > 0.15 * len(targets)
    assert sum(target > 800 for target in targets) > 0.15 * len(targets)
