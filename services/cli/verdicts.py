"""`multifacet agreement` and `multifacet rate`: what a file of verdicts says, in the terminal or as JSON."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from services.cli.audit import WIDE
from shared.audit.page import figure_text, interval_text
from shared.statistics.intervals import Interval
from shared.statistics.ratings import Ratings
from shared.verdict_files import AgreementReport, RateReport, agreement_report, rate_report, read_verdicts
from shared.verdict_files.reading import ARENA_HARD_BASELINE
from shared.verdict_files.verdicts import LeftOut, Texts

SHOWN_PAIRS = 20
"""Pairs of annotators in the terminal, those with most common items; JSON has all."""


def run_agreement(file: Path, layout: str | None, as_json: bool, console: Console) -> AgreementReport:
    """Print how far the annotators of a file agree, and return it. Raises InputRefused for a file that cannot be used."""
    found = agreement_report(read_verdicts(file, layout))
    if as_json:
        _print_json(found, console)
    else:
        print_agreement(found, console)
    return found


def run_rate(
    file: Path,
    layout: str | None,
    baseline: str | None,
    length_control: bool,
    style_control: bool,
    as_json: bool,
    console: Console,
) -> RateReport:
    """Print which models win, and return it. Raises InputRefused for a file that cannot be used so."""
    texts: Texts = "style" if style_control else "lengths" if length_control else "none"
    read = read_verdicts(file, layout, baseline=baseline, texts=texts)
    if read.layout == "arena-hard":
        # These files hold one model each, against the baseline that they do not name.
        baseline = baseline or ARENA_HARD_BASELINE
    found = rate_report(read, baseline=baseline, length_control=length_control, style_control=style_control)
    if as_json:
        _print_json(found, console)
    else:
        print_rates(found, console)
    return found


def print_agreement(found: AgreementReport, console: Console) -> None:
    """Coefficients with their intervals over items, majorities, and what was left out."""
    _print_head(found.file, found.layout, found.lines, found.used, found.left_out, found.missing, console)
    console.print(
        f"{found.items:,} items, {len(found.labels):,} annotators"
        + (f", who differ with themselves on {found.orders_differ:,} (counted as ties)" if found.orders_differ else "")
    )
    if found.pairs:
        table = Table("two annotators", "items", "same label", "Cohen's kappa", "95% interval", header_style="bold")
        for pair in found.pairs[:SHOWN_PAIRS]:
            table.add_row(
                escape(f"{pair.first}, {pair.second}"),
                f"{pair.items:,}",
                _percent(pair.same.estimate),
                figure_text(pair.kappa.estimate),
                interval_text(pair.kappa),
            )
        console.print(table)
        if len(found.pairs) > SHOWN_PAIRS:
            console.print(f"and {len(found.pairs) - SHOWN_PAIRS:,} pairs with fewer common items: --json has all")
    together = Table("all annotators", "items", "coefficient", "95% interval", header_style="bold")
    coefficients = {f"Fleiss' kappa ({found.complete:,} items with every label)": found.fleiss} | {
        f"Krippendorff's alpha, {metric}": interval for metric, interval in found.krippendorff.items()
    }
    for name, interval in coefficients.items():
        together.add_row(
            escape(name), f"{interval.clusters:,}", figure_text(interval.estimate), interval_text(interval)
        )
    console.print(together)
    counts = [f"{label} {items:,}" for label, items in found.majorities.items()]
    counts.append(f"no majority {found.tied_majorities:,}")
    if found.unlabelled:
        counts.append(f"no label {found.unlabelled:,}")
    console.print(f"majority labels: {escape(', '.join(counts))}", highlight=False)


def print_rates(found: RateReport, console: Console) -> None:
    """Win rates by pair, ratings, and what was left out."""
    _print_head(found.file, found.layout, found.lines, found.used, found.left_out, found.missing, console)
    if found.pairs:
        controlled = any(pair.at_equal_length is not None for pair in found.pairs)
        wide = console.width >= WIDE
        against = () if found.baseline is not None else (Column("against", overflow="fold"),)
        table = Table(
            Column("model", overflow="fold"), *against, "pairs", *(("won / tied / lost",) if wide else ()),
            "win rate" if found.baseline is None else f"wins against {escape(found.baseline)}",
            *(("at equal length",) if controlled else ()), "sides changed", header_style="bold",
        )  # fmt: skip
        for pair in found.pairs:
            rate, equal = pair.win_rate, pair.at_equal_length
            table.add_row(
                escape(rate.first),
                *(escape(rate.second) for _ in against),
                f"{rate.pairs:,}",
                *((f"{rate.wins:,} / {rate.ties:,} / {rate.losses:,}",) if wide else ()),
                _share(rate.interval),
                *((_share(equal),) if equal is not None else ()),
                _percent(rate.flip_rate.estimate),
            )
        console.print(table)
        unknown = sum(pair.without_length for pair in found.pairs)
        if unknown:
            console.print(f"{unknown:,} pairs have no lengths and are not in the rates at equal length")
    _print_ratings("rating", found.ratings, found.baseline, console)
    if found.style_ratings is not None:
        _print_ratings("rating at equal style", found.style_ratings, found.baseline, console)
        effects = Table("style", "logits per deviation", "95% interval", header_style="bold")
        for name, interval in found.style_ratings.style.items():
            effects.add_row(escape(name), figure_text(interval.estimate, signed=True), interval_text(interval))
        console.print(effects)
    if found.merged_ties:
        console.print(
            f"{found.merged_ties:,} of {found.battles:,} verdicts are ties because the two orders gave different winners"
        )
    for note in found.notes:
        console.print(f"note: {escape(note)}", highlight=False)


def _print_ratings(title: str, ratings: Ratings, baseline: str | None, console: Console) -> None:
    if not ratings.models:
        console.print("no verdict, so no rating")
        return
    chances = (f"chance against {escape(baseline)}",) if baseline is not None else ()
    table = Table(Column("model", overflow="fold"), "verdicts", title, "95% interval", *chances, header_style="bold")
    for one in ratings.models:
        if one.model == baseline:
            table.add_row(escape(one.model), f"{one.battles:,}", _points(one.rating.estimate), "held fixed", "–")
            continue
        more = (_share(one.win_rate),) if one.win_rate is not None else ()
        table.add_row(
            escape(one.model),
            f"{one.battles:,}",
            _points(one.rating.estimate),
            interval_text(one.rating, _points),
            *more,
        )
    console.print(table)


def _print_head(
    file: str,
    layout: str,
    lines: int,
    used: int,
    left_out: Mapping[str, LeftOut],
    missing: Mapping[str, LeftOut],
    console: Console,
) -> None:
    console.print(f"[bold]{escape(file)}[/bold]: layout {layout}, {used:,} of {lines:,} lines used", highlight=False)
    for what, reasons in (("lines left out", left_out), ("verdicts missing", missing)):
        for reason, found in reasons.items():
            console.print(
                f"{what}: {found.lines:,} {reason.replace('_', ' ')} (first: {escape(found.example)})", highlight=False
            )


def _print_json(found: AgreementReport | RateReport, console: Console) -> None:
    console.file.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _share(interval: Interval) -> str:
    """`30.5% (23.6% to 38.6%)`, or why there is no interval."""
    return f"{_percent(interval.estimate)} ({interval_text(interval, _percent)})"


def _points(rating: float | None) -> str:
    return "–" if rating is None else f"{rating:.0f}"
