"""Each module measures one thing: `measure(data)` returns its findings, always the same ones, whatever the layout."""

from collections.abc import Callable

from shared.audit.data import AuditData
from shared.audit.findings import Finding
from shared.audit.measures import (
    answers,
    balance,
    compression,
    contamination,
    contradictions,
    moot,
    neighbours,
    openings,
    pair_orders,
    preference_labels,
    provenance,
    rejected,
    shortcuts,
    system_shape,
)

MEASURES: dict[str, tuple[Callable[[AuditData], list[Finding]], ...]] = {
    "Preferences": (balance.measure, preference_labels.measure),
    "System messages": (system_shape.measure, contradictions.measure),
    "Repetition": (neighbours.measure, compression.measure, openings.measure),
    "Answers": (answers.measure, moot.measure, rejected.measure),
    "Shortcuts": (shortcuts.measure, pair_orders.measure),
    "Origin": (contamination.measure, provenance.measure),
}
"""By the section that they are shown in."""
