"""Deployments in the terminal: the list, a new one or its next revision, its history, back to what was, and its end."""

import time
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from services.cli.client import ApiClient
from services.cli.models import WIDE, clock
from shared.domain.errors import MultifacetError

app = typer.Typer(help="Models that answer under a name.")
_console = Console(soft_wrap=True)

_POLL_SECONDS = 0.5
_SETTLED = frozenset({"ready", "failed", "stopped"})

Deployment = Annotated[str, typer.Argument(help="name of the deployment, or its id")]
Wait = Annotated[bool, typer.Option("--wait", help="until it answers; 1 where it cannot be served")]


@app.callback(invoke_without_command=True)
def deployments(
    context: typer.Context,
    stopped: Annotated[bool, typer.Option("--all", help="also those that were undeployed")] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="how many at most")] = 20,
) -> None:
    """The project's deployments, newest first."""
    if context.invoked_subcommand is not None:
        return
    wide = _console.width >= WIDE
    table = Table(Column("name", no_wrap=True), "state", "serves", *(("server", "changed") if wide else ()))
    query = {"limit": limit, "stopped": "true" if stopped else "false"}
    for row in ApiClient().get("/v1/deployments", **query)["items"]:
        more = (_server_text(row), clock(row["changed_at"])) if wide else ()
        table.add_row(escape(row["name"]), row["state"], escape(target_text(row["target"])), *more)
    _console.print(table)
    if not table.row_count:
        _console.print("nothing is deployed; `multifacet deployments create` does it, docs/deployments.md says how")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="what clients give as `model`; one that is there gets its next revision")],
    model: Annotated[str | None, typer.Option(help="id of a registered model, as `multifacet models` lists it")] = None,
    provider: Annotated[
        str | None, typer.Option(help="provider/model of a configured provider, in place of --model")
    ] = None,
    server: Annotated[str | None, typer.Option(help="cpu (default) or tgi, which needs a GPU")] = None,
    input_tokens: Annotated[int | None, typer.Option(min=1, help="longest prompt")] = None,
    total_tokens: Annotated[int | None, typer.Option(min=2, help="longest prompt and answer together")] = None,
    concurrent_requests: Annotated[
        int | None, typer.Option(min=1, help="requests at once; more are turned away")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16")] = None,
    quantize: Annotated[str | None, typer.Option(help="tgi only: bitsandbytes-nf4, fp8 or eetq")] = None,
    wait: Wait = False,
) -> None:
    """Serve a model under a name."""
    given = {
        "server": server,
        "maximum_input_tokens": input_tokens,
        "maximum_total_tokens": total_tokens,
        "maximum_concurrent_requests": concurrent_requests,
        "dtype": dtype,
        "quantize": quantize,
    }
    options = {key: value for key, value in given.items() if value is not None}
    client = ApiClient()
    body = {"name": name, "target": target_of(model, provider), **({"options": options} if options else {})}
    _told(client, client.post("/v1/deployments", body), wait)


@app.command()
def show(deployment: Deployment) -> None:
    """One deployment: what it serves and where, its revisions and its history."""
    print_deployment(ApiClient().get(_path(deployment)), _console)


@app.command()
def rollback(deployment: Deployment, wait: Wait = False) -> None:
    """Serve again what was ready before."""
    client = ApiClient()
    _told(client, client.post(_path(deployment, "rollback")), wait)


@app.command()
def stop(deployment: Deployment) -> None:
    """Undeploy: the model answers no more, the name is free again."""
    row = ApiClient().delete(_path(deployment))
    _console.print(f"{escape(row['name'])} {row['state']}")


def target_of(model: str | None, provider: str | None) -> dict[str, str]:
    """The target that the options name. Raises MultifacetError for none and for both."""
    if (model is None) == (provider is None):
        raise MultifacetError(
            "name what shall be served: --model with a registered model's id, or --provider provider/model"
        )
    if model is not None:
        return {"registry": model}
    name, _, providers_model = (provider or "").partition("/")
    if not name or not providers_model:
        raise MultifacetError(f"--provider {provider!r} is not provider/model, such as openai/gpt-4.1-mini")
    return {"provider": name, "model": providers_model}


def target_text(target: dict[str, Any]) -> str:
    return str(target.get("registry") or f"{target['provider']}/{target['model']}")


def wait_until_settled(
    client: ApiClient, row: dict[str, Any], tell: Callable[[str], None], pause: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Follow a deployment until the revision that it shall serve is ready or given up; returns its last view."""
    wanted, told = row["wanted_revision"], None
    while True:
        line = f"{row['name']} {row['state']}" + (f": {row['detail']}" if row["detail"] else "")
        if line != told:
            tell(line)
            told = line
        if row["state"] in _SETTLED or row["wanted_revision"] != wanted:
            return row
        pause(_POLL_SECONDS)
        row = client.get(_path(row["id"]))


def print_deployment(row: dict[str, Any], to: Console) -> None:
    """What a person asks of a deployment first."""
    table = Table(show_header=False, box=None)
    facts = {
        "name": row["name"],
        "id": row["id"],
        "state": row["state"] + (f": {row['detail']}" if row["detail"] else ""),
        "serves": target_text(row["target"]),
        "server": _server_text(row),
        "places": ", ".join(f"{place['id']} ({place['state']})" for place in row["places"]) or "none",
        "created": clock(row["created_at"]),
    }
    if row["job_id"]:
        facts["made by"] = f"job {row['job_id']}, and ends with it"
    for name, value in facts.items():
        table.add_row(f"[bold]{name}[/bold]", escape(value))
    to.print(table)
    revisions = Table(Column("revision", justify="right"), "serves", "state", "ready since", "why not")
    for item in row["revisions"]:
        ready = clock(item["ready_at"]) if item["ready_at"] else ""
        cells = (target_text(item["target"]), item["state"], ready, item["error"] or "")
        revisions.add_row(str(item["revision"]), *map(escape, cells))
    to.print(revisions)
    history = Table("when", Column("revision", justify="right"), "what", "detail")
    for event in row["events"]:
        what = (escape(event["type"]), escape(event["detail"]))
        history.add_row(clock(event["created_at"]), str(event["revision"]), *what)
    to.print(history)


def _told(client: ApiClient, row: dict[str, Any], wait: bool) -> None:
    def tell(line: str) -> None:
        _console.print(escape(line))

    if not wait:
        tell(f"{row['name']} {row['state']}" + (f": {row['detail']}" if row["detail"] else ""))
        return
    wanted = row["wanted_revision"]
    row = wait_until_settled(client, row, tell)
    if row["state"] != "ready" or row["serving_revision"] != wanted:
        raise typer.Exit(1)


def _server_text(row: dict[str, Any]) -> str:
    return "the provider's" if row["target"].get("registry") is None else str(row["options"]["server"])


def _path(name: str, *rest: str) -> str:
    return "/".join(("/v1/deployments", *(quote(part, safe="", errors="surrogateescape") for part in (name, *rest))))
