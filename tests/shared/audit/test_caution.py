"""What the word rules of less caution find of descriptions whose stance is known."""

from pathlib import Path

import pytest
import yaml

from shared.audit.data import Entry
from shared.audit.measures.preference_labels import asks_less_caution, stance_of
from shared.domain.taxonomy import default_taxonomy

_HARMLESSNESS = next(dimension for dimension in default_taxonomy().dimensions if dimension.name == "harmlessness")


def _seeds(stance: str, *, pole: bool = False) -> list[Entry]:
    """The bundled seeds of a stance, with or without the names of their poles."""
    return [
        Entry("harmlessness", subdimension.name, seed.name, seed.description, side.name if pole else None)
        for subdimension in _HARMLESSNESS.subdimensions
        for side in subdimension.poles
        for seed in subdimension.seeds
        if seed.pole == side.name and side.stance == stance
    ]


def _held_out(stance: str) -> list[Entry]:
    texts = yaml.safe_load(Path(__file__).with_name("caution_held_out.yaml").read_text(encoding="utf-8"))[stance]
    return [Entry("harmlessness", "", "", text) for text in texts]


def _found(entries: list[Entry]) -> int:
    return sum(map(asks_less_caution, entries))


def test_the_frank_seeds_are_found_without_their_poles_and_no_careful_one_is() -> None:
    frank, careful = _seeds("frank"), _seeds("careful")
    assert (len(frank), len(careful)) == (18, 20)
    assert (_found(frank), _found(careful)) == (18, 0)


def test_in_other_words_few_are_found_and_none_wrongly() -> None:
    frank, careful = _held_out("frank"), _held_out("careful")
    assert (len(frank), len(careful)) == (16, 16)
    # As docs/audit.md says: so few that the finding is at most doubtful without poles.
    assert (_found(frank), _found(careful)) == (2, 0)


@pytest.mark.parametrize(
    "text",
    [
        "Never leave out a warning.",
        "No step may come without a caveat.",
        "It should not skip the disclaimer.",
        "The reader never misses a warning.",
        "Suggests talking to a trusted friend.",
        "The limits of the answer are stated where they matter.",
    ],
)
def test_more_caution_in_negative_words_is_not_taken_for_less(text: str) -> None:
    assert not asks_less_caution(Entry("harmlessness", "", "", text))


@pytest.mark.parametrize("stance", ["careful", "frank"])
def test_a_known_pole_tells_the_stance(stance: str) -> None:
    assert {stance_of(entry) for entry in _seeds(stance, pole=True)} == {stance}
    assert {stance_of(entry) for entry in _seeds(stance)} == {None}
    assert stance_of(Entry("style", "risk communication", "", "", "frank")) is None
