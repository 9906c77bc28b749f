"""Renders the data card: `README.md` with the YAML front matter that the Hub reads."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from services.curation.reporting.figures_as_text import FILTERS
from shared.pages.one_file import money

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$])")

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def markdown_text(value: object) -> str:
    """Text as Markdown that shows it and does nothing else: one line, markup characters escaped."""
    line = " ".join(str(value).split())
    return _SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def front_matter(values: Mapping[str, Any]) -> str:
    """The card's YAML: languages, size, tags, and one configuration per table with the splits that hold rows."""
    facts, statistics = values["facts"], values["statistics"]
    configurations = []
    for name, rows in values["tables"].items():
        data_files = [
            # The pattern finds the file beside the card, in a stage's folder, and with an attempt's number in its name.
            {
                "split": split,
                "path": f"**/{'collection' if name == 'collection' else f'exports/{name}'}/{split}*.parquet",
            }
            for split in ("train", "test")
            if rows.get(split)
        ]
        if data_files:
            configurations.append({"config_name": name, "data_files": data_files})
    if configurations:
        configurations[0]["default"] = True
    content = {
        "pretty_name": values["spec"]["name"],
        "language": [entry["name"] for entry in statistics["languages"]] or ["en"],
        "task_categories": ["text-generation"],
        "size_categories": [_size(statistics["facets"])],
        "tags": ["preference", "system-message", "synthetic", *(["simulator"] if facts["simulator"] else [])],
        "teacher": "simulator" if facts["simulator"] else f"{facts['provider']}/{facts['model']}",
        "configs": configurations,
    }
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return text


def render_card(values: Mapping[str, Any]) -> str:
    return _environment().get_template("README.md.j2").render(**values, front_matter=front_matter(values))


def _size(rows: int) -> str:
    return next((label for limit, label in SIZES if rows < limit), "10M<n<100M")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("services.curation.reporting", "templates"),
        autoescape=False,  # noqa: S701 - Markdown, not HTML: every value goes through `text`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        text=markdown_text,
        count=lambda number: f"{number:,}",
        percent=lambda share: f"{share:.1%}",
        money=money,
        **FILTERS,
    )
    return environment
