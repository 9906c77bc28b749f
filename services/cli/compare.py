"""`multifacet compare`: two evaluations of one bench side by side, with differences and how sure they are."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from services.cli.client import ApiClient, job_path
from shared.domain.errors import MultifacetError
from shared.statistics.bootstrap import bootstrap_difference
from shared.statistics.intervals import Interval, difference_interval

DOCUMENT, ITEMS = "evaluation.json", "items.csv"
_SCORE, _WORDS = "score:", "words:"
ItemKey = tuple[str, str]


class Side(msgspec.Struct, frozen=True):
    """One of the two: its document, and by candidate the score and the length of every item that has one."""

    title: str
    document: dict[str, Any]
    scores: dict[str, dict[ItemKey, float]]
    words: dict[str, dict[ItemKey, float]]
    items: set[ItemKey]

    @property
    def candidates(self) -> list[str]:
        return [one["name"] for one in self.document["candidates"]]


def run_compare(first: str, second: str, console: Console, *, force: bool, as_json: bool) -> None:
    """Print the differences of two evaluations, each a file, a folder or the id of a job.

    Raises MultifacetError for what is no evaluation, and for evaluations of different items unless `force` is set: then those
    that both have are compared.
    """
    one, two = read_side(first), read_side(second)
    shared = one.items & two.items
    if one.items != two.items and not force:
        raise MultifacetError(
            f"{one.title} has {len(one.items):,} items and {two.title} {len(two.items):,}, of which {len(shared):,} are the "
            "same: figures of different questions cannot be compared; evaluate both on one bench, or set --force for the "
            "items that both have"
        )
    if not shared:
        raise MultifacetError(f"{one.title} and {two.title} have no item in common: there is nothing to compare")
    rows = [row for pair in pairs(one, two) for row in compared(one, two, *pair, shared)]
    if as_json:
        told = {"items": len(shared), "differences": rows, "configuration": configuration_differences(one, two)}
        console.file.write(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    console.print(f"{escape(one.title)} (first) and {escape(two.title)} (second), over {len(shared):,} items")
    table = Table(
        "candidates", "figure", *(Column(name, justify="right") for name in ("first", "second")), "difference", ""
    )
    for row in rows:
        low, high = row["low"], row["high"]
        interval = row["method"].replace("_", " ") if low is None else f"({low:+.3f} to {high:+.3f})"
        clear = low is not None and (low > 0 or high < 0)
        table.add_row(
            escape(row["candidates"]),
            escape(row["figure"]),
            _number(row["first"]),
            _number(row["second"]),
            f"{row['difference']:+.3f} {interval}" if row["difference"] is not None else "–",
            "differs" if clear else "",
        )
    console.print(table)
    for difference in configuration_differences(one, two):
        console.print(f"[yellow]not the same[/yellow]: {escape(difference)}", highlight=False)
    for side in (one, two):
        for reason in side.document["completeness"]["reasons"]:
            console.print(f"[red]incomplete[/red]: {escape(side.title)}: {escape(reason)}", highlight=False)


def read_side(name: str) -> Side:
    """An evaluation from a file `evaluation.json`, a folder that holds one, or a job of the running system."""
    path = Path(name)
    if path.is_dir():
        path = next(
            (found for found in (path / DOCUMENT, path / "evaluate" / DOCUMENT) if found.is_file()), path / DOCUMENT
        )
    if path.exists() or path.suffix == ".json":
        try:
            document, items = path.read_bytes(), path.with_name(ITEMS).read_text(encoding="utf-8")
        except OSError as error:
            raise MultifacetError(
                f"{error.filename} cannot be read ({error.strerror}); give an evaluation.json with its items.csv beside it, "
                "the folder that holds them, or the id of a job"
            ) from error
        return _side(str(path.parent), document, items)
    client = ApiClient()
    made = {
        artifact["name"]: artifact
        for artifact in client.pages(job_path(name, "artifacts"), limit=200)
        if artifact["stage"] == "evaluate"
    }
    if not {DOCUMENT, ITEMS} <= made.keys():
        raise MultifacetError(f"job {name} has no finished evaluation; name one whose stage evaluate succeeded")
    contents = {one: client.content(f"/v1/artifacts/{made[one]['id']}/content") for one in (DOCUMENT, ITEMS)}
    return _side(name, contents[DOCUMENT], contents[ITEMS].decode())


def pairs(first: Side, second: Side) -> list[tuple[str, str]]:
    """Which candidates are compared: those of one name, else each with each."""
    same = [(name, name) for name in first.candidates if name in second.candidates]
    return same or [(one, two) for one in first.candidates for two in second.candidates]


def compared(first: Side, second: Side, one: str, two: str, shared: set[ItemKey]) -> Iterator[dict[str, Any]]:
    """The figures of one pair: score and length item by item, instructions drawn for both together; all others from their
    intervals alone, which are then wider than they had to be."""
    candidates = one if one == two else f"{one}, {two}"
    for figure, of_first, of_second in (("score", first.scores, second.scores), ("words", first.words, second.words)):
        keys = sorted(key for key in shared if key in of_first.get(one, {}) and key in of_second.get(two, {}))
        if not keys:
            continue
        rows = [key[0] for key in keys]
        left, right = [of_first[one][key] for key in keys], [of_second[two][key] for key in keys]
        found = bootstrap_difference(left, rows, right, rows)
        yield _row(candidates, figure, sum(left) / len(left), sum(right) / len(right), found)
    left_figures, right_figures = dict(_figures(first, one)), dict(_figures(second, two))
    for figure, left_interval in left_figures.items():
        if figure in right_figures:
            right_interval = right_figures[figure]
            found = difference_interval(left_interval, right_interval)
            yield _row(candidates, figure, left_interval.estimate, right_interval.estimate, found)


def configuration_differences(first: Side, second: Side) -> list[str]:
    """What of judge and grading is not the same in both, in words."""
    one, two = first.document, second.document
    told = []
    if one["judge"] != two["judge"]:
        told.append(f"judge: {_model(one['judge'])} and {_model(two['judge'])}")
    parts = (one["configuration"]["evaluate"], two["configuration"]["evaluate"])
    for name in ("absolute", "pairwise", "conversation"):
        left, right = (part.get(name) or {} for part in parts)
        told += [
            f"evaluate.{name}.{option}: {left.get(option)} and {right.get(option)}"
            for option in sorted(left.keys() | right.keys())
            if left.get(option) != right.get(option)
        ]
    return told


def _figures(side: Side, candidate: str) -> Iterator[tuple[str, Interval]]:
    (record,) = [one for one in side.document["candidates"] if one["name"] == candidate]
    for part in record.get("absolute", {}).get("dimensions", []):
        yield f"score: {part['name'].replace('_', ' ')}", _interval(part)
    specificity = record.get("absolute", {}).get("specificity")
    if specificity:
        yield "specificity", msgspec.convert(specificity["specificity"], Interval)
    if "conversation" in record:
        yield "rating", _interval(record["conversation"]["overall"])
    if record["checks"]["passed"]["estimate"] is not None:
        yield "checks passed", _interval(record["checks"]["passed"])


def _interval(told: dict[str, Any]) -> Interval:
    return Interval(told["estimate"], told["low"], told["high"], 0.95, told["instructions"], told["method"])


def _row(candidates: str, figure: str, first: float | None, second: float | None, found: Interval) -> dict[str, Any]:
    return {
        "candidates": candidates,
        "figure": figure,
        "first": first,
        "second": second,
        "difference": found.estimate,
        "low": found.low,
        "high": found.high,
        "method": found.method,
    }


def _side(title: str, document: bytes, items: str) -> Side:
    try:
        found = orjson.loads(document)
        version = found["schema_version"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise MultifacetError(f"{title} holds no evaluation: {DOCUMENT} is not what an evaluation writes") from error
    if version != "evaluation/1":
        raise MultifacetError(f"{title} is of version {version}, and this release reads evaluation/1")
    scores: dict[str, dict[ItemKey, float]] = {}
    words: dict[str, dict[ItemKey, float]] = {}
    keys = set()
    for line in csv.DictReader(io.StringIO(items)):
        key = (line["row_id"], line["facet"])
        keys.add(key)
        for column, value in line.items():
            for prefix, table in ((_SCORE, scores), (_WORDS, words)):
                if value and column.startswith(prefix):
                    table.setdefault(column.removeprefix(prefix), {})[key] = float(value)
    return Side(title, found, scores, words, keys)


def _model(choice: dict[str, str] | None) -> str:
    return "none" if choice is None else f"{choice['provider']}/{choice['model']}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
