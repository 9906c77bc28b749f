"""The benchmark table: `python -m benchmarks [--cases fixed,tail,…] [--repeats 3] [--rows N] [--large]`.

Everything runs on this machine: the endpoint, the clients, PostgreSQL, Redis, the store and the product's processes.
"""

import argparse
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks import respond_stage
from benchmarks.explorer_page import measure_explorer
from benchmarks.machine import PROJECT_PATH, Machine, OtherLoad
from benchmarks.raw_clients import CLIENTS, measure_raw
from benchmarks.respond_stage import CASES, Case, Measured, median

_RAW = ("fixed", "tail", "fast")
_SMALL_STAGE_ROWS, _LARGE_STAGE_ROWS, _LARGEST_STAGE_ROWS = 2_000, 50_000, 200_000
_EXPLORER_ROWS = 200_000
_AUDIT_ROWS = 50_000


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _row(case: str, what: str, rate: str, ideal: str, cpu: str, peak: str, notes: str) -> None:
    _say(f"| {case:<10} | {what:<20} | {rate:>16} | {ideal:>5} | {cpu:>22} | {peak:>7} | {notes} |")


def _head() -> None:
    memory = psutil.virtual_memory().total / 2**30
    _say(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {_processor()}, {psutil.cpu_count()} cores, {memory:.0f} GB, "
        f"Python {platform.python_version()}, load average before {', '.join(f'{x:.1f}' for x in psutil.getloadavg())}\n"
    )
    _row("case", "what", "rows/s (runs)", "ideal", "CPU ms/row", "peak MB", "notes")
    _say(f"|{'-' * 12}|{'-' * 22}|{'-' * 18}|{'-' * 7}|{'-' * 24}|{'-' * 9}|-------|")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _rates(rates: list[float]) -> str:
    middle = sorted(rates)[len(rates) // 2]
    return f"{middle:.0f} ({'/'.join(f'{rate:.0f}' for rate in rates)})" if len(rates) > 1 else f"{middle:.0f}"


def _raw(case: Case, repeats: int, rows: int | None) -> None:
    for client in CLIENTS:
        runs = [
            measure_raw(client, (*case.endpoint, "--seed", str(repeat)), rows or case.rows) for repeat in range(repeats)
        ]
        middle = sorted(runs, key=lambda run: run.rows_per_second)[len(runs) // 2]
        share = f"{middle.rows_per_second / case.ideal:.0%}" if case.ideal else ""
        rates = _rates([run.rows_per_second for run in runs])
        _row(case.name, f"raw {client}", rates, share, f"{middle.cpu_ms:.2f}", f"{middle.peak_mb:.0f}", case.title)


def _stage(machine: Machine, case: Case, repeats: int, rows: int | None) -> None:
    runs = [respond_stage.measure(machine, case, rows=rows, repeat=repeat) for repeat in range(repeats)]
    _stage_row(case.name, f"respond stage, {runs[0].rows:,}", runs, case.ideal, case.goal)


def _stage_row(name: str, what: str, runs: list[Measured], ideal: float | None, goal: str) -> None:
    middle = median(runs)
    rates = _rates([run.rows_per_second for run in runs])
    share = f"{middle.rows_per_second / ideal:.0%}" if ideal else ""
    cpu = f"{middle.cpu_ms:.2f} = {middle.worker_ms:.2f} + {middle.servers_ms:.2f}"
    missing = "" if middle.facets_out == middle.rows else f", {middle.rows - middle.facets_out} rows rejected"
    notes = (
        f"{middle.calls} calls, {middle.rejected} rejected ({middle.rejected / middle.rows:.1%} of rows), "
        f"{middle.failed} failed{missing}; controller {middle.controller_ms:.2f} ms/row; others used "
        f"{middle.other_cores:.1f} cores{f'; goal {goal}' if goal else ''}"
    )
    _row(name, what, rates, share, cpu, f"{middle.peak_mb:.0f}", notes)


def _rerun(machine: Machine, rows: int | None) -> None:
    counts = respond_stage.calls_of_reruns(machine, rows or 500)
    _row("rerun", "respond stage", "", "", "", "", f"calls {'/'.join(map(str, counts))}; goal 500/0/50")


def _kill(machine: Machine, repeats: int, rows: int | None) -> None:
    for _ in range(repeats):
        killed = respond_stage.killed_at_half(machine, rows or 1000)
        _row(
            "kill", f"respond stage, {killed.rows:,}", "", "", "", "",
            f"SIGKILL at half: {killed.paid_twice} calls paid twice, {killed.in_doubt} were in flight or answered in the "
            f"100 ms before; {killed.facets_out} rows out after "
            f"{killed.seconds:.1f} s",
        )  # fmt: skip


def _memory(machine: Machine, rows: int) -> None:
    small = respond_stage.memory_of(machine, _SMALL_STAGE_ROWS)
    large = respond_stage.memory_of(machine, rows)
    _stage_row("memory", f"respond stage, {small.rows:,}", [small], None, "")
    _stage_row("memory", f"respond stage, {large.rows:,}", [large], None, "")
    _say(f"  peak of the larger / smaller stage: {large.peak_mb / small.peak_mb:.2f}; goal <= 1.3")


def _near_duplicates(rows: int) -> None:
    _say("\nnear duplicates")
    command = [sys.executable, str(PROJECT_PATH / "benchmarks" / "near_duplicates.py"), str(rows)]
    _say(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=PROJECT_PATH).stdout)


def _audit(rows: int) -> None:
    _say("\naudit")
    command = [sys.executable, "-m", "benchmarks.audit_cost", str(rows)]
    _say(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=PROJECT_PATH).stdout)


def _explorer(machine: Machine, rows: int) -> None:
    _say(f"\nexplorer over {rows:,} rows, ms (first = the first request of that kind)")
    for line in measure_explorer(machine, rows):
        _say(f"  {line}")


def main() -> None:
    names = [*(case.name for case in CASES), "rerun", "kill", "memory", "explorer", "near_duplicates", "audit"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The benchmark table")
    parser.add_argument("--cases", default=",".join(names), help=f"default: all of {', '.join(names)}")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, help="rows of every case (default: each case's own)")
    parser.add_argument("--large", action="store_true", help="compare the memory with a stage of 200,000 rows")
    parser.add_argument("--no-raw", action="store_true", help="leave the raw clients out")
    options = parser.parse_args()
    chosen = options.cases.split(",")
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        parser.error(f"unknown cases {', '.join(unknown)}; choose from {', '.join(names)}")
    load = OtherLoad()
    _head()
    large_rows = options.rows or (_LARGEST_STAGE_ROWS if options.large else _LARGE_STAGE_ROWS)
    with Machine() as machine:
        for case in CASES:
            if case.name in chosen:
                if case.name in _RAW and not options.no_raw:
                    _raw(case, options.repeats, options.rows)
                _stage(machine, case, options.repeats, options.rows)
        rest: dict[str, Callable[[], None]] = {
            "rerun": lambda: _rerun(machine, options.rows),
            "kill": lambda: _kill(machine, options.repeats, options.rows),
            "memory": lambda: _memory(machine, large_rows),
            "explorer": lambda: _explorer(machine, options.rows or _EXPLORER_ROWS),
            "near_duplicates": lambda: _near_duplicates(options.rows or _EXPLORER_ROWS),
            "audit": lambda: _audit(options.rows or _AUDIT_ROWS),
        }
        for name, run in rest.items():
            if name in chosen:
                run()
    _say(f"\nother processes of this machine used {load.cores():.1f} cores on average meanwhile")


if __name__ == "__main__":
    main()
