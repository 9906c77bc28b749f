"""Pages of one file that need no network: scripts inside the page, named by their hashes in its content security policy, so
that no text of the data can become a script."""

import base64
from functools import cache
from hashlib import sha256
from importlib.resources import files

import orjson
from markupsafe import Markup


def page_scripts() -> dict[str, Markup]:
    """The scripts of a page with figures, by name: plotly, and what draws every element with `data-figure`."""
    return {"plotly": _plotly_script(), "draw": _inline_script(_package_text("report.js"))}


def script_hashes(scripts: dict[str, Markup]) -> list[str]:
    """The sources that the page's policy allows."""
    return ["sha256-" + base64.b64encode(sha256(str(text).encode()).digest()).decode() for text in scripts.values()]


def json_block(value: object) -> Markup:
    """JSON that is safe inside a `<script type="application/json">` element: nothing in it can end the element."""
    text = orjson.dumps(value).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - no markup character is left


def shortened(text: str, limit: int) -> str:
    """A text cut to `limit` characters, with a note that says so."""
    return text if len(text) <= limit else f"{text[:limit].rstrip()} … (cut here; {len(text):,} characters in all)"


def money(micro_usd: int | None) -> str:
    """Micro-dollars for people: two digits above a dollar, four below, `unknown` for None."""
    if micro_usd is None:
        return "unknown"
    dollars = micro_usd / 1_000_000
    return f"${dollars:,.2f}" if dollars >= 1 or micro_usd == 0 else f"${dollars:.4f}"


@cache
def _plotly_script() -> Markup:
    """plotly.js as the plotly package carries it."""
    path = files("plotly").joinpath("package_data/plotly.min.js")
    return _inline_script(path.read_text(encoding="utf-8"))


@cache
def _package_text(name: str) -> str:
    return files("shared.pages").joinpath(name).read_text(encoding="utf-8")


def _inline_script(text: str) -> Markup:
    """A script as element content. `</script` would end the element; in a string literal `<\\/script` is the same."""
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))  # noqa: S704 - package data
