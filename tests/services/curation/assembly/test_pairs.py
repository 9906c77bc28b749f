"""Which pairs stand: by what a judge, or programs, say of both answers under both people's wishes."""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.curation.assembly.assemble import run
from services.curation.assembly.pairs import DrawnPairs, draw_pairs
from shared.domain.jobs import AugmentParameters, ModelChoice, SplitParameters
from shared.domain.rows import Facet, Preference, Verdict
from tests.services.curation.assembly.synthetic import make_context, make_rows, make_spec, respond_parts

NAMES = {"f": "followed", "p": "partly", "v": "violated"}


def _facet(index: int, *wishes: str) -> Facet:
    preferences = [Preference("d", wish, "k", f"Wants {wish}.", "more") for wish in wishes]
    return Facet(index, preferences, system=f"System {index}.", response=f"Response {index}.")


def _verdicts(rows: dict[tuple[int, int], str], source: str = "judge") -> list[Verdict]:
    """(answer, facet) -> verdicts by position, `-` where there is none."""
    return [
        Verdict(answer, facet, position, NAMES[one], source)
        for (answer, facet), ones in rows.items()
        for position, one in enumerate(ones)
        if one != "-"
    ]


TWO = [_facet(0, "a", "b"), _facet(1, "c", "d")]


def _draw(facets: list[Facet], rows: dict[tuple[int, int], str], pairing: str = "mirrored", **more: Any) -> DrawnPairs:
    matrix = _verdicts(rows)
    return draw_pairs(facets, pairing, 7, "row", "train", matrix=matrix, **more)  # type: ignore[arg-type]


def _orders(drawn: DrawnPairs) -> list[tuple[int, int]]:
    return [(pair.own.index, pair.other.index) for pair in drawn.kept]


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ({(0, 0): "ff", (1, 0): "vv", (0, 1): "vv", (1, 1): "ff"}, True),
        # Half of what each wants is followed by the other answer just as well.
        ({(0, 0): "ff", (1, 0): "fv", (0, 1): "vf", (1, 1): "ff"}, True),
        # The second answer serves the first person as well as the first answer does.
        ({(0, 0): "ff", (1, 0): "ff", (0, 1): "vv", (1, 1): "ff"}, False),
        ({(0, 0): "fp", (1, 0): "fv", (0, 1): "vv", (1, 1): "ff"}, True),
        ({(0, 0): "vv", (1, 0): "ff", (0, 1): "ff", (1, 1): "vv"}, False),
    ],
)
def test_a_judged_pair_stands_when_both_orders_reach_the_margin(rows: dict[tuple[int, int], str], kept: bool) -> None:
    drawn = _draw(TWO, rows, judged=True, minimum_margin=0.25)
    assert _orders(drawn) == ([(0, 1), (1, 0)] if kept else [])
    assert drawn.counts == (Counter() if kept else Counter(below_margin=2))


def test_what_both_want_does_not_count() -> None:
    facets = [_facet(0, "a", "b"), _facet(1, "b", "c")]
    rows = {(0, 0): "fv", (1, 0): "vf", (0, 1): "vv", (1, 1): "ff"}
    assert _orders(_draw(facets, rows, judged=True, minimum_margin=1.0)) == [(0, 1), (1, 0)]


def test_whoever_wants_nothing_but_what_the_other_wants_makes_no_judged_pair() -> None:
    facets = [_facet(0, "a"), _facet(1, "a", "b")]
    rows = {(0, 0): "f", (1, 0): "v", (0, 1): "fv", (1, 1): "ff"}
    drawn = _draw(facets, rows, judged=True)
    assert (_orders(drawn), drawn.counts) == ([], Counter(shared_wishes=2))
    assert _orders(_draw(facets, rows)) == [(0, 1), (1, 0)]


def test_without_a_judge_only_a_known_contradiction_of_the_order_counts() -> None:
    """Programs decide a few wishes; a margin of 0 there says nothing about the others."""
    even = {(0, 0): "f-", (1, 0): "f-"}
    drawn = _draw(TWO, even, minimum_margin=0.25)
    assert _orders(drawn) == [(0, 1), (1, 0)]
    assert drawn.counts == Counter(unverified=1)
    drawn = _draw(TWO, {(0, 0): "v-", (1, 0): "f-"})
    assert (_orders(drawn), drawn.counts) == ([], Counter(below_margin=2))
    drawn = _draw(TWO, {})
    assert (_orders(drawn), drawn.counts) == ([(0, 1), (1, 0)], Counter(unverified=2))


STANCES = {("warnings", "many"), ("warnings", "few"), ("lessons", "many")}


def _with_stances(index: int, *cells: tuple[str, str]) -> Facet:
    facet = _facet(index, f"own {index}")
    facet.preferences += [Preference("care", name, "k", f"Wants {name} {index}.", pole) for name, pole in cells]
    return facet


@pytest.mark.parametrize(
    ("own", "other", "kept"),
    [
        ([], [], True),
        ([("warnings", "many")], [("warnings", "many")], True),
        ([("tone", "calm")], [("tone", "lively")], True),
        ([("warnings", "many")], [], False),
        ([("warnings", "many")], [("lessons", "many")], False),
        ([("warnings", "many"), ("lessons", "many")], [("lessons", "many")], False),
        ([("warnings", "many")], [("warnings", "few")], False),
    ],
)
def test_of_harmful_intent_a_pair_that_differs_in_care_goes_in_both_orders(
    own: list[tuple[str, str]], other: list[tuple[str, str]], kept: bool
) -> None:
    facets = [_with_stances(0, *own), _with_stances(1, *other)]
    drawn = _draw(facets, {}, stances=STANCES)
    assert _orders(drawn) == ([(0, 1), (1, 0)] if kept else [])
    assert drawn.counts["harmful_intent"] == (0 if kept else 2)
    assert _orders(_draw(facets, {})) == [(0, 1), (1, 0)], "other instructions keep all of them"
    assert bool(_draw(facets, {}, "random", stances=STANCES).kept) is kept


def test_equal_responses_and_equal_systems_are_never_drawn() -> None:
    same = _facet(1, "c")
    same.response = TWO[0].response
    drawn = _draw([TWO[0], same], {})
    assert (drawn.kept, drawn.counts) == ([], Counter())


def test_random_takes_one_of_those_that_stand() -> None:
    facets = [_facet(0, "a"), _facet(1, "b"), _facet(2, "c")]
    good = {(n, m): "f" if n == m else "v" for n in range(3) for m in range(3)}
    (pair,) = _draw(facets, good, "random", judged=True, minimum_margin=0.5).kept
    assert pair.own is not pair.other
    spoilt = good | {(1, 0): "f", (0, 2): "f"}
    drawn = _draw(facets, spoilt, "random", judged=True, minimum_margin=0.5)
    assert _orders(drawn)[0] in {(1, 2), (2, 1)}
    assert drawn.counts == Counter(below_margin=4)


@given(
    st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=3, unique=True), min_size=2, max_size=4),
    st.data(),
    st.booleans(),
    st.sampled_from((0.0, 0.25, 0.5, 1.0)),
)
def test_orders_stand_or_fall_together_and_every_one_is_accounted_for(
    sets: list[list[str]], data: st.DataObject, judged: bool, least: float
) -> None:
    facets = [_facet(index, *wishes) for index, wishes in enumerate(sets)]
    rows = {
        (answer, facet.index): "".join(data.draw(st.sampled_from("fpv-")) for _ in facet.preferences)
        for answer in range(len(facets))
        for facet in facets
    }
    drawn = _draw(facets, rows, judged=judged, minimum_margin=least)
    orders = _orders(drawn)
    assert {(b, a) for a, b in orders} == set(orders)
    assert orders == sorted(orders)
    left_out = drawn.counts["below_margin"] + drawn.counts["shared_wishes"]
    assert len(orders) + left_out == len(facets) * (len(facets) - 1)
    assert drawn.counts["unverified"] <= len(orders)


def test_assembly_counts_what_the_margins_leave_out_and_what_is_in_doubt(tmp_path: Path) -> None:
    augment = AugmentParameters(sets_per_instruction=2, set_sizes={4: 1.0}, free_slot_share=0)
    spec = make_spec(splits=SplitParameters(test_share=0), augment=augment)
    rows = make_rows(6, facets=2, spec=spec)
    for row in rows[:4]:
        row.matrix = [
            Verdict(answer, facet.index, position, "followed" if answer == facet.index else "violated", "judge")
            for answer in range(2)
            for facet in row.facets
            for position in range(4)
        ]
    for row in rows[:2]:
        row.matrix = [msgspec.structs.replace(one, verdict="followed") for one in row.matrix]
    judge = ModelChoice(provider="simulator", model="simulator-large")
    spec = spec.model_copy(update={"judge": judge})
    summary = run(make_context(tmp_path, respond_parts(tmp_path / "parts", rows), spec=spec)).summary
    assert summary["pair_margins"] == {
        "harmful_intent": 0,
        "below_margin": 4,
        "shared_wishes": 0,
        "unverified": 4,
    }
    assert summary["pairs"]["train/seen"] == 8
    assert summary["unpaired"] == {"below_margin": 2}
