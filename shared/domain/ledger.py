"""Counts of a step or stage. The promise: what goes in comes out or is counted as rejected, with a reason."""

from collections.abc import Iterable

import msgspec

from shared.domain.rows import InstructionRow


class Ledger(msgspec.Struct):
    """Rows and facets of a row stage (or of curation, where only rows exist).

    rows_in = rows_out + rows_rejected and facets_in = facets_out + facets_rejected hold whenever `check` passes.
    `reasons` counts rejected facets (rejected rows in stages without facets) by reason.
    """

    rows_in: int = 0
    rows_out: int = 0
    rows_rejected: int = 0
    facets_in: int = 0
    facets_out: int = 0
    facets_rejected: int = 0
    reasons: dict[str, int] = {}

    def add(self, other: "Ledger") -> None:
        self.rows_in += other.rows_in
        self.rows_out += other.rows_out
        self.rows_rejected += other.rows_rejected
        self.facets_in += other.facets_in
        self.facets_out += other.facets_out
        self.facets_rejected += other.facets_rejected
        for reason, count in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count

    def check(self) -> None:
        """Raise ValueError where the counts do not add up."""
        if self.rows_in != self.rows_out + self.rows_rejected:
            raise ValueError(
                f"rows do not add up: {self.rows_in} in, {self.rows_out} out, {self.rows_rejected} rejected"
            )
        if self.facets_in != self.facets_out + self.facets_rejected:
            raise ValueError(
                f"facets do not add up: {self.facets_in} in, {self.facets_out} out, {self.facets_rejected} rejected"
            )
        rejected = self.facets_rejected if self.facets_in else self.rows_rejected
        if sum(self.reasons.values()) != rejected:
            raise ValueError(f"reasons do not add up: {self.reasons} against {rejected} rejected")

    @property
    def reject_rate(self) -> float:
        """Share of what came in that was rejected here: of facets where there are any, else of rows."""
        if self.facets_in:
            return self.facets_rejected / self.facets_in
        return self.rows_rejected / self.rows_in if self.rows_in else 0.0


def row_ledger(row: InstructionRow, stage: str) -> Ledger:
    """The ledger of one finished row of the stage called `stage`.

    Facets rejected by an earlier stage do not count: they were counted there. A row counts as in when it had a living
    facet before this stage, and as rejected when this stage rejected its last one.
    """
    ledger = Ledger()
    for facet in row.facets:
        if facet.rejection is None:
            ledger.facets_in += 1
            ledger.facets_out += 1
        elif facet.rejection.stage == stage:
            ledger.facets_in += 1
            ledger.facets_rejected += 1
            ledger.reasons[facet.rejection.reason] = ledger.reasons.get(facet.rejection.reason, 0) + 1
    if ledger.facets_in:
        ledger.rows_in = 1
        ledger.rows_out = 1 if ledger.facets_out else 0
        ledger.rows_rejected = 1 - ledger.rows_out
    return ledger


def total(ledgers: Iterable[Ledger]) -> Ledger:
    """Sum of ledgers."""
    result = Ledger()
    for ledger in ledgers:
        result.add(ledger)
    return result
