"""Instructions of the soak: as many as wanted, all different, and such that curation keeps them."""

from benchmarks.instructions import instructions
from services.curation.harmful_intent import harmful_intent_filter
from services.curation.near_duplicates import NearDuplicates
from services.curation.personas import persona_filter
from shared.domain.jobs import CurateParameters
from shared.domain.language import detect_language

COUNT = 1500


def test_the_same_seed_gives_the_same_texts_and_another_seed_others() -> None:
    first = list(instructions(50, 1))
    assert first == list(instructions(50, 1))
    assert not set(first) & set(instructions(50, 2))


def test_curation_keeps_every_one() -> None:
    texts = list(instructions(COUNT, 0))
    assert len(set(texts)) == COUNT
    parameters = CurateParameters()
    assert parameters.near_duplicate_threshold is not None
    near = NearDuplicates(parameters.near_duplicate_threshold)
    near.add(texts)
    assert near.find() == {}
    assert {detect_language(text)[0] for text in texts} == {"en"}
    assert not [text for text in texts if persona_filter().match(text) or harmful_intent_filter().match(text)]
    assert all(parameters.minimum_characters <= len(text) <= parameters.maximum_characters for text in texts)
