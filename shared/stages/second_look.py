"""Believing a judge only twice: what one call finds fault with is held against a fresh call before it counts.

A judge who errs now and then would turn away sound work in proportion to how much it is shown. Its errors rarely fall on the same
place twice, while what is really wrong is found again.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from shared.stages.facets import Fault

Place = tuple[int | str, ...]
"""Where a finding lies: the number of the item first, then whatever tells its places, or its readings of one place, apart."""
MOST_LOOKS = 3
CONFIRMED_BY = 2


async def confirmed_faults(
    items: Sequence[int],
    look: Callable[[Sequence[int], int], Awaitable[Mapping[Place, Fault] | Fault]],
    looks_at_all: int = 1,
) -> dict[int, Fault]:
    """The fault of each item with which two of at most three looks found fault at one and the same place.

    `look(items, number)` is one call of the judge about these items, counted from 0 (the number belongs in its sample index). It
    gives the faults found, or one fault where the call itself failed, which is then the fault of all items it was asked
    about. The first `looks_at_all` looks (1 or 2) are at all items, later ones at those with a finding that no other look has
    confirmed.

    Of a judge who misses a fault with probability m and sees one that is not there with probability w, one look at everything
    loses an item with about m + m*m and wrongly turns it away with about 2*w*w; two looks lose it with about 3*m*m and
    turn it away with about 3*w*w, for one more call.
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
                settled.setdefault(_item_of(place), first[place])
        if number + 1 >= looks_at_all:
            in_doubt = {_item_of(place) for place in seen}
            asked = [item for item in asked if item in in_doubt]
        asked = [item for item in asked if item not in settled]
    return settled


def _item_of(place: Place) -> int:
    return int(place[0])
