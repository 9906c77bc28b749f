"""Profiles in the terminal: the list, one profile, a new one or a new version from a file, and preferences from choices."""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from services.cli.client import ApiClient
from services.cli.models import clock
from services.cli.spec import read_mapping
from shared.domain.errors import MultifacetError

app = typer.Typer(help="What people prefer, and the system messages made of it.")
_console = Console(soft_wrap=True)

WAITING_SECONDS = 600.0
"""A teacher or a judge may be asked, and thousands of choices take a while."""
_SHAPE = "a mapping with `name` and `preferences`"

Name = Annotated[str, typer.Argument(help="the profile's name")]
ProfileFile = Annotated[
    Path, typer.Argument(help="YAML or JSON: preferences, and taxonomy, teacher, note where wanted")
]


@app.callback(invoke_without_command=True)
def profiles(
    context: typer.Context, limit: Annotated[int, typer.Option(min=1, max=200, help="how many at most")] = 20
) -> None:
    """The newest profiles."""
    if context.invoked_subcommand is None:
        list_profiles(limit)


@app.command("list")
def list_profiles(
    limit: Annotated[int, typer.Option(min=1, max=200, help="how many at most")] = 20,
) -> None:
    """The newest profiles."""
    table = Table(Column("name", no_wrap=True), Column("version", justify="right"), "created", "changed")
    for profile in ApiClient().get("/v1/profiles", limit=limit)["items"]:
        table.add_row(
            escape(profile["name"]),
            str(profile["version"]),
            clock(profile["created_at"]),
            clock(profile["changed_at"]),
        )
    _console.print(table)
    if not table.row_count:
        _console.print("there is no profile yet; docs/profiles.md says how one is made")


@app.command()
def show(
    name: Name,
    version: Annotated[int | None, typer.Option(min=1, help="this version; default: the one that counts")] = None,
) -> None:
    """One profile: its preferences and its system message."""
    client = ApiClient()
    if version is None:
        print_version(name, client.get(_path(name))["current"], _console)
    else:
        print_version(name, client.get(f"{_path(name)}/versions/{version}"), _console)


@app.command()
def create(file: ProfileFile) -> None:
    """Make a profile of a file that also gives its `name`."""
    view = ApiClient().post("/v1/profiles", read_mapping(file, "a profile", _SHAPE), seconds=WAITING_SECONDS)
    print_version(view["name"], view["current"], _console)


@app.command()
def change(name: Name, file: ProfileFile) -> None:
    """Give a profile its next version from a file. A `name` in the file must be that of the profile."""
    body = read_mapping(file, "a profile", "a mapping with `preferences`")
    named = body.pop("name", name)
    if named != name:
        raise MultifacetError(
            f"{file} names the profile {named!r}, and {name!r} was to be changed; correct one of the two"
        )
    view = ApiClient().put(_path(name), body, seconds=WAITING_SECONDS)
    print_version(name, view["current"], _console)


@app.command()
def infer(
    file: Annotated[
        Path, typer.Argument(help="choices: JSON lines of {prompt, chosen, rejected}, or YAML or JSON with `choices`")
    ],
    taxonomy: Annotated[str | None, typer.Option(help="id of an uploaded taxonomy; default: multifacet")] = None,
    judge: Annotated[
        str | None, typer.Option(help="provider/model that reads the answers for what no program measures")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="write the whole report to this file, as JSON")] = None,
) -> None:
    """Propose preferences that would explain somebody's choices, and say how well they predict."""
    body = read_choices(file)
    if taxonomy is not None:
        body["taxonomy"] = taxonomy
    if judge is not None:
        provider, slash, model = judge.partition("/")
        if not slash:
            raise MultifacetError(f"--judge is {judge!r}; give provider/model, such as simulator/simulator-large")
        body["judge"] = {"provider": provider, "model": model}
    report = ApiClient().post("/v1/profiles/infer", body, seconds=WAITING_SECONDS)
    if out is not None:
        try:
            out.write_text(json.dumps(report, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise MultifacetError(f"{out} cannot be written: {error.strerror}; choose another file") from error
    print_report(report, _console)


def read_choices(path: Path) -> dict[str, Any]:
    """The body of a request from a file. Raises MultifacetError for one that cannot be read; the api judges the choices."""
    if path.suffix != ".jsonl":
        return read_mapping(
            path, "a file of choices", "a mapping with `choices`, or JSON lines in a file named *.jsonl"
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MultifacetError(f"{path} cannot be read: {error}; give a UTF-8 file of JSON lines") from error
    choices = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                choices.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise MultifacetError(f"line {number} of {path} is not JSON: {error}") from error
    return {"choices": choices}


def print_version(name: str, version: dict[str, Any], to: Console) -> None:
    """The preferences of a version, and the message they became."""
    to.print(f"[bold]{escape(name)}[/bold], version {version['version']} of {clock(version['created_at'])}")
    if version["note"]:
        to.print(escape(version["note"]))
    for number, stated in enumerate(version["preferences"], 1):
        to.print(f"{number}. {escape(_stated(stated))}")
    to.print(f"\n{escape(version['system'])}", highlight=False)


def print_report(report: dict[str, Any], to: Console) -> None:
    """The verdict, then what is proposed and why."""
    to.print(f"{report['choices']} choices on {report['prompts']} prompts; {report['looked_at']} columns of evidence")
    to.print(escape(report["verdict"]["words"]))
    table = Table("preference", "seen by", "for", "against", "silent", Column("weight", justify="right"), "examples")
    for proposed in report["proposed"]:
        evidence = proposed["evidence"]
        table.add_row(
            escape(_stated(proposed["preference"])),
            evidence["source"],
            *(str(evidence[name]) for name in ("chosen_follows", "rejected_follows", "silent")),
            f"{evidence['weight']:.2f}",
            ", ".join(map(str, evidence["examples_for"])),
        )
    if table.row_count:
        to.print(table)


def _stated(stated: dict[str, Any]) -> str:
    named = stated.get("seed") or ": ".join(part for part in (stated.get("subdimension"), stated.get("pole")) if part)
    words = stated.get("description")
    return " – ".join(part for part in (named, words and f"“{words}”") if part)


def _path(name: str) -> str:
    return f"/v1/profiles/{quote(name, safe='', errors='surrogateescape')}"
