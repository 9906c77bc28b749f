"""The size of the paper through the whole pipeline: `python -m benchmarks.soak_paper [--rows 65666] [--out out/soak]`.

65,666 instructions with three preference sets each (Lee et al. 2024, arXiv 2405.17977, section 3) go from upload to report, on
the one-machine system of `multifacet serve` with the simulator as teacher; no training. The same is done first with a tenth of
them on a system of its own. What is printed, per size: the job's seconds, rows/s (instructions), calls, seconds of each stage,
growth of database and store, highest memory of each process. Time and database bytes per row at the full size shall be at most
1.3 times those at a tenth of it: nothing grows faster than the rows. Samples go into `<out>/paper-<rows>.csv` and `.png`.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import psycopg

from benchmarks.instructions import write_instructions
from benchmarks.machine import OtherLoad
from benchmarks.resource_plot import plot
from benchmarks.resources import ResourceLog
from benchmarks.result_table import Goal, head, print_goals, say
from services.cli.client import ApiClient
from services.cli.embedded.state import StateFolder
from services.cli.embedded.supervisor import running_system
from shared.metadata.engine import connection_string

PAPER_ROWS, SETS = 65_666, 3
GOAL_GROWTH = 1.3
_LONGEST_SECONDS = 8 * 3600.0


class SoakRun(msgspec.Struct, frozen=True):
    """Figures of one size. Bytes are growth from before the upload to after the end; `peaks` in MB of 2^20 bytes."""

    rows: int
    seconds: float
    calls: int
    facets: int
    rejected: Mapping[str, int]
    stages: Mapping[str, float]
    """Seconds from the start of each stage to its end; row stages overlap."""
    database_bytes: int
    tables: Mapping[str, int]
    """Bytes of the largest tables, with their indexes."""
    store_bytes: int
    peaks: Mapping[str, float]
    other_cores: float


def run_size(rows: int, seed: int, out: Path) -> SoakRun:
    """Run the pipeline over so many instructions on a fresh system. Raises RuntimeError where the job does not succeed."""
    with tempfile.TemporaryDirectory(prefix="multifacet-soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL's own user must pass through
        source = folder / "instructions.jsonl"
        write_instructions(source, rows, seed)
        state = StateFolder(folder / "state")
        with running_system(state, tell=lambda _: None) as system:
            record = state.record()
            assert record is not None
            database = connection_string(record.database_url)

            def value(query: str) -> int:
                with psycopg.connect(database, autocommit=True) as connection:
                    row = connection.execute(query.encode()).fetchone()
                return 0 if row is None or row[0] is None else int(row[0])

            def processes() -> dict[str, int]:
                found = {child.name: child.pid for child in system.children if child.pid is not None}
                for server in ("postgres", "redis"):
                    found[server] = int((state.pids / f"{server}.pid").read_text().split()[0])
                return found

            done = "SELECT COALESCE(sum((ledger->>'rows_in')::bigint), 0) FROM stage WHERE kind = 'respond'"
            size = "SELECT pg_database_size(current_database())"
            store = state.root / "artifacts"
            log = ResourceLog(processes, lambda: value(done), lambda: value(size), store)
            load, client = OtherLoad(), ApiClient(system.api_url)
            with log:
                started = time.monotonic()
                job = client.post(
                    "/v1/jobs",
                    {
                        "name": f"paper's size, {rows} instructions",
                        "sources": [{"file": client.upload(source)["id"]}],
                        "teacher": {"provider": "simulator", "model": "simulator-large"},
                        "augment": {"sets_per_instruction": SETS},
                        # The simulator writes by patterns: of many messages ever more would count as near to held-out
                        # ones, and the larger collection would lack them.
                        "splits": {"maximum_containment": 1.0},
                    },
                )
                while job["state"] not in {"succeeded", "failed", "cancelled"}:
                    if time.monotonic() - started > _LONGEST_SECONDS:
                        raise RuntimeError(f"the job is still {job['state']} after {_LONGEST_SECONDS:,.0f} s")
                    system.supervise()
                    time.sleep(1)
                    job = client.get(f"/v1/jobs/{job['id']}")
                seconds = time.monotonic() - started
            if job["state"] != "succeeded":
                raise RuntimeError(f"the job is {job['state']}: {job.get('error')}")
            with psycopg.connect(database, autocommit=True) as connection:
                stages = connection.execute(
                    "SELECT name, EXTRACT(epoch FROM finished_at - started_at), ledger FROM stage ORDER BY ordinal"
                ).fetchall()
                tables = connection.execute(
                    "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' "
                    "AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC LIMIT 6"
                ).fetchall()
            calls = value('SELECT sum(calls) FROM "usage"')
            other = load.cores()
    log.write_csv(out / f"paper-{rows}.csv")
    plot(log.samples, out / f"paper-{rows}.png")
    first, last = log.samples[0], log.samples[-1]
    ledgers = {name: ledger for name, _, ledger in stages}
    return SoakRun(
        rows=rows,
        seconds=seconds,
        calls=calls,
        facets=int(ledgers["assemble"]["facets_out"]),
        rejected={
            name: int(ledger["rows_rejected"]) + int(ledger["facets_rejected"]) for name, ledger in ledgers.items()
        },
        stages={name: float(spent) for name, spent, _ in stages},
        database_bytes=int((last.database_mb - first.database_mb) * 2**20),
        tables=dict(tables),
        store_bytes=int((last.store_mb - first.store_mb) * 2**20),
        peaks=log.peaks(),
        other_cores=other,
    )


def tell(run: SoakRun) -> None:
    """Print all figures of one size."""
    say(
        f"{run.rows:,} instructions x {SETS}: {run.seconds:,.0f} s, {run.rows / run.seconds:.1f} rows/s, {run.calls:,} calls "
        f"({run.calls / run.seconds:.0f}/s), {run.facets:,} facets in the collection; others used {run.other_cores:.1f} cores"
    )
    say("  seconds: " + ", ".join(f"{name} {seconds:,.1f}" for name, seconds in run.stages.items()))
    say("  rejected: " + ", ".join(f"{name} {count:,}" for name, count in run.rejected.items() if count))
    say(
        f"  database + {run.database_bytes / 2**20:,.1f} MB ({run.database_bytes / run.rows:,.0f} bytes/row), "
        f"store + {run.store_bytes / 2**20:,.1f} MB ({run.store_bytes / run.rows:,.0f} bytes/row)"
    )
    say("  largest tables: " + ", ".join(f"{name} {size / 2**20:,.1f} MB" for name, size in run.tables.items()))
    say("  peak MB: " + ", ".join(f"{name} {megabytes:,.0f}" for name, megabytes in run.peaks.items()) + "\n")


def goals(small: SoakRun, large: SoakRun) -> list[Goal]:
    time_ratio = (large.seconds / large.rows) / (small.seconds / small.rows)
    byte_ratio = (large.database_bytes / large.rows) / (small.database_bytes / small.rows)
    bound = f"at most {GOAL_GROWTH} times"
    sizes = f"{large.rows:,} against {small.rows:,} rows"
    return [
        Goal("seconds per row", bound, f"{time_ratio:.2f} times", time_ratio <= GOAL_GROWTH, sizes),
        Goal("database bytes per row", bound, f"{byte_ratio:.2f} times", byte_ratio <= GOAL_GROWTH, sizes),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak_paper", description=__doc__)
    parser.add_argument(
        "--rows", type=int, default=PAPER_ROWS, help=f"instructions (default: the paper's {PAPER_ROWS:,})"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the instructions")
    parser.add_argument("--out", type=Path, default=Path("out/soak"), help="folder for the samples")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    head()
    runs = []
    for rows in (max(1, options.rows // 10), options.rows):
        runs.append(run_size(rows, options.seed, options.out))
        tell(runs[-1])
    sys.exit(print_goals(goals(*runs)))


if __name__ == "__main__":
    main()
