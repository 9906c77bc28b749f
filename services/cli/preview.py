"""Shows `preview.json` of a training in the terminal: rows as tokens with their loss mask, lengths as bars, losses."""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from shared.domain.errors import MultifacetError
from shared.domain.training_preview import OMITTED, LengthFigures, Preview, PreviewRow, PreviewToken, visible

_IN_LOSS = "bold green underline"
_SPECIAL = "reverse"
_BAR_WIDTH = 40


def read_preview(source: Path | bytes) -> Preview:
    """A preview from its file or its bytes. Raises MultifacetError for anything else."""
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
        return msgspec.json.decode(data, type=Preview)
    except (OSError, msgspec.DecodeError) as error:
        name = "the bytes" if isinstance(source, bytes) else str(source)
        raise MultifacetError(
            f"{name} cannot be read as a preview ({error}); give a training's preview.json"
        ) from error


def print_preview(preview: Preview, console: Console, rows: int = 3) -> None:
    """Print the first `rows` rows (or sides of pairs), then lengths and what is lost. Tokens in the loss are green and
    underlined, so that they can be told without colour; in brackets where nothing can be styled, as in a file."""
    plain = console.color_system is None
    legend = Text("read only ").append(_bracketed("in the loss", plain), _IN_LOSS)
    if not plain:
        legend.append(" ").append("control token", _SPECIAL)
    console.print(f"method {preview.method}, chat template {preview.template}", highlight=False)
    console.print(legend)
    special = frozenset(preview.special_ids)
    for row in preview.rows[:rows]:
        console.print()
        console.print(
            f"[bold]{escape(row.name)}[/bold]: {row.length:,} tokens, {row.loss_tokens:,} in the loss", highlight=False
        )
        console.print(_row_text(row, special, plain=plain), soft_wrap=True)
    for name, figures in preview.lengths.items():
        console.print()
        print_lengths(f"{name}, in tokens", figures, console)
    console.print()
    _print_losses(preview, console)


def print_lengths(title: str, figures: LengthFigures, console: Console) -> None:
    """A histogram as bars of text, with median, percentiles and maximum."""
    console.print(
        f"[bold]{escape(title)}[/bold]: median {figures.p50:,}, 95% at most {figures.p95:,}, 99% at most {figures.p99:,}, "
        f"longest {figures.maximum:,}",
        highlight=False,
    )
    table = Table("tokens", "rows", "", box=None)
    table.columns[0].justify = table.columns[1].justify = "right"
    most = max(figures.counts, default=0)
    lower = 1
    for bound, count in zip(figures.bounds, figures.counts, strict=True):
        if count or table.row_count:
            # A bucket with rows shows at least a sliver.
            width = max(1, round(count / most * _BAR_WIDTH)) if count else 0
            table.add_row(f"{lower:,} to {bound:,}", f"{count:,}", "█" * width)
        lower = bound + 1
    console.print(table)


def _row_text(row: PreviewRow, special: frozenset[int], *, plain: bool) -> Text:
    text = Text()
    if plain:
        for in_loss, tokens in groupby(row.tokens, key=lambda token: token.in_loss):
            text.append(_bracketed(_spelled(tokens), in_loss))
        return text
    for style, tokens in groupby(row.tokens, key=lambda token: _style(token, special)):
        text.append(_spelled(tokens), style)
    return text


def _spelled(tokens: Iterable[PreviewToken]) -> str:
    return visible("".join(token.text for token in tokens)).replace("\n", "↵\n")


def _bracketed(text: str, wanted: bool) -> str:
    return f"⟦{text}⟧" if wanted else text


def _style(token: PreviewToken, special: frozenset[int]) -> str:
    if token.id == OMITTED:
        return "dim italic"
    style = _IN_LOSS if token.in_loss else ""
    return f"{style} {_SPECIAL}".strip() if token.id in special else style


def _print_losses(preview: Preview, console: Console) -> None:
    lost = sum(preview.lost.values())
    console.print(f"{preview.kept:,} of {preview.drawn:,} rows are trained on", highlight=False)
    if lost:
        table = Table("lost because", "rows", box=None)
        for reason, number in preview.lost.items():
            table.add_row(escape(reason), f"{number:,}")
        console.print(table)
