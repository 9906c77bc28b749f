"""Benches in the terminal: the list, one bench, a file that becomes one, what its review came to, and its files."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from services.cli.client import ApiClient
from services.cli.models import clock

app = typer.Typer(help="What candidates are asked and graded on.")
_console = Console(soft_wrap=True)

WAITING_SECONDS = 600.0
"""Every line of a file is looked at."""
_REASON_CHARACTERS = 200

BenchId = Annotated[str, typer.Argument(help="id of the bench, as `multifacet benches` lists it")]


@app.callback(invoke_without_command=True)
def benches(
    context: typer.Context, limit: Annotated[int, typer.Option(min=1, max=200, help="how many at most")] = 20
) -> None:
    """The newest benches."""
    if context.invoked_subcommand is None:
        list_benches(limit)


@app.command("list")
def list_benches(limit: Annotated[int, typer.Option(min=1, max=200, help="how many at most")] = 20) -> None:
    """The newest benches."""
    table = Table(
        Column("id", no_wrap=True),
        "name",
        Column("items", justify="right"),
        Column("instructions", justify="right"),
        "rubrics by",
        "made",
    )
    for bench in ApiClient().get("/v1/benches", limit=limit)["items"]:
        table.add_row(
            bench["id"],
            escape(bench["name"]),
            str(bench["items"]),
            str(bench["rows"]),
            escape(bench["teacher"] or "not known"),
            clock(bench["created_at"]),
        )
    _console.print(table)
    if not table.row_count:
        _console.print("there is no bench yet; docs/benches.md says how one is made")


@app.command()
def show(bench_id: BenchId) -> None:
    """One bench: where it comes from, and what its review came to so far."""
    print_bench(ApiClient().get(_path(bench_id)), _console)


@app.command()
def add(
    file: Annotated[
        Path, typer.Argument(help="JSONL, JSON, CSV or Parquet in the layout of the Multifaceted Bench; it is uploaded")
    ],
    name: Annotated[str | None, typer.Option(help="default: the file's name")] = None,
) -> None:
    """Make a bench of a file. Lines that are no items are named with their reasons."""
    client = ApiClient()
    body = {"file": client.upload(file)["id"], **({} if name is None else {"name": name})}
    print_bench(client.post("/v1/benches", body, seconds=WAITING_SECONDS), _console)


@app.command("review-summary")
def review_summary(bench_id: BenchId) -> None:
    """What each reviewer decided, and the items that are dropped, with the reasons that were given."""
    client = ApiClient()
    print_reviews(client.get(_path(bench_id)), _console)
    table = Table(Column("dropped", no_wrap=True), "instruction", "reasons")
    for item in _items(client, bench_id, "dropped"):
        said = [
            f"{review['reviewer']}: {review['reason'] or review['decision']}"
            for review in item["reviews"]
            if review["decision"] == "drop"
        ]
        table.add_row(item["id"], escape(item["instruction"][:_REASON_CHARACTERS]), escape("; ".join(said)))
    if table.row_count:
        _console.print(table)


@app.command()
def export(
    bench_id: BenchId,
    out: Annotated[Path | None, typer.Option(help="folder; default: out/<bench id>")] = None,
    file_format: Annotated[str, typer.Option("--format", help="jsonl or parquet")] = "jsonl",
) -> None:
    """Write the items that the review kept in the layout of the Multifaceted Bench, and all decisions beside them."""
    folder = out or Path("out") / bench_id
    client = ApiClient()
    bench, reviews = folder / f"bench.{file_format}", folder / "reviews.jsonl"
    client.save(_path(bench_id, "export"), bench, layout="multifaceted_bench", format=file_format)
    client.save(_path(bench_id, "reviews"), reviews)
    _console.print(f"{bench.name} and {reviews.name} in {escape(str(folder))}", highlight=False)


def print_bench(bench: dict[str, Any], to: Console) -> None:
    """Where a bench comes from, what of a file it left out, and its review."""
    to.print(f"[bold]{escape(bench['name'])}[/bold], {bench['id']} of {clock(bench['created_at'])}", highlight=False)
    origin = f"job {bench['job_id']}" if bench["job_id"] else f"file {bench['file_id']}"
    teacher = f", rubrics by {bench['teacher']}" if bench["teacher"] else ""
    to.print(escape(f"{bench['items']} items on {bench['rows']} instructions, from {origin}{teacher}"), highlight=False)
    if bench["left_out"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in bench["left_out"].items())
        to.print(f"lines that are no items: {escape(reasons)}", highlight=False)
        for line in bench["rejected"]:
            to.print(escape(f"  line {line['line']}: {line['reason']}: {line['detail']}"), highlight=False)
        more = sum(bench["left_out"].values()) - len(bench["rejected"])
        if more:
            to.print(f"  and {more} more, listed by GET /v1/benches/{bench['id']}/rejected", highlight=False)
    print_reviews(bench, to)


def print_reviews(bench: dict[str, Any], to: Console) -> None:
    """A line for each reviewer, and one for all of them together."""
    table = Table("reviewer", *(Column(name, justify="right") for name in ("kept", "dropped", "undecided")))
    for counts in (*bench["reviewers"], {"reviewer": "together", **bench["review"]}):
        table.add_row(escape(counts["reviewer"]), *(str(counts[name]) for name in ("kept", "dropped", "undecided")))
    to.print(table)


def _items(client: ApiClient, bench_id: str, outcome: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = client.get(_path(bench_id, "items"), outcome=outcome, offset=len(found), limit=200)
        found += page["items"]
        if len(found) >= page["items_matched"] or not page["items"]:
            return found


def _path(bench_id: str, *rest: str) -> str:
    return "/".join(("/v1/benches", *(quote(part, safe="", errors="surrogateescape") for part in (bench_id, *rest))))
