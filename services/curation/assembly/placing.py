"""What training holds, what it must not hold, and what a test facet shows of what it does not."""

from collections.abc import Iterable, Sequence
from itertools import combinations

from shared.domain.checks import canonical_sentence
from shared.domain.containment import HeldOutTexts
from shared.domain.identifiers import seed_of
from shared.domain.rows import Facet, InstructionRow, Preference
from shared.domain.splits import Cell, HeldOut, SplitLevel
from shared.domain.taxonomy import Taxonomy
from shared.stages.facets import Fault

_TEXTS_OF_LEVELS = (SplitLevel.UNSEEN_WORDING, SplitLevel.UNSEEN_PREFERENCE, SplitLevel.UNSEEN_SUBDIMENSION)
"""Levels whose system messages must stay unseen as wording."""


_FROM_EASIEST = (
    SplitLevel.SEEN,
    SplitLevel.UNSEEN_COMBINATION,
    SplitLevel.UNSEEN_PAIR,
    SplitLevel.UNSEEN_WORDING,
    SplitLevel.MORE_PREFERENCES,
    SplitLevel.UNSEEN_PREFERENCE,
    SplitLevel.UNSEEN_SUBDIMENSION,
)


def without_check_sentence(preference: Preference) -> str:
    """The description without the sentence of its machine check, which all preferences with such a check share."""
    if preference.check is None:
        return preference.description
    return preference.description.replace(canonical_sentence(preference.check), " ")


def held_out_preferences(facet: Facet, held_out: HeldOut) -> list[str]:
    """Names of the facet's preferences that training must not have: held-out seeds, what is called like one of them, and all of
    held-out subdimensions."""
    return [name for preference in facet.preferences if (name := held_out.name_of(preference)) is not None]


def held_out_texts(
    taxonomy: Taxonomy, held_out: HeldOut, test_rows: Iterable[InstructionRow], least: float
) -> HeldOutTexts:
    """The wordings that training must not come close to: descriptions of held-out seeds, what the teacher made of them in test
    rows, and the system messages of test rows whose wording or preferences are to be unseen."""

    def texts() -> Iterable[str]:
        yield from (seed.description for _, _, seed in taxonomy.seeds() if seed.name in held_out.seeds)
        for row in test_rows:
            for facet in row.facets:
                for preference in facet.preferences:
                    if held_out.name_of(preference) is not None:
                        yield without_check_sentence(preference)
                if facet.system and row.level in _TEXTS_OF_LEVELS:
                    yield facet.system

    return HeldOutTexts(texts(), least)


class TrainingGate:
    """Says of a facet of the training split whether it may stay there."""

    def __init__(self, held_out: HeldOut, texts: HeldOutTexts) -> None:
        self._held_out = held_out
        self._texts = texts

    def fault(self, facet: Facet) -> Fault | None:
        """`held_out_preference`, `held_out_pair`, `held_out_combination`, `held_out_wording` (form or role), `near_held_out`."""
        names = held_out_preferences(facet, self._held_out)
        if names:
            return Fault("held_out_preference", f"held out: {', '.join(names)}")
        cells = cells_of(facet.preferences)
        if self._held_out.has_pair(cells):
            return Fault("held_out_pair", "two of its poles are held out as a pair")
        if self._held_out.holds_combination(assigned_cells(facet)):
            return Fault("held_out_combination", "its combination of poles is held out")
        if facet.system_form in self._held_out.forms or facet.system_role in self._held_out.roles:
            return Fault("held_out_wording", f"form {facet.system_form}, role {facet.system_role}")
        texts = [without_check_sentence(preference) for preference in facet.preferences]
        for text in (*texts, facet.system or ""):
            found = self._texts.closest(text)
            if found is not None:
                return Fault("near_held_out", f"holds {found[1]:.0%} of the 5-grams of {found[0][:80]!r}")
        return None


def cells_of(preferences: Sequence[Preference]) -> list[Cell]:
    return [(preference.subdimension, preference.pole) for preference in preferences]


def assigned_cells(facet: Facet) -> list[Cell]:
    """The cells that were assigned, without what the teacher coined."""
    return cells_of([preference for preference in facet.preferences if preference.seed_name])


def _combination_key(cells: Iterable[Cell]) -> int:
    return seed_of("combination", *sorted(set(cells)))


class TrainingFacts:
    """What the training split holds. Memory: one integer per different combination, and names."""

    def __init__(self) -> None:
        self._seeds: set[str] = set()
        self._subdimensions: set[str] = set()
        self._pairs: set[frozenset[Cell]] = set()
        self._combinations: set[int] = set()
        self._forms: set[str | None] = set()
        self._roles: set[str | None] = {None}
        self._largest = 0

    def add(self, facet: Facet) -> None:
        cells = cells_of(facet.preferences)
        self._seeds.update(preference.seed_name for preference in facet.preferences)
        self._subdimensions.update(cell[0] for cell in cells)
        self._pairs.update(map(frozenset, combinations(cells, 2)))
        self._combinations.add(_combination_key(assigned_cells(facet)))
        self._forms.add(facet.system_form)
        self._roles.add(facet.system_role)
        self._largest = max(self._largest, len(cells))

    def level_of(self, facet: Facet) -> SplitLevel:
        """What a test facet shows that training has not; of several things the one that is hardest to have learnt: a
        subdimension, a preference, more preferences, wording, a pair of poles, a combination."""
        cells = cells_of(facet.preferences)
        if any(cell[0] not in self._subdimensions for cell in cells):
            return SplitLevel.UNSEEN_SUBDIMENSION
        if any(preference.seed_name not in self._seeds for preference in facet.preferences):
            return SplitLevel.UNSEEN_PREFERENCE
        if len(cells) > self._largest:
            return SplitLevel.MORE_PREFERENCES
        if facet.system_form not in self._forms or facet.system_role not in self._roles:
            return SplitLevel.UNSEEN_WORDING
        if any(frozenset(pair) not in self._pairs for pair in combinations(cells, 2)):
            return SplitLevel.UNSEEN_PAIR
        if _combination_key(assigned_cells(facet)) not in self._combinations:
            return SplitLevel.UNSEEN_COMBINATION
        return SplitLevel.SEEN


def hardest(levels: Iterable[SplitLevel]) -> SplitLevel:
    """The level of what several facets are part of, in the order of `TrainingFacts.level_of`."""
    return max(levels, key=_FROM_EASIEST.index)
