"""Trying scenarios, and the table of what became of them."""

import os
import platform
import statistics
import subprocess
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from shared.domain.identifiers import seed_of
from tests.chaos.invariants import check
from tests.chaos.scenario import Broken, Outcome, Scenario
from tests.chaos.servers import Grounds
from tests.chaos.world import World

_HEAD = ("family", "fault", "tries", "survived", "lost rows", "calls paid twice", "recovery s, median (worst)")


async def attempt(scenario: Scenario, seed: int, grounds: Grounds) -> Outcome:
    """One try in a world of its own. Whatever goes wrong in it is told in the outcome."""
    async with World(grounds, seed_of(seed, scenario.name), **scenario.world) as world:
        violations: list[str] = []
        remark = ""
        try:
            remark = await scenario.run(world) or ""
        except (Broken, TimeoutError, subprocess.TimeoutExpired) as error:
            violations.append(f"{type(error).__name__}: {error}")
        except Exception:  # noqa: BLE001  a try that breaks the harness itself must not end the others
            violations.append(traceback.format_exc())
        try:
            report = await check(world)
        except Exception:  # noqa: BLE001
            return Outcome(False, detail="\n".join([*violations, traceback.format_exc()]))
        violations += report.violations
        if violations:
            remark = "\n".join([*violations, *([f"({remark})"] if remark else [])])
        elif report.calls_in_flight:
            remark = f"{remark}; {report.calls_in_flight} calls in flight asked again"
        return Outcome(
            survived=not violations,
            lost_rows=report.lost_rows,
            calls_paid_twice=report.calls_paid_twice,
            recovery_seconds=report.recovery_seconds,
            detail=remark,
        )


class Line(msgspec.Struct, frozen=True):
    """All tries of one scenario."""

    scenario: Scenario
    outcomes: tuple[Outcome, ...]

    @property
    def survived(self) -> bool:
        return all(outcome.survived for outcome in self.outcomes)

    def cells(self) -> tuple[str, ...]:
        seconds = [one.recovery_seconds for one in self.outcomes if one.recovery_seconds is not None]
        recovery = f"{statistics.median(seconds):.1f} ({max(seconds):.1f})" if seconds else "-"
        return (
            self.scenario.family,
            self.scenario.fault,
            str(len(self.outcomes)),
            str(sum(outcome.survived for outcome in self.outcomes)),
            str(sum(outcome.lost_rows for outcome in self.outcomes)),
            str(sum(outcome.calls_paid_twice for outcome in self.outcomes)),
            recovery,
        )


def heading(seed: int, grounds: Grounds) -> str:
    """Date, machine and commit of a run."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=False).stdout
    load = os.getloadavg()[0]
    commit = (commit.strip() or "unknown") + (" with changes" if changed.strip() else "")
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit}, "
        f"seed {seed}, {os.cpu_count()} x {_processor()}, Linux {platform.release()}, load {load:.1f}; "
        f"times of leases x {grounds.pace:.1f}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def markdown(lines: Sequence[Line]) -> str:
    """The table as docs/reliability.md has it."""
    rows = [_HEAD, tuple("---" for _ in _HEAD), *(line.cells() for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
