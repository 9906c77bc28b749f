"""Templates, and who may see a page."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.api.authentication import Caller
from shared.charts.theme import Figure
from shared.pages.trainings import count_text, metric_text, seconds_text

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

_PLOTLY_CONFIGURATION = {"responsive": True, "displaylogo": False, "displayModeBar": False}


class LoginNeeded(Exception):
    """A page was asked for without a session; the app answers with a redirect to /login."""


def _viewer(request: Request) -> Caller:
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None or not caller.may("read"):
        raise LoginNeeded
    return caller


Viewer = Annotated[Caller, Depends(_viewer)]


def _chatter(request: Request) -> Caller:
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None or not caller.may("chat"):
        raise LoginNeeded
    return caller


Chatter = Annotated[Caller, Depends(_chatter)]
"""Who may ask what is deployed, and perhaps nothing else."""


def home_of(caller: Caller | None) -> str:
    """The page where somebody starts: of the key's scopes, /try needs the least."""
    if caller is None:
        return "/login"
    if caller.may("read"):
        return "/jobs"
    return "/try" if caller.may("chat") else "/login"


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page, or a part of one; never cached, because it shows live state."""
    caller: Caller | None = getattr(request.state, "caller", None)
    html = _environment.get_template(template).render(path=request.url.path, caller=caller, **values)
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": (
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    }
    return HTMLResponse(html, status_code=status, headers=headers)


def plotly_json(figure: Figure) -> dict[str, Any]:
    """The figure with its configuration, for the page's data attribute."""
    return {**figure, "config": _PLOTLY_CONFIGURATION}


def _dollars(micro_usd: int | None) -> str:
    return "unknown" if micro_usd is None else f"${micro_usd / 1e6:,.4f}"


def _clock(moment: datetime | None) -> str:
    return "–" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _minute(moment: datetime | None) -> str:
    return "–" if moment is None else moment.strftime("%Y-%m-%d %H:%M")


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def _preference(stated: Mapping[str, str]) -> str:
    """A few words for a stated preference, as `static/facets.js` has them."""
    if seed := stated.get("seed"):
        return seed
    place = ": ".join(stated[name] for name in ("subdimension", "pole") if stated.get(name))
    words = stated.get("description")
    if words is None:
        return place
    return f"{place} – {words}" if place else f"“{words}”"


_environment.filters.update(
    preference=_preference,
    dollars=_dollars,
    duration=seconds_text,
    clock=_clock,
    minute=_minute,
    bytes=_bytes,
    amount=count_text,
    metric=lambda value, name: metric_text(name, value),
    sentence=lambda text: text[:1].upper() + text[1:],
)
