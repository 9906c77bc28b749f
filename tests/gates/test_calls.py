"""What a row costs in calls of the judge, and that the estimate of a job assumes about as much."""

from gates.calls import SCHEMAS, calls_per_row
from gates.pipeline import run_rows, spec_of, training_rows
from services.simulator.faults import FaultPlan
from shared.domain.plan import StageKind
from shared.llm.estimate import FACTS_CALLS, OPEN_WISHES, REVIEW_CALLS

ROWS = 30


def test_errors_of_a_judge_cost_second_looks_and_the_estimate_lies_between() -> None:
    faithful, noisy = calls_per_row("faithful", ROWS), calls_per_row("noisy", ROWS)
    assert set(faithful.per_row) == set(SCHEMAS)
    for schema, assumed in (
        ("set_review", REVIEW_CALLS["augment"]),
        ("message_review", REVIEW_CALLS["compose"]),
        ("facts_review", FACTS_CALLS),
    ):
        # A row without a living facet costs fewer calls, and few rows tell of rare second looks roughly.
        assert faithful.per_row[schema] <= assumed <= noisy.per_row[schema] + 0.25
    # All about all, twice, in augment; one in compose; one for each answer.
    assert 1.8 < faithful.per_row["set_review"] <= 2
    assert 0.9 < faithful.per_row["message_review"] <= 1
    assert 3 < faithful.per_row["checklist"] <= 4.5


def test_the_estimate_knows_how_many_wishes_a_judge_is_asked_about() -> None:
    faithful = FaultPlan.model_validate({"seed": 1})
    rows = run_rows(training_rows(ROWS), spec_of(0, judged=True), FaultPlan(), faithful, StageKind.RESPOND)
    sources = [verdict.source for outcome in rows for verdict in outcome.row.matrix]
    assert abs(sources.count("judge") / len(sources) - OPEN_WISHES) < 0.06
