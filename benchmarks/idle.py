"""What the one-machine system uses of the processor while nothing is to be done: `python -m benchmarks.idle [--seconds 60]`.

All of `multifacet serve` with its defaults: its supervisor, PostgreSQL, Redis, api, controller, worker, autoscaler, launcher,
simulator. CPU seconds of all of them, ended children included, over the seconds of the clock.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import psutil

from benchmarks.machine import OtherLoad, cpu_of_tree
from benchmarks.result_table import Goal, head, print_goals
from services.cli.embedded.state import StateFolder
from services.cli.embedded.supervisor import EmbeddedSystem, default_most_workers, running_system

GOAL_SHARE = 0.03
_SETTLING_SECONDS = 20.0
"""Imports are done, the first look for expired answers is over."""


class Idle(msgspec.Struct, frozen=True):
    """Shares of one core, of all processes together and by process."""

    share: float
    by_process: Mapping[str, float]
    seconds: float
    other_cores: float


def measure_idle(seconds: float) -> Idle:
    """Start the system in a folder of its own, let it settle, and watch it for `seconds`."""
    with tempfile.TemporaryDirectory(prefix="multifacet-idle-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        root.chmod(0o755)  # PostgreSQL's own user must pass through
        state = StateFolder(root / "state")
        with running_system(state, most_workers=default_most_workers(), tell=lambda _: None) as system:
            _supervise(system, _SETTLING_SECONDS)
            load, before, started = OtherLoad(), _cpu(system, state), time.monotonic()
            _supervise(system, seconds)
            after, elapsed = _cpu(system, state), time.monotonic() - started
            other = load.cores()
    by_process = {name: (after[name] - before[name]) / elapsed for name in after}
    return Idle(sum(by_process.values()), by_process, elapsed, other)


def _supervise(system: EmbeddedSystem, seconds: float) -> None:
    """What `multifacet serve` does meanwhile."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        system.supervise()
        time.sleep(1)


def _cpu(system: EmbeddedSystem, state: StateFolder) -> dict[str, float]:
    own = psutil.Process().cpu_times()
    found = {child.name: cpu_of_tree(child.pid) for child in system.children if child.pid is not None}
    for name in ("postgres", "redis"):
        pid, _ = (state.pids / f"{name}.pid").read_text().split()
        found[name] = cpu_of_tree(int(pid))
    return {**found, "supervisor": own.user + own.system}


def goal(idle: Idle) -> Goal:
    parts = ", ".join(f"{name} {share:.2%}" for name, share in sorted(idle.by_process.items(), key=lambda one: -one[1]))
    return Goal(
        "idle one-machine system, all processes",
        f"under {GOAL_SHARE:.0%} of one core",
        f"{idle.share:.2%}",
        idle.share < GOAL_SHARE,
        f"over {idle.seconds:.0f} s: {parts}; others used {idle.other_cores:.1f} cores",
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    head()
    sys.exit(print_goals([goal(measure_idle(options.seconds))]))


if __name__ == "__main__":
    main()
