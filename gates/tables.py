"""The tables of the gates, on the terminal and in a Markdown file between two marks."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from shared.statistics.intervals import Interval

BEGIN, END = "<!-- gates: written by `python -m gates --markdown` -->", "<!-- gates: end -->"


class Written(msgspec.Struct):
    """A table row by row."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = []

    def print(self, console: Console) -> None:
        table = Table(*self.columns, title=self.title)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)

    def markdown(self) -> str:
        lines = [self.columns, tuple("---" for _ in self.columns), *self.rows]
        return f"{self.title}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share_text(interval: Interval) -> str:
    """A share with its interval and what it is a share of."""
    if interval.estimate is None or interval.low is None or interval.high is None:
        return "nothing to count"
    return f"{interval.estimate:.1%} ({interval.low:.1%} to {interval.high:.1%}, n={interval.clusters})"


def provenance(command: str) -> str:
    """Where figures come from: command, day (UTC), cores of the machine, commit of the working tree."""
    commit = _git("rev-parse", "--short", "HEAD")
    changed = " with changes" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return f"`{command}`, {datetime.now(UTC).date()}, {os.cpu_count()} cores, commit {commit or 'unknown'}{changed}."


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def write_markdown(path: Path, text: str) -> None:
    """Puts the text between the marks of a file, at the end of one that has none, or into a new one.

    Raises ValueError for a file with one mark alone, or with both in the wrong order.
    """
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    begin, end = old.find(BEGIN), old.find(END)
    if (begin < 0) != (end < 0) or end < begin:
        raise ValueError(
            f"{path} has one of the two marks, or the last before the first; set both: {BEGIN!r} and {END!r}"
        )
    before = old[:begin] if begin >= 0 else f"{old.rstrip()}\n\n" if old.strip() else ""
    after = old[end + len(END) :] if end >= 0 else "\n"
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
