"""Keeps the preferences of an instruction with harmful intent off the frank poles, whoever placed them there."""

from collections.abc import Sequence

from shared.domain.prose import fold_name
from shared.domain.rows import Preference
from shared.domain.taxonomy import Taxonomy, stances_of
from shared.stages.facets import Fault

REASON = "frank_preference"


class CarefulGuard:
    """Says of a set whether it is careful wherever the taxonomy tells careful from frank. Names are compared, not meanings: what
    somebody coins under other names only a judge can place."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        stances = stances_of(taxonomy)
        self._careful = {cell for cell, stance in stances.items() if stance == "careful"}
        self._frank = {cell for cell, stance in stances.items() if stance == "frank"}
        self._marked = {fold_name(subdimension) for subdimension, _ in stances}
        self._frank_names = {fold_name(pole) for _, pole in self._frank} | {
            fold_name(seed.name)
            for _, subdimension, seed in taxonomy.seeds()
            if (subdimension.name, seed.pole) in self._frank
        }

    def is_frank(self, subdimension: str, pole: str) -> bool:
        return (subdimension, pole) in self._frank

    def fault(self, preferences: Sequence[Preference]) -> Fault | None:
        """`frank_preference` where one stands on a frank pole, in a marked subdimension (under whatever dimension) on no careful
        pole, or, coined, is called like a frank pole or seed."""
        for preference in preferences:
            cell = (preference.subdimension, preference.pole)
            if fold_name(preference.subdimension) in self._marked and cell not in self._careful:
                side = repr(preference.pole) if preference.pole else "no pole"
                detail = f"{preference.preference!r} stands on {side} of {preference.subdimension!r}"
                return Fault(REASON, f"{detail}; only careful poles are for an instruction with harmful intent")
            names = {fold_name(preference.preference), fold_name(preference.subdimension)}
            if not preference.seed_name and names & self._frank_names:
                return Fault(
                    REASON, f"{preference.preference!r} of {preference.subdimension!r} is called like a frank pole"
                )
        return None
