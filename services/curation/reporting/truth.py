"""What report and card say of the truth of the data: follow answers their own wishes alone, are sets spread and different, does
anything give the chosen answer away? Figures as plain data, and a sentence for each that is out of bounds."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from services.curation.reporting.inputs import collection_records, matrix_records, pair_records
from shared.domain.rows import NEUTRAL_INDEX
from shared.domain.splits import Split
from shared.domain.taxonomy import Taxonomy
from shared.stages.protocol import InputObject
from shared.statistics.matrix_figures import FacetMatrixFigures
from shared.statistics.set_balance import LEAST_ENTROPY, SetBalance
from shared.statistics.shortcut_figures import MOST_BLIND, MOST_POSITION_GAIN, ShortcutFigures

FEWEST_PREFERENCES = 20
"""So many preferences per pole of the taxonomy, and entropy says something of the draw instead of the size."""
_COLUMNS = (
    "row_id",
    "split",
    "split_level",
    "tags",
    "preference_set",
    "preference_details",
    "facet_index",
    "output",
    "contradictions",
)


def truth_figures(
    inputs: Sequence[InputObject], taxonomy: Taxonomy, held_out_subdimensions: Sequence[str]
) -> dict[str, Any]:
    """`matrix` (`FacetMatrixFigures`), `balance` of training (`SetBalance`) and `shortcuts` (`ShortcutFigures`)."""
    matrix = FacetMatrixFigures()
    balance = SetBalance(taxonomy, frozenset(held_out_subdimensions))
    shortcuts = ShortcutFigures()
    verdicts = _Following(groupby(matrix_records(inputs), key=lambda one: one["row_id"]))
    for row_id, group in groupby(collection_records(inputs, _COLUMNS), key=lambda record: record["row_id"]):
        records = [record for record in group if record["facet_index"] != NEUTRAL_INDEX]
        for record in records:
            shortcuts.add_set(record)
        if records and records[0]["split"] == Split.TRAIN:
            balance.add(records)
        matrix.add(records, verdicts.of(row_id))
    for pair in pair_records(inputs):
        shortcuts.add_pair(pair)
    return {"matrix": matrix.finish(), "balance": balance.finish(), "shortcuts": shortcuts.finish()}


class _Following:
    """Groups that come in the order in which they are asked for; some that are asked for are missing."""

    def __init__(self, groups: Any) -> None:
        self._groups = groups
        self._next: tuple[str, list[dict[str, Any]]] | None = None

    def of(self, name: str) -> list[dict[str, Any]]:
        if self._next is None:
            found = next(self._groups, None)
            self._next = None if found is None else (found[0], list(found[1]))
        if self._next is None or self._next[0] != name:
            return []
        group, self._next = self._next[1], None
        return group


def truth_faults(truth: Mapping[str, Any]) -> list[str]:
    """A sentence for each figure that is out of bounds by more than chance."""
    faults = []
    balance, shortcuts = truth["balance"], truth["shortcuts"]
    for share in balance["unbalanced"]:
        faults.append(
            f"The pole “{share['pole']}” takes {share['estimate']:.0%} of the preferences of {share['subdimension']}; "
            "it should be 40 to 60%."
        )
    if balance["entropy"] < LEAST_ENTROPY and balance["preferences_per_pole"] >= FEWEST_PREFERENCES:
        faults.append(
            f"Preferences crowd on a few poles: their entropy is {balance['entropy']:.2f}; it should be {LEAST_ENTROPY} or more."
        )
    if balance["alike"]:
        faults.append(
            f"{balance['alike']:,} of {balance['pairs']:,} pairs of sets of one instruction differ in fewer than three quarters "
            "of their dimensions."
        )
    blind, position = shortcuts["blind"]["accuracy"], shortcuts["position"]["gain"]
    if _above(blind, MOST_BLIND):
        faults.append(
            f"A classifier that does not see the system message tells the chosen answer in {blind['estimate']:.1%} of the pairs "
            f"of instructions that it did not learn from; it should be {MOST_BLIND:.0%} at most."
        )
    if _above(position, MOST_POSITION_GAIN):
        faults.append(
            f"The place in a set tells the dimension of a preference by {position['estimate']:.1%} more often than chance does."
        )
    return faults


def _above(interval: Mapping[str, Any], bound: float) -> bool:
    """Whether a figure is above the bound, and its interval too where it has one."""
    if interval["estimate"] is None or interval["estimate"] <= bound:
        return False
    return interval["low"] is None or interval["low"] > bound
