"""`multifacet audit`: what is wrong with a data set, in the terminal, as a page or as JSON."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shared.audit import Audit, Comparison, Finding, audit_data, compare, load_data
from shared.audit.findings import VERDICT_WORDS
from shared.audit.levels import LevelFigures
from shared.audit.page import figure_text, interval_text, length_text, render_audit
from shared.domain.errors import MultifacetError

WIDE = 120
"""Characters of a terminal from which on the table also shows what was counted and the limits."""

_COLOURS = {"ok": "green", "warn": "yellow", "bad": "red", "not_applicable": "bright_black"}


def run_audit(
    files: list[Path], benchmarks: list[Path], out: Path | None, as_json: bool, console: Console
) -> list[Audit]:
    """Audit one or two data sets, print what was found, and return it.

    Raises MultifacetError for more than two data sets, and for files that cannot be used.
    """
    if len(files) > 2:
        raise MultifacetError(f"{len(files)} data sets were given; audit one, or two side by side")
    for benchmark in benchmarks:
        if not benchmark.is_file():
            raise MultifacetError(
                f"the benchmark {benchmark} is no file; give a JSONL, JSON, CSV, Parquet or text file"
            )
    audits = []
    status = Console(stderr=True)
    for file in files:
        with status.status(f"reading {escape(str(file))}") as shown:
            data = load_data(file, benchmarks)
            audits.append(audit_data(data, lambda title, shown=shown: shown.update(f"measuring: {title.lower()}")))  # type: ignore[misc]
    if len(audits) == 2 and audits[0].name == audits[1].name:
        audits = [msgspec.structs.replace(audit, name=str(file)) for audit, file in zip(audits, files, strict=True)]
    comparison = compare(*audits) if len(audits) == 2 else None
    if as_json:
        console.file.write(msgspec.json.format(msgspec.json.encode(comparison or audits[0]), indent=2).decode() + "\n")
    else:
        for audit in audits:
            print_audit(audit, console)
        if comparison is not None:
            print_comparison(comparison, console)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(render_audit(audits, comparison), encoding="utf-8")
        status.print(f"the page is at {escape(str(out))}")
    return audits


def print_audit(audit: Audit, console: Console) -> None:
    """One table of all findings, then the first example of each that is not ok."""
    console.print(
        f"[bold]{escape(audit.name)}[/bold]: layout {audit.layout}, {audit.rows:,} of {audit.available:,} rows, "
        f"{audit.instructions:,} instructions"
        + (f", {audit.unreadable:,} rows unreadable" if audit.unreadable else "")
        + (" [yellow](made with the simulator)[/yellow]" if audit.simulated else "")
    )
    wide = console.width >= WIDE
    more = ("n", "doubtful / bad") if wide else ()
    table = Table("measure", "figure", "95% interval", *more, "verdict", header_style="bold")
    for section in audit.sections:
        table.add_section()
        for found in section.findings:
            detail = (f"{found.n:,} {found.unit}" if found.n else "", found.threshold) if wide else ()
            table.add_row(
                escape(found.title),
                figure_text(found.estimate),
                interval_text(found.interval) + (" *" if found.interval_note else ""),
                *detail,
                f"[{_COLOURS[found.verdict]}]{VERDICT_WORDS[found.verdict]}[/]",
            )
    console.print(table)
    if audit.levels:
        console.print(_levels(audit.levels))
    marked: dict[str, list[str]] = {}
    for found in audit.findings():
        if found.interval_note:
            marked.setdefault(found.interval_note, []).append(found.title)
    for note, titles in marked.items():
        console.print(f"* {escape(note)}: {escape('; '.join(titles))}", highlight=False)
    for found in audit.findings():
        if found.verdict in ("warn", "bad"):
            console.print(_explained(found), highlight=False)
    console.print(f"{audit.count('bad')} bad, {audit.count('warn')} doubtful, {audit.count('ok')} ok\n")


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The figures of both and their difference; those whose interval leaves out 0 are marked."""
    first, second = escape(comparison.first.name), escape(comparison.second.name)
    table = Table("measure", first, second, "difference", "95% interval", "", header_style="bold")
    others = {found.name: found for found in comparison.second.findings()}
    for found in comparison.first.findings():
        difference = comparison.differences.get(found.name)
        if difference is None:
            continue
        clear = (
            difference.low is not None and difference.high is not None and not difference.low <= 0 <= difference.high
        )
        table.add_row(
            escape(found.title),
            figure_text(found.estimate),
            figure_text(others[found.name].estimate),
            figure_text(difference.estimate, signed=True),
            interval_text(difference),
            "differs" if clear else "",
        )
    console.print(table)


def _levels(levels: Sequence[LevelFigures]) -> Table:
    table = Table(
        "split", "level", "facets", "failed demands", "95% interval", "words", "95% interval", header_style="bold"
    )
    for figures in levels:
        table.add_row(
            escape(figures.split),
            escape(f"{figures.code} {figures.level.replace('_', ' ')}".strip()),
            f"{figures.facets:,}",
            figure_text(figures.failed.estimate),
            interval_text(figures.failed),
            length_text(figures.words.estimate),
            interval_text(figures.words, length_text),
        )
    return table


def _explained(found: Finding) -> str:
    parts = [f"[{_COLOURS[found.verdict]}]{VERDICT_WORDS[found.verdict]}[/] {escape(found.title)}"]
    parts += [escape(text) for text in (found.note, found.examples[0] if found.examples else "") if text]
    return " — ".join(parts)
