"""Registered models in the terminal: the list, one model, its files on this machine; and the recipes of trainings."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from services.cli.client import ApiClient
from shared.domain.errors import MultifacetError
from shared.domain.models import ADAPTER_KIND, MODEL_KIND
from shared.domain.training_presets import training_preset_names, training_preset_text
from shared.pages.trainings import base_text, count_text, data_text, ends_of, method_text, metric_rows, metric_text

app = typer.Typer(help="What trainings made.")
_console = Console(soft_wrap=True)

WIDE = 110
"""Characters of a terminal from which on the list also shows sizes and times."""

ModelId = Annotated[str, typer.Argument(help="id of the model, as `multifacet models` lists it")]


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context, limit: Annotated[int, typer.Option(min=1, max=200, help="how many at most")] = 20
) -> None:
    """The newest registered models."""
    if context.invoked_subcommand is not None:
        return
    wide = _console.width >= WIDE
    more = ("parameters", "created") if wide else ()
    table = Table(Column("id", no_wrap=True), "name", "what", "loss", *more)
    for model in ApiClient().get("/v1/registry/models", limit=limit)["items"]:
        training, held_out = ends_of(model["metrics"])
        table.add_row(
            model["id"],
            escape(model["name"]),
            f"{model['method']}, {model['tuning']}" + (", adapters alone" if model["adapter_only"] else ""),
            metric_text("loss", {**training, **held_out}.get("loss")),
            *((count_text(model["parameter_count"]), clock(model["created_at"])) if wide else ()),
        )
    _console.print(table)
    if not table.row_count:
        _console.print("no training has made a model yet; docs/training.md says how one does")


@app.command()
def show(model_id: ModelId) -> None:
    """One model: where it comes from, its last figures, its files."""
    print_model(ApiClient().get(_path(model_id)), _console)


@app.command()
def pull(model_id: ModelId, folder: Annotated[Path, typer.Argument(help="where its files are put")]) -> None:
    """Download the files of a model, checking every sha256. The folder can be loaded as it is."""
    written = pull_model(ApiClient(), model_id, folder)
    _console.print(f"{len(written)} files in {escape(str(folder))}")


def training_presets(
    name: Annotated[str | None, typer.Argument(help="print this one as YAML; default: list all")] = None,
) -> None:
    """Ready values for trainings, as YAML to copy into a job spec."""
    if name is None:
        for known in training_preset_names():
            typer.echo(known)
        return
    try:
        typer.echo(training_preset_text(name), nl=False)
    except ValueError as error:
        raise MultifacetError(str(error)) from error


def pull_model(client: ApiClient, model_id: str, folder: Path) -> list[Path]:
    """Write the model's files below `folder` (its adapters, where it is adapters alone); returns the paths. Raises
    MultifacetError where there are none, and for a file that would lie elsewhere."""
    model = client.get(_path(model_id))
    kind = ADAPTER_KIND if model["adapter_only"] else MODEL_KIND
    written = []
    for file in model["files"]:
        if file["kind"] != kind:
            continue
        target = folder / str(file["name"]).removeprefix(f"{kind}/")
        if not target.resolve().is_relative_to(folder.resolve()):
            raise MultifacetError(
                f"the file {file['name']!r} of model {model_id} would lie outside {folder}: not written"
            )
        client.download(f"/v1/artifacts/{file['id']}/content", target, file["sha256"])
        written.append(target)
    if not written:
        raise MultifacetError(f"the model {model_id} has no files of kind {kind}; was its job removed from the store?")
    return written


def print_model(model: dict[str, Any], to: Console) -> None:
    """What a person asks of a model first."""
    lineage = model["lineage"]
    data = lineage.get("data") or {}
    job = data.get("job_id")
    facts = {
        "name": model["name"],
        "what": method_text(model["method"], model["tuning"]),
        "base": base_text(model["base"]),
        "data": data_text({"job": job, "file": data.get("file_id")}),
        "made by": f"training {model['stage']} of job {model['job_id']}",
        "parameters": f"{model['parameter_count']:,} ({model['dtype']})",
        "files": "adapters alone, without their base" if model["adapter_only"] else "a whole model",
        "created": clock(model["created_at"]),
    }
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(f"[bold]{name}[/bold]", escape(value))
    to.print(table)
    if lineage.get("random_weights"):
        to.print("[yellow]a trial[/yellow]: it had random weights before, and knows no language beyond its few rows")
    if data.get("simulator"):
        to.print(
            "[yellow]simulator[/yellow]: it was trained on texts that no language model wrote; it is no model to be used"
        )
    figures = Table("figure", Column("training, last step", justify="right"), Column("held-out rows", justify="right"))
    for row in metric_rows(*ends_of(model["metrics"])):
        figures.add_row(escape(row["name"]), row["training"], row["evaluation"])
    if figures.row_count:
        to.print(figures)
    files = Table("file", "kind", Column("bytes", justify="right"))
    for file in model["files"]:
        files.add_row(escape(file["name"]), escape(file["kind"]), f"{file['size']:,}")
    to.print(files)


def clock(moment: str) -> str:
    """`2026-11-28 20:49` of a moment as the api gives it, in UTC."""
    return moment[:16].replace("T", " ")


def _path(model_id: str) -> str:
    return f"/v1/registry/models/{quote(model_id, safe='', errors='surrogateescape')}"
