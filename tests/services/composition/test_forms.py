"""Forms and target lengths are varied, drawn by seed, and stay within their bounds."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.composition.forms import SHARE_OF_DESCRIPTIONS, draw_forms, draw_target, load_forms


def test_there_are_at_least_eight_forms_of_different_length() -> None:
    forms = load_forms()
    assert len(forms) >= 8
    assert min(form.minimum_characters for form in forms) <= 150
    assert max(form.maximum_characters for form in forms) >= 1400


@given(seed=st.integers(0, 2**62), facets=st.integers(1, 16))
def test_siblings_have_different_forms_while_there_are_enough(seed: int, facets: int) -> None:
    drawn = [form.name for form in draw_forms(seed, facets)]
    assert len(drawn) == facets
    assert max(Counter(drawn).values()) == -(-facets // len(load_forms()))
    assert drawn == [form.name for form in draw_forms(seed, facets)]


def test_every_form_is_drawn_about_equally() -> None:
    counts = Counter(form.name for seed in range(2000) for form in draw_forms(seed, 3))
    expected = 6000 / len(load_forms())
    assert set(counts) == {form.name for form in load_forms()}
    assert all(0.8 * expected < count < 1.2 * expected for count in counts.values())


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
