"""What the preference sets of one instruction must have: they differ, and one pair of them stands on opposite poles.

A set is seen as its cells (subdimension and pole) by dimension. The rule of three quarters is this project's own: sets that
agree in more ask for much the same answer.
"""

from collections.abc import Iterable, Mapping

Cell = tuple[str, str]
"""A subdimension and one of its poles; an empty pole is that of a preference which belongs to none."""


def required_differences(dimensions: int) -> int:
    """In how many of the dimensions that either has two sets of one instruction must differ: three quarters, rounded up."""
    return -(-3 * dimensions // 4)


def are_alike(one: Mapping[str, frozenset[Cell | None]], other: Mapping[str, frozenset[Cell | None]]) -> bool:
    """Whether two sets differ in fewer dimensions than they must. None stands for what nobody knows yet (a free slot), and
    makes a dimension different."""
    dimensions = one.keys() | other.keys()
    different = sum(one.get(name) != other.get(name) or None in one.get(name, ()) for name in dimensions)
    return different < required_differences(len(dimensions))


def have_opposite_poles(sets: Iterable[Iterable[Cell]]) -> bool:
    """Whether one pair of sets stands on different poles of one subdimension."""
    poles: dict[str, set[str]] = {}
    for cells in sets:
        for subdimension, pole in cells:
            if pole:
                poles.setdefault(subdimension, set()).add(pole)
    return any(len(names) > 1 for names in poles.values())
