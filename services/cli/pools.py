"""Pools of workers in the terminal: what waits, who works, how many are wanted; telling workers to leave."""

from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from services.cli.client import ApiClient
from services.cli.models import clock

app = typer.Typer(help="Workers: what waits for them, how many there are, telling them to leave.")
_console = Console(soft_wrap=True)


@app.callback(invoke_without_command=True)
def pools(context: typer.Context) -> None:
    """Every pool with its demand, what the autoscaler wants and has, and the live workers."""
    if context.invoked_subcommand is not None:
        return
    answer = ApiClient().get("/v1/pools")
    table = Table(
        Column("pool", no_wrap=True),
        *(Column(name, justify="right") for name in ("ready", "running", "slots", "workers")),
    )
    for pool in answer["pools"]:
        table.add_row(pool["pool"], *(str(pool[name]) for name in ("ready", "running", "slots", "workers")))
    _console.print(table)
    if answer["groups"]:
        table = Table(
            Column("group", no_wrap=True),
            Column("desired", justify="right"),
            Column("running", justify="right"),
            "of",
            "note",
        )
        for group in answer["groups"]:
            note = f"not heard of since {clock(group['seen_at'])}" if group["stale"] else group["detail"]
            bounds = f"{group['minimum']} to {group['maximum']}"
            table.add_row(escape(group["name"]), str(group["desired"]), str(group["running"]), bounds, escape(note))
        _console.print(table)
    table = Table(Column("worker", no_wrap=True), "roles", Column("running", justify="right"), "since", "state")
    for worker in answer["workers"]:
        state = "leaving" if worker["draining"] else "working" if worker["running"] else "idle"
        roles = "all" if len(worker["roles"]) == len(answer["pools"]) else ", ".join(worker["roles"])
        busy = f"{worker['running']} of {worker['slots']}"
        table.add_row(escape(worker["id"]), roles, busy, clock(worker["started_at"]), state)
    _console.print(table if answer["workers"] else "no worker lives: steps wait until one is started")


@app.command()
def drain(
    pool: Annotated[str, typer.Argument(help="name of the pool")],
    worker: Annotated[str | None, typer.Option(help="id of one worker; default: all of the pool")] = None,
) -> None:
    """Tell workers to finish what they run, take nothing more and leave."""
    told = ApiClient().post(f"/v1/pools/{quote(pool, safe='')}/drain", {} if worker is None else {"worker": worker})[
        "workers"
    ]
    for name in told:
        _console.print(f"{escape(name)} was told to leave")
    if not told:
        _console.print("there is no worker to be told: those that live leave already")
