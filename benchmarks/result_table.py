"""Printed tables of measured figures beside their goals, with what they were measured on."""

import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

from benchmarks.machine import PROJECT_PATH


class Goal(msgspec.Struct, frozen=True):
    """One figure: what was asked for, what was measured, whether that suffices, and what else is worth knowing."""

    what: str
    goal: str
    measured: str
    reached: bool
    notes: str = ""


def say(text: str) -> None:
    """One line on standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def head() -> None:
    """Date, commit and machine: without these a figure says nothing."""
    memory = psutil.virtual_memory().total / 2**30
    load = ", ".join(f"{value:.1f}" for value in psutil.getloadavg())
    say(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}, {processor()}, {psutil.cpu_count()} cores, {memory:.0f} GB, "
        f"Python {platform.python_version()}, load average before {load}\n"
    )


def print_goals(goals: Sequence[Goal]) -> int:
    """Print the table; returns the exit status: 1 where a goal was missed."""
    say("| what | goal | measured | reached | notes |")
    say("|---|---|---|---|---|")
    for goal in goals:
        say(f"| {goal.what} | {goal.goal} | {goal.measured} | {'yes' if goal.reached else 'NO'} | {goal.notes} |")
    return 0 if all(goal.reached for goal in goals) else 1


def commit() -> str:
    """Short hash of the commit that is checked out, with a plus sign where files were changed since."""
    shown = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=PROJECT_PATH, stdout=subprocess.PIPE, text=True, check=False
    )
    return shown.stdout.strip() or "unknown"


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
