"""Believing a judge only twice: what one call finds fault with is held against a fresh call before it counts.

A judge who errs now and then would turn away sound work in proportion to how much it is shown. Its errors rarely fall on the same
place twice, while what is really wrong is found again.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from shared.stages.facets import Fault

Place = tuple[int, ...]
"""Where a finding lies: the number of the item first, then whatever tells its places apart."""
MOST_LOOKS = 3
CONFIRMED_BY = 2


async def confirmed_faults(
    items: Sequence[int], look: Callable[[Sequence[int], int], Awaitable[Mapping[Place, Fault] | Fault]]
) -> dict[int, Fault]:
    """The fault of each item with which two of at most three looks found fault at one and the same place.

    `look(items, number)` is one call of the judge about these items, counted from 0 (the number belongs in its sample index). It
    gives the faults found, or one fault where the call itself failed, which is then the fault of all items it was asked
    about. The first look is at all items, the second at those with a finding, the third at those about which the two
    disagree: a sound lot costs one call, a lot with findings two, and seldom three.

    With a judge who misses a fault with probability m and sees one that is not there with probability w, an item is lost with
    about m + m*m and wrongly turned away with about 2*w*w.
    """
    seen: Counter[Place] = Counter()
    first: dict[Place, Fault] = {}
    settled: dict[int, Fault] = {}
    asked = list(items)
    for number in range(MOST_LOOKS):
        if not asked:
            break
        found = await look(asked, number)
        if isinstance(found, Fault):
            settled.update(dict.fromkeys(asked, found))
            break
        seen.update(found.keys())
        first = {**found, **first}
        for place, times in seen.items():
            if times >= CONFIRMED_BY:
                settled.setdefault(place[0], first[place])
        open_items = {place[0] for place in seen} - settled.keys()
        asked = [item for item in asked if item in open_items]
    return settled
