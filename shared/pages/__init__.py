"""What pages that are one file have in common: the stylesheet."""

from functools import cache
from importlib.resources import files

from markupsafe import Markup


@cache
def report_style() -> Markup:
    """The stylesheet of reports, as the content of a `<style>` element."""
    return Markup(files("shared.pages").joinpath("report.css").read_text(encoding="utf-8"))  # noqa: S704 - package data
