"""When two sets are too much alike, and when one pair stands on opposite poles."""

import pytest

from shared.domain.set_differences import are_alike, have_opposite_poles, required_differences


def test_three_quarters_of_the_dimensions_rounded_up() -> None:
    assert [required_differences(dimensions) for dimensions in range(1, 6)] == [1, 2, 3, 3, 4]


def cells(**dimensions: str) -> dict[str, frozenset[tuple[str, str]]]:
    pairs = {name: [one.partition("/") for one in value.split()] for name, value in dimensions.items()}
    return {name: frozenset((one, pole) for one, _, pole in found) for name, found in pairs.items()}


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (cells(style="tone/warm", depth="detail/more"), cells(style="tone/warm", depth="detail/less"), True),
        (cells(style="tone/warm", depth="detail/more"), cells(style="tone/cool", depth="detail/less"), False),
        (cells(style="tone/warm"), cells(depth="detail/more"), False),
        (cells(style="tone/warm format/list"), cells(style="tone/warm"), False),
        (cells(a="x/1", b="y/1", c="z/1", d="w/1"), cells(a="x/1", b="y/2", c="z/2", d="w/2"), False),
        (cells(a="x/1", b="y/1", c="z/1", d="w/1"), cells(a="x/1", b="y/1", c="z/2", d="w/2"), True),
    ],
)
def test_sets_are_alike_when_they_differ_in_too_few_dimensions(
    one: dict[str, frozenset[tuple[str, str]]], other: dict[str, frozenset[tuple[str, str]]], alike: bool
) -> None:
    assert are_alike(one, other) is are_alike(other, one) is alike


def test_opposite_poles_are_those_of_one_subdimension_in_two_sets() -> None:
    assert have_opposite_poles([[("tone", "warm")], [("tone", "cool")]])
    assert not have_opposite_poles([[("tone", "warm")], [("tone", "warm"), ("length", "less")]])
    # A coined preference that belongs to no pole is opposite to nothing.
    assert not have_opposite_poles([[("tone", "warm")], [("tone", "")]])
    assert not have_opposite_poles([])
