"""What a wish is made of: which seeds of the shipped taxonomy, coined preferences and known slips stand in its wording.

The simulator's teacher keeps the words of what it was given, so that its judge can know the truth: a text holds a known wording
when it has nearly all of its content stems.
"""

from collections import defaultdict
from functools import lru_cache
from typing import NamedTuple

import msgspec

from services.simulator.phrases import load_phrases
from services.simulator.slips import load_rewordings, load_slips
from services.simulator.words import words_of
from shared.domain.taxonomy import PlacedSeed, default_taxonomy

STEM_LETTERS = 6
KNOWN_SHARE = 0.85
"""Share of a wording's stems that a text must have to hold it."""
_SMALL_WORDS = """
a about all also an and any are as at be but by can do does even every each for from has have if in into is it its
like more most much no not of off on one only or other over rather should since so some such than that the their them
then there these they this those through to too up was what when where wherever whenever which while who will with
without yet you well place instead order whatever own somebody must cannot never wants
"""
_SMALL = frozenset(_SMALL_WORDS.split())
"""Words that say nothing alone, those that a rewording changes among them."""


class Known(NamedTuple):
    """A wording that is recognised. `pole` is (subdimension, pole) of what belongs to one, `check` the kind of machine check that
    a contrary in words is contrary to."""

    stems: frozenset[str]
    pole: tuple[str, str] | None = None
    seed: PlacedSeed | None = None
    moot: bool = False
    check: str = ""


class Recognition(msgspec.Struct, frozen=True):
    """All that was recognised in one text, the best match first."""

    found: tuple[Known, ...]
    negated: frozenset[str]
    """Names of seeds whose words follow a refusal of them."""

    @property
    def pole(self) -> tuple[str, str] | None:
        """The pole that the text argues for first of all."""
        return next((known.pole for known in self.found if known.pole), None)

    @property
    def trivial(self) -> bool:
        """Whether it says what any sensible answer does, and nothing else that is known."""
        return bool(self.found) and all(known.moot for known in self.found)

    @property
    def seeds(self) -> list[PlacedSeed]:
        return [known.seed for known in self.found if known.seed is not None]

    @property
    def contrary_kinds(self) -> frozenset[str]:
        return frozenset(known.check for known in self.found if known.check)


def stem(word: str) -> str:
    return word[:STEM_LETTERS]


def stems_of(text: str) -> frozenset[str]:
    """Stems of the words that say something."""
    return frozenset(stem(word) for word in words_of(text) if word not in _SMALL)


@lru_cache(maxsize=1)
def _known() -> tuple[tuple[Known, ...], dict[str, tuple[int, ...]]]:
    """All wordings, and the numbers of those that have a stem."""
    slips = load_slips()
    known = [
        Known(stems_of(placed.seed.description), (placed.subdimension.name, placed.seed.pole), placed)
        for placed in default_taxonomy().seeds()
    ]
    for coined in (one for several in load_phrases().coined.values() for one in several):
        subdimension, _, pole = (coined.belongs or "").partition(": ")
        known.append(Known(stems_of(coined.description), (subdimension, pole) if pole else None))
    known.extend(
        Known(stems_of(wording), (placed.subdimension.name, placed.seed.pole), placed)
        for placed in default_taxonomy().seeds()
        for wording in load_rewordings().get(placed.seed.name, ())
    )
    known.extend(Known(_without_slots(text), moot=True) for text in slips.moot)
    known.extend(Known(stems_of(text), check=kind) for kind, several in slips.contraries.items() for text in several)
    having: dict[str, list[int]] = defaultdict(list)
    for number, one in enumerate(known):
        for each in one.stems:
            having[each].append(number)
    return tuple(known), {each: tuple(numbers) for each, numbers in having.items()}


def _without_slots(template: str) -> frozenset[str]:
    return stems_of(template.replace("{t}", " ").replace("{u}", " "))


@lru_cache(maxsize=1)
def _refusals() -> tuple[str, ...]:
    return tuple(template.partition("{w}")[0].rstrip(": ").casefold() for template in load_slips().negations)


@lru_cache(maxsize=4096)
def recognise(text: str) -> Recognition:
    """What is known of a wish."""
    refused = next((part for part in _refusals() if part in text.casefold()), None)
    negated: frozenset[str] = frozenset()
    if refused is not None:
        before, _, after = text.casefold().partition(refused)
        # What is refused counts for the seeds of its own, not for what the wish says besides.
        rest = recognise(after.lstrip(": "))
        own = recognise(before)
        negated = frozenset(placed.seed.name for placed in rest.seeds)
        return Recognition(own.found, negated)
    known, having = _known()
    counts: dict[int, int] = defaultdict(int)
    for each in stems_of(text):
        for number in having.get(each, ()):
            counts[number] += 1
    matched = [
        (count / len(known[number].stems), count, -number)
        for number, count in counts.items()
        if count >= KNOWN_SHARE * len(known[number].stems)
    ]
    matched.sort(key=lambda one: (one[1], one[0], one[2]), reverse=True)
    return Recognition(tuple(known[-minus] for _, _, minus in matched), negated)
