"""Runs all measures on one data set, and compares two."""

from collections.abc import Callable, Iterator

import msgspec

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Verdict
from shared.audit.levels import LevelFigures, level_figures
from shared.audit.measures import MEASURES
from shared.statistics.intervals import LEVEL, Interval, difference_interval

AUDIT_SCHEMA_VERSION = "audit/2"


class Section(msgspec.Struct, frozen=True):
    title: str
    findings: tuple[Finding, ...]


class Audit(msgspec.Struct, frozen=True):
    """All findings about one data set. `rows` of `available` were looked at, those of `instructions` instructions."""

    name: str
    layout: str
    rows: int
    available: int
    instructions: int
    unreadable: int
    simulated: bool
    sections: tuple[Section, ...]
    levels: tuple[LevelFigures, ...] = ()
    """By split and level, of the layout that has them."""
    level: float = LEVEL
    schema_version: str = AUDIT_SCHEMA_VERSION

    def findings(self) -> Iterator[Finding]:
        for section in self.sections:
            yield from section.findings

    def count(self, verdict: Verdict) -> int:
        """How many findings have a verdict."""
        return sum(found.verdict == verdict for found in self.findings())


class Comparison(msgspec.Struct, frozen=True):
    """Two data sets: `differences` by the name of a finding, first minus second, of figures that both have."""

    first: Audit
    second: Audit
    differences: dict[str, Interval]
    schema_version: str = AUDIT_SCHEMA_VERSION


def audit_data(data: AuditData, progress: Callable[[str], None] = lambda _: None) -> Audit:
    """Every measure in turn; `progress` is told the title of each section before it begins."""
    sections = []
    for title, measures in MEASURES.items():
        progress(title)
        sections.append(Section(title, tuple(found for measure in measures for found in measure(data))))
    return Audit(
        name=data.name,
        layout=data.layout,
        rows=len(data.rows),
        available=data.available,
        instructions=data.instructions,
        unreadable=data.unreadable,
        simulated=data.simulated,
        sections=tuple(sections),
        levels=level_figures(data),
    )


def compare(first: Audit, second: Audit) -> Comparison:
    """The two side by side."""
    others = {found.name: found for found in second.findings()}
    differences = {}
    for found in first.findings():
        other = others.get(found.name)
        if other is None or found.interval is None or other.interval is None:
            continue
        if found.interval.estimate is not None and other.interval.estimate is not None:
            differences[found.name] = difference_interval(found.interval, other.interval)
    return Comparison(first, second, differences)
