"""Nothing frank passes for an instruction of harmful intent, whatever the teacher calls it and wherever he puts it."""

from typing import Any

import pytest

from services.augmentation.careful import CarefulGuard
from services.augmentation.catalogue import build_catalogue
from services.augmentation.drawing import drawing_of
from services.augmentation.free_slots import canonical_place
from shared.domain.jobs import JobSpec
from shared.domain.rows import HARMFUL_INTENT_TAG, Preference
from shared.domain.taxonomy import default_taxonomy, stances_of

TAXONOMY = default_taxonomy()
STANCES = stances_of(TAXONOMY)
GUARD = CarefulGuard(TAXONOMY)
CAREFUL = next(cell for cell, stance in STANCES.items() if stance == "careful")
FRANK = next(cell for cell, stance in STANCES.items() if stance == "frank")
FRANK_SEED = next(
    seed.name
    for _, part, seed in TAXONOMY.seeds()
    if STANCES.get((part.name, seed.pole)) == "frank" and " " in seed.name
)


def _preference(subdimension: str, pole: str, **more: Any) -> Preference:
    return Preference("style", subdimension, **{"preference": "some words", "description": "d", "pole": pole} | more)


@pytest.mark.parametrize(
    "preference",
    [
        _preference(*FRANK),
        _preference(*FRANK, seed_name="whatever"),
        _preference(FRANK[0], ""),
        _preference(FRANK[0].upper(), ""),
        _preference("own matter", "", preference=FRANK_SEED),
        _preference("own matter", "", preference=FRANK_SEED.replace(" ", "-").capitalize()),
        _preference(FRANK[1], ""),
    ],
)
def test_what_is_frank_by_place_or_by_name_is_refused(preference: Preference) -> None:
    fault = GUARD.fault([_preference(*CAREFUL), preference])
    assert fault is not None
    assert (fault.reason, fault.final) == ("frank_preference", False)


@pytest.mark.parametrize(
    "preference",
    [
        _preference(*CAREFUL),
        _preference("own matter", ""),
        _preference("conciseness", "brief"),
        # Words that the teacher gave to an assigned careful seed are judged by its pole.
        _preference(*CAREFUL, preference=FRANK_SEED, seed_name="x"),
    ],
)
def test_careful_and_neutral_preferences_pass(preference: Preference) -> None:
    assert GUARD.fault([preference]) is None


def test_tagged_rows_know_no_frank_pole_and_coin_nothing_where_there_is_one() -> None:
    spec = JobSpec.model_validate(
        {"sources": [{"bundled": "demo"}], "teacher": {"provider": "simulator", "model": "simulator-small"}, "seed": 1}
    )
    tagged, other = (drawing_of(TAXONOMY, spec, "en", tags) for tags in ([HARMFUL_INTENT_TAG], []))
    known = {(name, pole) for parts in tagged.known.values() for name, poles in parts.items() for pole in poles}
    everything = {(name, pole) for parts in other.known.values() for name, poles in parts.items() for pole in poles}
    assert everything - known == {cell for cell, stance in STANCES.items() if stance == "frank"}
    dimension = next(part.name for part in TAXONOMY.dimensions if FRANK[0] in {one.name for one in part.subdimensions})
    assert canonical_place(*FRANK, tagged.known[dimension]) == (FRANK[0], "")
    marked = {part.name for part in TAXONOMY.dimensions if any(one.poles[0].stance for one in part.subdimensions)}
    assert build_catalogue(TAXONOMY, careful_only=True).seeds_only == marked
    free: dict[bool, set[str]] = {}
    for drawing in (tagged, other):
        found = free.setdefault(drawing is tagged, set())
        for draw in range(64):
            for one in drawing.sampler.assign(draw, ""):
                assert one is not None
                found |= {slot.dimension for slot in one.slots if slot.seed is None}
    assert free[False] == {part.name for part in TAXONOMY.dimensions}
    assert free[True] == free[False] - marked


def test_a_taxonomy_whose_dimensions_all_tell_careful_from_frank_has_no_free_slot_for_tagged_rows() -> None:
    data = TAXONOMY.model_dump(mode="json")
    for dimension in data["dimensions"]:
        for part in dimension["subdimensions"]:
            for pole, stance in zip(part["poles"], ("careful", "frank"), strict=True):
                pole["stance"] = stance
    taxonomy = type(TAXONOMY).model_validate(data)
    spec = JobSpec.model_validate(
        {
            "sources": [{"bundled": "demo"}],
            "teacher": {"provider": "simulator", "model": "simulator-small"},
            "augment": {"free_slot_share": 0.5},
        }
    )
    drawing = drawing_of(taxonomy, spec, "en", [HARMFUL_INTENT_TAG])
    made = [one for draw in range(8) for one in drawing.sampler.assign(draw, "")]
    assert all(one is not None and all(slot.seed is not None for slot in one.slots) for one in made)
