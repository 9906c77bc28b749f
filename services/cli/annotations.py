"""Annotation tasks in the terminal: the list, a new one, what came of one, and its verdicts as a file."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from services.cli.client import ApiClient
from services.cli.models import clock

app = typer.Typer(help="Pairs of answers that people compare without knowing whose they are.")
_console = Console(soft_wrap=True)

TaskId = Annotated[str, typer.Argument(help="the task's id")]


@app.callback(invoke_without_command=True)
def annotations(
    context: typer.Context, limit: Annotated[int, typer.Option(min=1, max=200, help="how many at most")] = 20
) -> None:
    """The newest tasks."""
    if context.invoked_subcommand is None:
        list_tasks(limit)


@app.command("list")
def list_tasks(limit: Annotated[int, typer.Option(min=1, max=200, help="how many at most")] = 20) -> None:
    """The newest tasks."""
    table = Table(Column("id", no_wrap=True), "name", Column("pairs", justify="right"), "annotators", "made")
    for task in ApiClient().get("/v1/annotations", limit=limit)["items"]:
        told = ", ".join(f"{name} {count}" for name, count in task["annotators"].items())
        table.add_row(
            task["id"], escape(task["name"]), f"{task['items']:,}", escape(told) or "nobody", clock(task["created_at"])
        )
    _console.print(table)
    if not table.row_count:
        _console.print("there is no annotation task yet; docs/people.md says how one is made")


@app.command()
def create(
    job: Annotated[str, typer.Argument(help="a finished job whose candidates answered")],
    first: Annotated[str, typer.Argument(help="name of an answer stage")],
    second: Annotated[str, typer.Argument(help="name of another")],
    name: Annotated[str, typer.Option(help="annotators see it: name no model in it")] = "Which answer is better?",
    limit: Annotated[int | None, typer.Option(min=1, help="take so many pairs")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    preferences: Annotated[bool, typer.Option(help="show what the person wants")] = True,
) -> None:
    """Make a task; people judge it at /annotations/<id> in the browser."""
    body: dict[str, Any] = {"name": name, "job": job, "first": first, "second": second, "seed": seed}
    body |= {"shows_preferences": preferences} | ({} if limit is None else {"limit": limit})
    task = ApiClient().post("/v1/annotations", body)
    _console.print(task["id"])
    left_out = ", ".join(f"{reason}: {count}" for reason, count in task["left_out"].items())
    _console.print(f"{task['items']:,} pairs" + (f"; no pair: {left_out}" if left_out else ""))


@app.command()
def results(task_id: TaskId) -> None:
    """Outcomes, win rate, agreement, and how well the job's judge says what people say."""
    found = ApiClient().get(f"/v1/annotations/{task_id}/results")
    task, figures = found["task"], found["results"]
    _console.print(f"{escape(task['first'])} (first) against {escape(task['second'])} (second)")
    outcomes = Table("outcome", Column("verdicts", justify="right"), Column("pairs by majority", justify="right"))
    for name, count in figures["outcomes"].items():
        outcomes.add_row(name, f"{count:,}", f"{figures['majorities'][name]:,}")
    outcomes.add_row("undecided", "", f"{figures['majorities']['undecided']:,}")
    _console.print(outcomes)
    people = Table("annotator", Column("judged", justify="right"), "took the left side", "95% interval", "median time")
    for one in figures["annotators"]:
        left, seconds = one["left"], one["median_seconds"]
        people.add_row(
            escape(one["name"]), f"{one['judged']:,}", *_told(left), "–" if seconds is None else f"{seconds:.1f} s"
        )
    _console.print(people)
    table = Table("figure", Column("n", justify="right"), "value", "95% interval")
    if figures["win_rate"] is not None:
        _row(table, "first wins, ties half", figures["win_rate"]["interval"])
    for one in figures["kappas"]:
        _row(table, f"Cohen's kappa, {one['annotators'][0]} and {one['annotators'][1]}", one["kappa"])
    _row(table, "Fleiss' kappa", figures["fleiss"])
    _row(table, "Krippendorff's alpha", figures["krippendorff"])
    for name in ("accuracy", "accuracy_decided", "kappa", "flip_rate", "length_bias"):
        if figures["calibration"] is not None:
            _row(table, f"judge: {name.replace('_', ' ')}", figures["calibration"][name])
    _console.print(table)
    if figures["calibration"] is None:
        _console.print(f"the judge is not known: {escape(figures['calibration_note'])}")


@app.command()
def export(
    task_id: TaskId,
    out: Annotated[Path, typer.Option(help="a file that ends with .jsonl or .csv")] = Path("annotations.jsonl"),
) -> None:
    """Write every verdict to a file that `multifacet agreement` and `multifacet rate` read."""
    kind = out.suffix.removeprefix(".")
    if kind not in ("jsonl", "csv"):
        raise typer.BadParameter(f"{out} ends with neither .jsonl nor .csv, which tell the format", param_hint="--out")
    ApiClient().save(f"/v1/annotations/{task_id}/export", out, format=kind)
    _console.print(f"written to {escape(str(out))}")


def _row(table: Table, name: str, interval: dict[str, Any]) -> None:
    table.add_row(escape(name), f"{interval['clusters']:,}", *_told(interval))


def _told(interval: dict[str, Any]) -> tuple[str, str]:
    """The estimate and its interval, or why there is none."""
    estimate, low, high = interval["estimate"], interval["low"], interval["high"]
    return (
        "–" if estimate is None else f"{estimate:.3f}",
        interval["method"].replace("_", " ") if low is None else f"{low:.3f} to {high:.3f}",
    )
