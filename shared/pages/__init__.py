"""What pages that are one file have in common: how their templates are read, and the stylesheet."""

from functools import cache
from importlib.resources import files

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@cache
def report_style() -> Markup:
    """The stylesheet of reports, as the content of a `<style>` element."""
    return Markup(files("shared.pages").joinpath("report.css").read_text(encoding="utf-8"))  # noqa: S704 - package data


def page_environment(package: str) -> Environment:
    """Templates of a package's folder `templates`, and those that all reports share: every text of the data is escaped, and a
    missing name is an error."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package, "templates"), PackageLoader("shared.pages", "templates")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
