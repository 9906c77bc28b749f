"""Evaluations in the terminal: the list, one with its figures, and one run from a short spec."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote
from uuid import uuid4

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from services.cli.client import ApiClient
from services.cli.estimates import print_estimate
from services.cli.models import clock
from services.cli.spec import read_mapping
from services.cli.uploads import with_uploads
from services.cli.watch import print_outcome, watch_job
from shared.pages.evaluations import differences, headlines, leaderboard

app = typer.Typer(help="How well models follow the person, and how sure that is.")
_console = Console(soft_wrap=True)

_PATH = "/v1/evaluations"

JobId = Annotated[str, typer.Argument(help="id of the evaluation, which is that of its job")]


@app.callback(invoke_without_command=True)
def evaluations(
    context: typer.Context, limit: Annotated[int, typer.Option(min=1, max=200, help="how many at most")] = 20
) -> None:
    """The newest evaluations."""
    if context.invoked_subcommand is None:
        list_evaluations(limit)


@app.command("list")
def list_evaluations(limit: Annotated[int, typer.Option(min=1, max=200, help="how many at most")] = 20) -> None:
    """The newest evaluations."""
    table = Table(Column("id", no_wrap=True), "name", "state", "candidates", "created", Column("cost", justify="right"))
    for one in ApiClient().get(_PATH, limit=limit)["items"]:
        table.add_row(
            one["id"],
            escape(one["name"]),
            one["state"] + (", incomplete" if one["incomplete"] else ""),
            escape(_candidates(one)),
            clock(one["created_at"]),
            f"${one['cost_micro_usd'] / 1e6:.4f}",
        )
    _console.print(table)
    if not table.row_count:
        _console.print("nothing was evaluated yet; docs/evaluations.md says how it is done")


@app.command()
def show(job_id: JobId) -> None:
    """One evaluation: its candidates with their figures, or how far it has come."""
    print_evaluation(ApiClient().get(_path(job_id)), _console)


@app.command()
def run(
    spec: Annotated[
        Path,
        typer.Argument(help="YAML or JSON: bench or questions, candidates, judge, evaluate, and what else is wanted"),
    ],
    upload: Annotated[
        list[Path] | None, typer.Option(help="file to upload; the spec names it as `upload:<file name>`")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="follow the evaluation until it ends")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before models are paid")] = False,
) -> None:
    """Show what an evaluation would take, ask, and run it."""
    body = read_mapping(spec, "an evaluation", "a mapping with `bench` or `questions`, `candidates` and `evaluate`")
    client = ApiClient()
    body = with_uploads(client, body, upload or [])
    print_estimate(client.post(f"{_PATH}/estimate", body), _console)
    if not yes and not typer.confirm("Go on?"):
        raise typer.Exit(2)
    view = client.post(_PATH, body, {"Idempotency-Key": uuid4().hex})
    job_id = view["job"]["id"]
    _console.print(job_id)
    if not watch:
        return
    job = watch_job(client, job_id, _console)
    print_outcome(client, job, _console)
    print_evaluation(client.get(_path(job_id)), _console)
    if job["state"] != "succeeded":
        raise typer.Exit(1)


def _candidates(one: dict[str, Any]) -> str:
    told = dict(headlines(one["headline"]))
    return "\n".join(f"{name} {told.get(name, '')}".rstrip() for name in one["candidates"])


def _path(job_id: str) -> str:
    return f"{_PATH}/{quote(job_id, safe='', errors='surrogateescape')}"


def print_evaluation(view: dict[str, Any], to: Console) -> None:
    """The leaderboard with its intervals and what weakens it; before there are figures, how far each stage has come."""
    job, evaluation = view["job"], view["evaluation"]
    to.print(f"[bold]{escape(job['name'])}[/bold] {job['id']} {job['state']}", highlight=False)
    if evaluation is None:
        stages = Table("stage", "state", Column("done", justify="right"))
        for stage in job["stages"]:
            stages.add_row(escape(stage["name"]), stage["state"], f"{stage['progress']:.0%}")
        to.print(stages)
        return
    board = leaderboard(evaluation)
    table = Table("", *(Column(escape(row.name), justify="right") for row in board.rows))
    for number, column in enumerate(board.columns):
        cells = (row.cells[number] for row in board.rows)
        told = (f"{cell.estimate} ({cell.interval})" if cell.interval else cell.estimate for cell in cells)
        table.add_row(column.title, *told)
    to.print(table)
    for who, cell, sure in differences(evaluation):
        to.print(
            escape(f"{who}: {cell.estimate} ({cell.interval or 'no interval'}){'' if sure else ', zero is within'}")
        )
    notes = [f"incomplete: {reason}" for reason in evaluation["completeness"]["reasons"]]
    notes += evaluation["flags"]
    if evaluation["simulated"]:
        notes.append(f"simulated, so no figures of real models: {', '.join(evaluation['simulated'])}")
    for note in notes:
        to.print(escape(note), highlight=False)
    if any(file["name"] == "report.html" for file in view["files"]):
        to.print(f"the report: multifacet pull {job['id']}", highlight=False)
