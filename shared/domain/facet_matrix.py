"""The facet matrix of one instruction: how far every answer follows every person's preferences.

An answer is good for its own person when it follows what this person wants, and specific when it follows that better than the
answers for others do. Preferences that two people share say nothing about which of two answers is whose, so a margin is taken
over what one wants and the other does not.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, count
from statistics import fmean

from shared.domain.prose import fold
from shared.domain.rows import NEUTRAL_INDEX, Facet, Preference, Verdict

SCORES = {"followed": 5, "partly": 3, "violated": 1}
"""Verdict -> score, on the scale 1 to 5 that rubrics are graded on."""
LOWEST, HIGHEST = 1, 5


def score_of(verdict: str) -> int:
    """The verdict on the scale 1 to 5. Raises KeyError for an unknown verdict."""
    return SCORES[verdict]


def utility_of(verdict: str) -> float:
    """The verdict on the scale 0 (violated) to 1 (followed): (score - 1) / 4. Raises KeyError for an unknown verdict."""
    return (score_of(verdict) - LOWEST) / (HIGHEST - LOWEST)


def rubric_keys(sets: Sequence[Sequence[Preference]]) -> list[list[int]]:
    """A number for each preference of the sets of one instruction: equal numbers are one wish that several people share.

    Two preferences are one wish where they have the same pole of the same subdimension, or the same words, and so are all that
    hang together by such pairs.
    """
    keys: dict[tuple[str, ...], int] = {}
    new = count()
    for preference in chain.from_iterable(sets):
        names = _names_of(preference)
        known = {keys[name] for name in names if name in keys}
        key = min(known, default=-1)
        if key < 0:
            key = next(new)
        if len(known) > 1:  # what this preference joins is one wish from now on
            keys = {name: key if number in known else number for name, number in keys.items()}
        keys |= dict.fromkeys(names, key)
    return [[keys[_names_of(preference)[0]] for preference in preferences] for preferences in sets]


def _names_of(preference: Preference) -> list[tuple[str, ...]]:
    """What a wish can be told by: its words, and its pole where it has one."""
    names: list[tuple[str, ...]] = [("words", fold(preference.description))]
    if preference.pole:
        names.append(("pole", preference.subdimension, preference.pole))
    return names


class FacetMatrix:
    """The verdicts on one instruction's answers, and what follows from them. Pure: nothing is changed, nothing is asked.

    Facets and answers are named by facet index, the neutral answer by NEUTRAL_INDEX. Entries may be missing (a preference that
    no program decides, where no judge was asked): figures are taken over what is known, and are None where nothing is.
    All figures but `moot` are utilities, 0 to 1, or differences of them, -1 to 1.
    """

    def __init__(self, facets: Sequence[Facet], verdicts: Iterable[Verdict]) -> None:
        """`facets` are those to compare; verdicts on preferences of other facets are left aside."""
        self._facets = {facet.index: facet for facet in facets}
        keys = rubric_keys([facet.preferences for facet in facets])
        self._keys = {facet.index: of_facet for facet, of_facet in zip(facets, keys, strict=True)}
        self._utilities = {
            (one.answer, one.facet, one.preference): utility_of(one.verdict)
            for one in verdicts
            if one.facet in self._facets
        }
        self._answers = sorted({answer for answer, _, _ in self._utilities})

    def utility(self, answer: int, facet: int, position: int) -> float | None:
        """How far an answer follows the preference at `position` of a facet's set."""
        return self._utilities.get((answer, facet, position))

    def difference(self, own: int, other: int) -> list[int]:
        """Positions of the preferences that `own` has and `other` does not share."""
        others = set(self._keys[other])
        return [position for position, key in enumerate(self._keys[own]) if key not in others]

    def margin(self, own: int, other: int) -> float | None:
        """How much better the answer of `own` follows what only `own` wants than the answer of `other` does: the mean, over the
        preferences of `difference` whose verdict on both answers is known, of the utilities' difference.

        Both answers are held against the same wishes, so that what is easy to please earns nothing: two equal answers have a
        margin of exactly 0, and exchanging the two answers changes the sign.
        """
        gains = []
        for position in self.difference(own, other):
            mine, theirs = self.utility(own, own, position), self.utility(other, own, position)
            if mine is not None and theirs is not None:
                gains.append(mine - theirs)
        return fmean(gains) if gains else None

    def moot(self, facet: int) -> list[int]:
        """Positions of the facet's preferences that tell nobody apart, because every answer follows them anyway.

        All known verdicts must be `followed`, the own answer's included, and at least one must be on an answer whose author was
        not asked for it: the neutral answer, or that of a facet that does not share the preference.
        """
        return [position for position in range(len(self._keys[facet])) if self._is_moot(facet, position)]

    def _is_moot(self, facet: int, position: int) -> bool:
        unasked = False
        for answer in self._answers:
            utility = self.utility(answer, facet, position)
            if utility is None:
                continue
            if utility < 1:
                return False
            unasked |= answer == NEUTRAL_INDEX or (answer in self._keys and not self._asked(answer, facet, position))
        return unasked

    def is_moot(self, facet: int) -> bool:
        """Whether all preferences of the facet are moot: its answer need not differ from anybody's."""
        preferences = self._facets[facet].preferences
        return bool(preferences) and len(self.moot(facet)) == len(preferences)

    def own_score(self, facet: int) -> float | None:
        """How far the facet's answer follows the facet's preferences that are not moot: mean utility."""
        moot = set(self.moot(facet))
        known = [
            utility
            for position in range(len(self._facets[facet].preferences))
            if position not in moot and (utility := self.utility(facet, facet, position)) is not None
        ]
        return fmean(known) if known else None

    def ignored(self, facet: int) -> list[int]:
        """Positions of the facet's preferences that its own answer violates although an answer whose author was not asked for
        it follows it: so the instruction leaves room for it, and the answer does worse than by chance."""
        result = []
        for position in range(len(self._keys[facet])):
            if self.utility(facet, facet, position) != 0:
                continue
            if any(
                self.utility(answer, facet, position) == 1
                for answer in self._answers
                if answer not in self._keys or not self._asked(answer, facet, position)
            ):
                result.append(position)
        return result

    def _asked(self, answer: int, facet: int, position: int) -> bool:
        """Whether the person of facet `answer` wants what stands at `position` of `facet`."""
        return self._keys[facet][position] in self._keys[answer]

    def facet_specificity(self, facet: int) -> float | None:
        """Mean margin of the facet's answer over all other facets."""
        margins = [self.margin(facet, other) for other in self._facets if other != facet]
        known = [margin for margin in margins if margin is not None]
        return fmean(known) if known else None
