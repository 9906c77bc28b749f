"""`python -m gates`: the tables of docs/gates.md."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path

from rich.console import Console

from gates.calls import COUNTED, SCHEMAS, calls_per_row
from gates.judges import TOLD_APART, measure_judge
from gates.measure import GATES, Gate, Result, measure
from gates.tables import Written, provenance, share_text, write_markdown

LEAST_RECALL, MOST_FALSE_REJECTS = 0.95, 0.02
NOBODY = "none"
TOO_KIND = ("lenient",)
"""Judges who overlook so much that no second look helps: the table shows what they cost, and their record of controls is to tell.
With all others every gate must reach the bounds."""


def main() -> int:
    """Prints the tables; 1 where a gate or the record of a judge misses its bounds."""
    parser = argparse.ArgumentParser(prog="python -m gates", description=__doc__)
    parser.add_argument(
        "--rows", type=int, default=400, help="instructions per gate and judge; in augment three times as many"
    )
    parser.add_argument("--gate", action="append", help="only these gates")
    parser.add_argument("--judge", action="append", help="only these judges")
    parser.add_argument("--jobs", type=int, default=40, help="simulated jobs per judge, for the record of controls")
    parser.add_argument("--only-judges", action="store_true", help="only the record of controls")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="measurements at the same time")
    parser.add_argument("--markdown", type=Path, help="also write the tables into this file, between its marks")
    arguments = parser.parse_args()
    console = Console(width=150)
    tables, missed = [], 0
    with ProcessPoolExecutor(arguments.processes) as pool:
        if not arguments.only_judges:
            table, missed = _gates(pool, console, arguments.rows, arguments.gate, arguments.judge)
            tables.append(table)
        if arguments.only_judges or not arguments.gate:
            table, not_told = _judges(pool, arguments.jobs, arguments.judge)
            tables.append(table)
            missed += not_told
        if not arguments.only_judges and not arguments.gate:
            tables.append(_calls(pool, arguments.rows, arguments.judge))
    for table in tables:
        table.print(console)
    if arguments.markdown is not None:
        source = provenance(f"python -m gates --rows {arguments.rows}{_more(arguments)}")
        write_markdown(arguments.markdown, "\n\n".join([source, *(table.markdown() for table in tables)]))
    return 1 if missed else 0


def _more(arguments: argparse.Namespace) -> str:
    """The options that narrow what is measured, as they are written."""
    named = [(name, value) for name in ("gate", "judge") for value in getattr(arguments, name) or ()]
    said = [f"--{name} {shlex.quote(value)}" for name, value in named]
    said += [f"--jobs {arguments.jobs}"] if arguments.jobs != 40 else []
    said += ["--only-judges"] if arguments.only_judges else []
    return "".join(f" {one}" for one in said)


def _measured(case: tuple[Gate, str], rows: int) -> Result:
    gate, judge = case
    return measure(gate, "faithful" if judge == NOBODY else judge, gate.rows(rows))


def _gates(
    pool: ProcessPoolExecutor, console: Console, rows: int, gates: Sequence[str] | None, judges: Sequence[str] | None
) -> tuple[Written, int]:
    """What each gate finds and turns away with each judge, and how many miss the bounds. Progress is told as it comes."""
    cases = [
        (gate, judge)
        for gate in GATES
        if not gates or gate.slip in gates
        for judge in gate.judges or (NOBODY,)
        if not judges or judge in (*judges, NOBODY)
    ]
    table = Written("Gates on simulated slips", ("planted", "found by", "judge", "recall", "false rejects", "bounds"))
    missed = 0
    for (gate, judge), result in zip(cases, pool.map(partial(_measured, rows=rows), cases), strict=True):
        good, bound = _good(result), judge not in TOO_KIND
        missed += bound and not good
        verdict = "ok" if good else "missed" if bound else "not with this judge"
        shares = share_text(result.recall), share_text(result.false_rejects)
        console.print(f"{gate.slip} {judge}: {shares[0]} {shares[1]}", style="dim")
        table.rows.append((gate.slip, gate.by, judge, *shares, verdict))
    return table, missed


def _judges(pool: ProcessPoolExecutor, jobs: int, wanted: Sequence[str] | None) -> tuple[Written, int]:
    """How often the record of each judge is a fault, and how many miss the bounds."""
    table = Written("Judges by their record of controls", ("judge", "should be flagged", "jobs flagged", "bounds"))
    missed = 0
    judges = [judge for judge in TOLD_APART if not wanted or judge in wanted]
    for result in pool.map(measure_judge, judges, repeat(jobs)):
        share = result.flagged.estimate or 0.0
        good = share >= LEAST_RECALL if result.should_be_flagged else share <= MOST_FALSE_REJECTS
        missed += not good
        should = "yes" if result.should_be_flagged else "no"
        table.rows.append((result.judge, should, share_text(result.flagged), "ok" if good else "missed"))
    return table, missed


def _calls(pool: ProcessPoolExecutor, rows: int, wanted: Sequence[str] | None) -> Written:
    """How often a judge is asked about a row."""
    table = Written(f"Calls of the judge per row, over {rows} rows without slips or second tries", ("judge", *SCHEMAS))
    judges = [judge for judge in COUNTED if not wanted or judge in wanted]
    for counted in pool.map(calls_per_row, judges, repeat(rows)):
        table.rows.append((counted.judge, *(f"{counted.per_row[schema]:.2f}" for schema in SCHEMAS)))
    return table


def _good(result: Result) -> bool:
    recall, wrong = result.recall.estimate, result.false_rejects.estimate
    return recall is not None and wrong is not None and recall >= LEAST_RECALL and wrong <= MOST_FALSE_REJECTS


if __name__ == "__main__":
    sys.exit(main())
