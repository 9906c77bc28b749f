"""A finding counts once two looks agree on it, in as few calls as that takes."""

from collections.abc import Mapping, Sequence

from shared.stages.facets import Fault
from shared.stages.second_look import Place, confirmed_faults

BAD = Fault("bad")


async def settled(
    *looks: Mapping[Place, Fault] | Fault, looks_at_all: int = 1
) -> tuple[dict[int, Fault], list[list[int]]]:
    """What comes of three items with these looks, and which items each was at."""
    asked: list[list[int]] = []

    async def look(items: Sequence[int], number: int) -> Mapping[Place, Fault] | Fault:
        assert number == len(asked)
        asked.append(list(items))
        return looks[number]

    return await confirmed_faults([4, 7, 9], look, looks_at_all), asked


async def test_what_is_sound_costs_one_look() -> None:
    assert await settled({}) == ({}, [[4, 7, 9]])


async def test_a_finding_is_confirmed_by_a_look_at_its_item_alone() -> None:
    assert await settled({(7, 1): BAD}, {(7, 1): Fault("worse")}) == ({7: BAD}, [[4, 7, 9], [7]])


async def test_a_third_look_decides_where_two_disagree() -> None:
    first = {(4, 0): BAD, (9, 2): BAD}
    assert await settled(first, {(9, 2): BAD}, {(4, 0): BAD}) == ({9: BAD, 4: BAD}, [[4, 7, 9], [4, 9], [4]])
    assert await settled(first, {}, {}) == ({}, [[4, 7, 9], [4, 9], [4, 9]])


async def test_findings_at_different_places_confirm_nothing() -> None:
    found, asked = await settled({(7, 0): BAD}, {(7, 1): BAD}, {(7, 2): BAD})
    assert (found, len(asked)) == ({}, 3)


async def test_readings_of_one_place_that_differ_confirm_nothing() -> None:
    found, _ = await settled({(7, 0, "brief"): BAD}, {(7, 0, "full"): BAD}, {(7, 0, "none"): BAD})
    assert found == {}


async def test_two_looks_at_all_find_what_the_first_overlooked() -> None:
    assert await settled({}, {}, looks_at_all=2) == ({}, [[4, 7, 9], [4, 7, 9]])
    assert await settled({(4, 0): BAD}, {(4, 0): BAD, (9, 1): BAD}, {(9, 1): BAD}, looks_at_all=2) == (
        {4: BAD, 9: BAD},
        [[4, 7, 9], [4, 7, 9], [9]],
    )


async def test_a_failed_look_is_the_fault_of_those_it_was_at() -> None:
    gone = Fault("judge_gone")
    assert await settled(gone) == ({4: gone, 7: gone, 9: gone}, [[4, 7, 9]])
    found, _ = await settled({(4, 0): BAD, (9, 0): BAD}, {(4, 0): BAD}, gone)
    assert found == {4: BAD, 9: gone}
