"""The preview as one HTML file that needs no network and runs no script."""

from functools import cache
from itertools import groupby
from typing import Any

from jinja2 import Environment

from services.training.data.counts import LOSSES
from services.training.preflight.memory import gibibytes
from services.training.preflight.report import PreflightReport
from shared.domain.training_preview import OMITTED, LengthFigures, Preview, PreviewRow, visible
from shared.pages import page_environment

_LENGTHS = {"whole": "prompt and response", "prompt": "prompt", "response": "response"}


def render_preview(preview: Preview, report: PreflightReport) -> str:
    """The page: rows as tokens with their loss mask, then lengths, losses and what the training will take."""
    return (
        _environment()
        .get_template("preview.html.j2")
        .render(
            preview=preview,
            report=report,
            rows=[(row, _runs(row, frozenset(preview.special_ids))) for row in preview.rows],
            lengths=[(words, preview.lengths[name]) for name, words in _LENGTHS.items() if name in preview.lengths],
            losses=LOSSES,
        )
    )


def _runs(row: PreviewRow, special: frozenset[int]) -> list[tuple[bool, list[tuple[str, str, int]]]]:
    """Runs of tokens with and without a loss: [(in_loss, [(kind, text, id)])]."""
    return [
        (
            in_loss,
            [
                (_kind(token.id, token.text, special), visible(token.text).replace("\n", "↵\n"), token.id)
                for token in run
            ],
        )
        for in_loss, run in groupby(row.tokens, key=lambda token: token.in_loss)
    ]


def _kind(number: int, text: str, special: frozenset[int]) -> str:
    if number == OMITTED:
        return "omitted"
    if number in special:
        return "special"
    return "part" if not text else "text"


def _bars(figures: LengthFigures) -> list[tuple[str, int, float]]:
    """(range of lengths, rows, share of the fullest bucket) without the empty buckets before the first row."""
    most = max(figures.counts)
    lower = [1, *(bound + 1 for bound in figures.bounds[:-1])]
    bars = [
        (f"{low:,} to {high:,}", count, count / most)
        for low, high, count in zip(lower, figures.bounds, figures.counts, strict=True)
    ]
    first = next(place for place, (_, count, _) in enumerate(bars) if count)
    return bars[first:]


@cache
def _environment() -> Environment:
    environment = page_environment("services.training.preflight")
    filters: dict[str, Any] = {
        "count": lambda number: f"{number:,.0f}",
        "percent": lambda share: f"{share:.1%}",
        "bytes": gibibytes,
        "bars": _bars,
    }
    environment.filters.update(filters)
    return environment
