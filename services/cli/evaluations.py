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
            escape(", ".join(one["candidates"])),
            clock(one["created_at"]),
            f"${one['cost_micro_usd'] / 1e6:.4f}",
        )
    _console.print(table)
    if not table.row_count:
        _console.print("nothing was evaluated yet; docs/evaluation.md says how it is done")


@app.command()
def show(job_id: JobId) -> None:
    """One evaluation: its candidates with their figures, or how far it has come."""
    client = ApiClient()
    print_evaluation(client, client.get(_path(job_id)), _console)


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
    print_evaluation(client, client.get(_path(job_id)), _console)
    if job["state"] != "succeeded":
        raise typer.Exit(1)


def _path(job_id: str) -> str:
    return f"{_PATH}/{quote(job_id, safe='', errors='surrogateescape')}"


def print_evaluation(client: ApiClient, view: dict[str, Any], to: Console) -> None:
    pass
