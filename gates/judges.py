"""Does the record of controls tell bad judges from good ones? The unit is a simulated job."""

import msgspec

from gates.pipeline import run_rows, spec_of, training_rows
from services.simulator.faults import FaultPlan
from shared.domain.plan import StageKind
from shared.statistics.intervals import Interval, proportion_interval
from shared.statistics.judge_record import ControlCounts, JudgeRecord

JOB_ROWS = 60
FLAGGED = ("lenient", "length_biased")
TOLD_APART: dict[str, bool] = {"faithful": False, "noisy": False, "lenient": True, "length_biased": True}
"""Judges, and whether their record should be a fault. `injectable` is left to the gate of injected answers: with sound answers
it errs nowhere."""


class JudgeResult(msgspec.Struct, frozen=True):
    """Share of the jobs of one judge whose record is a fault, with its Wilson interval."""

    judge: str
    should_be_flagged: bool
    flagged: Interval


def record_of(judge: str, seed: int) -> JudgeRecord:
    """The record of a judge (the name of a preset) after a job of 60 rows, over the answers that were kept, as in a report."""
    rows = training_rows(JOB_ROWS * (seed + 1))[-JOB_ROWS:]
    teacher = FaultPlan.model_validate({"seed": 2 * seed})
    profile = FaultPlan.model_validate({"seed": 2 * seed + 1, "judge": judge})
    counts = ControlCounts()
    for outcome in run_rows(rows, spec_of(seed, judged=True), teacher, profile, StageKind.RESPOND):
        for facet in outcome.row.facets:
            if facet.alive:
                counts.add(outcome.row.row_id, facet.scores)
    return counts.record()


def measure_judge(judge: str, jobs: int) -> JudgeResult:
    """So many jobs, each of another seed and with other rows."""
    flagged = sum(record_of(judge, seed).verdict in FLAGGED for seed in range(jobs))
    return JudgeResult(judge, TOLD_APART[judge], proportion_interval(flagged, jobs))
