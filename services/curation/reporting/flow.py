"""What each stage took in, let through and rejected, and whether it adds up over the whole job."""

from collections.abc import Mapping
from typing import Any

from shared.domain.ledger import Ledger
from shared.domain.plan import COLLECTION_PLAN


def flow_of(ledgers: Mapping[str, Ledger]) -> list[dict[str, Any]]:
    """One record per stage of the collection, in the order of the plan: counts, reasons (most frequent first) and `faults`.

    `faults` are sentences that say which counts do not add up, within the stage or against the one before; normally none.
    """
    order = [stage.name for stage in COLLECTION_PLAN]
    names = sorted((name for name in ledgers if name in order), key=order.index)  # a training's rows come out nowhere
    flow: list[dict[str, Any]] = []
    before: Ledger | None = None
    for name in names:
        ledger = ledgers[name]
        if not (ledger.rows_in or ledger.facets_in):
            continue
        flow.append(
            {
                "stage": name,
                "rows_in": ledger.rows_in,
                "rows_out": ledger.rows_out,
                "rows_rejected": ledger.rows_rejected,
                "facets_in": ledger.facets_in,
                "facets_out": ledger.facets_out,
                "facets_rejected": ledger.facets_rejected,
                "reject_rate": ledger.reject_rate,
                "reasons": sorted(ledger.reasons.items(), key=lambda item: (-item[1], item[0])),
                "unit": "facets" if ledger.facets_in else "instructions",
                "faults": _faults(name, ledger, before),
            }
        )
        before = ledger
    return flow


def _faults(name: str, ledger: Ledger, before: Ledger | None) -> list[str]:
    faults: list[str] = []
    try:
        ledger.check()
    except ValueError as error:
        faults.append(f"{name}: {error}")
    if before is not None and ledger.rows_in != before.rows_out:
        faults.append(f"{name}: {ledger.rows_in} instructions in, but {before.rows_out} came out of the stage before")
    if before is not None and before.facets_in and ledger.facets_in != before.facets_out:
        faults.append(f"{name}: {ledger.facets_in} facets in, but {before.facets_out} came out of the stage before")
    return faults


def unit_bars(flow: list[dict[str, Any]], unit: str) -> list[dict[str, Any]]:
    """Records for `shared.charts.flow_bars` of the stages that count `unit` (`rows` or `facets`)."""
    return [
        {"stage": stage["stage"], "out": stage[f"{unit}_out"], "rejected": stage[f"{unit}_rejected"]}
        for stage in flow
        if stage[f"{unit}_in"]
    ]
