"""How often a judge is asked about a row of a teacher without slips, by what it is asked for."""

from collections import Counter

import msgspec

from gates.pipeline import run_rows, spec_of, training_rows
from services.simulator.faults import FaultPlan
from shared.domain.plan import StageKind

SCHEMAS = ("set_review", "message_review", "checklist", "facts_review")
COUNTED = ("faithful", "noisy")
"""Judges whose calls are told: one who never errs, and one whose errors cost second looks."""


class Calls(msgspec.Struct, frozen=True):
    """Calls per row of one judge, by schema."""

    judge: str
    rows: int
    per_row: dict[str, float]


def calls_per_row(judge: str, rows: int, seed: int = 0) -> Calls:
    """The calls of a judge (the name of a preset) over so many rows through all row stages, without second tries."""
    calls: Counter[str] = Counter()
    profile = FaultPlan.model_validate({"seed": seed + 1, "judge": judge})
    for outcome in run_rows(
        training_rows(rows), spec_of(seed, judged=True), FaultPlan(seed=seed), profile, StageKind.RESPOND
    ):
        calls += outcome.judge_calls
    return Calls(judge, rows, {schema: calls[schema] / rows for schema in SCHEMAS})
