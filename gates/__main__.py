"""`python -m gates`: the table of docs/gates.md."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from gates.judges import TOLD_APART, measure_judge
from gates.measure import GATES, Result, measure
from services.simulator.judge_profile import preset_names
from shared.statistics.intervals import Interval

LEAST_RECALL, MOST_FALSE_REJECTS = 0.95, 0.02
TOO_KIND = ("lenient",)
"""Judges who overlook so much that no second look helps: the table shows what they cost, and their record of controls is to tell.
With all others every gate must reach the bounds."""


def main() -> int:
    """Prints the table; 1 where a gate misses its bounds."""
    parser = argparse.ArgumentParser(prog="python -m gates", description=__doc__)
    parser.add_argument("--rows", type=int, default=400, help="instructions per gate and judge")
    parser.add_argument("--gate", action="append", help="only these gates")
    parser.add_argument("--judge", action="append", help="only these judges")
    parser.add_argument("--jobs", type=int, default=40, help="simulated jobs per judge, for the record of controls")
    parser.add_argument("--only-judges", action="store_true", help="only the record of controls")
    arguments = parser.parse_args()
    console = Console(width=150)
    table = Table("planted", "found by", "judge", "recall", "false rejects", "", title="Gates on simulated slips")
    missed = 0
    for gate in GATES:
        if arguments.only_judges or (arguments.gate and gate.slip not in arguments.gate):
            continue
        for judge in preset_names() if gate.judged else ("none",):
            if arguments.judge and judge not in (*arguments.judge, "none"):
                continue
            result = measure(gate, "faithful" if judge == "none" else judge, arguments.rows)
            good = _good(result)
            bound = judge not in TOO_KIND
            missed += bound and not good
            verdict = "ok" if good else "missed" if bound else "not with this judge"
            console.print(f"{gate.slip} {judge}: {_share(result.recall)} {_share(result.false_rejects)}", style="dim")
            table.add_row(gate.slip, gate.by, judge, _share(result.recall), _share(result.false_rejects), verdict)
    if table.row_count:
        console.print(table)
    if arguments.only_judges or not arguments.gate:
        missed += _judges(console, arguments.jobs, arguments.judge)
    return 1 if missed else 0


def _judges(console: Console, jobs: int, wanted: Sequence[str] | None) -> int:
    """Prints how often the record of each judge is a fault; returns how many miss the bounds."""
    table = Table("judge", "should be flagged", "jobs flagged", "", title="Judges by their record of controls")
    missed = 0
    for judge in TOLD_APART:
        if wanted and judge not in wanted:
            continue
        result = measure_judge(judge, jobs)
        share = result.flagged.estimate or 0.0
        good = share >= LEAST_RECALL if result.should_be_flagged else share <= MOST_FALSE_REJECTS
        missed += not good
        should = "yes" if result.should_be_flagged else "no"
        console.print(f"{judge}: {_share(result.flagged)}", style="dim")
        table.add_row(judge, should, _share(result.flagged), "ok" if good else "missed")
    console.print(table)
    return missed


def _good(result: Result) -> bool:
    recall, wrong = result.recall.estimate, result.false_rejects.estimate
    return recall is not None and wrong is not None and recall >= LEAST_RECALL and wrong <= MOST_FALSE_REJECTS


def _share(interval: Interval) -> str:
    if interval.estimate is None or interval.low is None or interval.high is None:
        return "nothing to count"
    return f"{interval.estimate:6.1%} ({interval.low:.1%} to {interval.high:.1%}, n={interval.clusters})"


if __name__ == "__main__":
    sys.exit(main())
