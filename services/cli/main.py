"""`multifacet`: run the system on one machine, submit and follow jobs, fetch what they made."""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, NoReturn
from uuid import uuid4

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from services.cli import annotations, benches, deployments, evaluations, models, operations, pools, profiles
from services.cli.bucket import ensure_bucket
from services.cli.client import ApiClient, job_path
from services.cli.demo import run_demo
from services.cli.dry_run import is_spec, show_previews, submit_dry_run
from services.cli.embedded.state import StateFolder
from services.cli.embedded.supervisor import default_most_workers, running_system
from services.cli.estimates import print_estimate
from services.cli.pull import pull_job
from services.cli.spec import read_spec
from services.cli.uploads import with_uploads
from services.cli.watch import print_outcome, watch_job
from shared.domain.errors import MultifacetError
from shared.settings import get_settings
from shared.settings.start_up import starting

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console(soft_wrap=True)

app.add_typer(models.app, name="models")
app.add_typer(deployments.app, name="deployments")
app.add_typer(profiles.app, name="profiles")
app.add_typer(benches.app, name="benches")
app.add_typer(evaluations.app, name="evaluations")
app.add_typer(annotations.app, name="annotations")
app.add_typer(pools.app, name="pools")
app.add_typer(operations.app)
app.command("training-presets")(models.training_presets)

JobId = Annotated[str, typer.Argument(help="id of the job, as `submit` printed it")]


@app.command()
def serve(
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="port of the api and the pages; default: a free one")
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="worker processes, each with all roles, that are always there; 0: only while steps wait"
        ),
    ] = 1,
    most_workers: Annotated[
        int | None, typer.Option(min=1, help="the most of them while steps wait; default: one per core, 4 at most")
    ] = None,
) -> None:
    """Run the whole system on this machine until interrupted: PostgreSQL, Redis, api, controller, worker, simulator, and a
    launcher of model servers."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    state = StateFolder()
    most = max(workers, 1, most_workers or default_most_workers())
    with running_system(state, port=port, workers=workers, most_workers=most, tell=console.print) as system:
        console.print(f"Multifacet answers at {system.api_url}  (data and logs: {state.root}; stop with Ctrl-C)")
        while not ended.wait(1.0):
            system.supervise()
        console.print("stopping")


@app.command()
def worker(
    roles: Annotated[str, typer.Option(help="comma-separated roles, or `all`")] = "all",
    once: Annotated[bool, typer.Option("--once", help="run one step, then leave with exit status 0")] = False,
) -> NoReturn:
    """Run one worker process in the foreground; settings come from MULTIFACET_* variables."""
    more = ["--once"] if once else []
    os.execv(sys.executable, [sys.executable, "-m", "shared.stages.worker", "--roles", roles, *more])


@app.command()
def migrate() -> None:
    """Bring the database that MULTIFACET_DATABASE_URL names to the newest schema."""
    from shared.metadata.engine import create_tables

    with starting():
        newer = create_tables(get_settings().database_url)
    if newer is not None:
        console.print(
            f"the database has the schema {newer} of a newer version, which serves this one, too; it is left as it is"
        )
        return
    console.print("the database is up to date")


@app.command("make-bucket")
def make_bucket(
    wait_seconds: Annotated[float, typer.Option(help="how long the object store may take to answer")] = 120.0,
) -> None:
    """Make the bucket that MULTIFACET_S3_BUCKET names, waiting until the object store answers."""
    with starting():
        settings = get_settings()
    made = asyncio.run(ensure_bucket(settings, wait_seconds))
    console.print("made the bucket" if made else "the bucket is there")


@app.command()
def demo(
    instructions: Annotated[
        Path | None, typer.Option(help="JSONL, CSV or Parquet file; default: 100 of our own")
    ] = None,
    teacher: Annotated[str, typer.Option(help="provider or provider/model")] = "simulator",
    out: Annotated[Path, typer.Option(help="folder for the results")] = Path("out/demo"),
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before a real teacher is paid")] = False,
) -> None:
    """Start the system, build a collection, put the results into a folder, stop again."""
    raise typer.Exit(run_demo(instructions, teacher, out, console, confirmed=yes))


@app.command()
def acceptance(
    teacher: Annotated[str, typer.Option(help="provider or provider/model, none of them the simulator")] = "openai",
    judge: Annotated[str | None, typer.Option(help="provider/model of the judge; default: the teacher")] = None,
    instructions: Annotated[
        Path | None, typer.Option(help="JSONL, CSV or Parquet file, 200 of it are taken; default: 200 of our own")
    ] = None,
    budget_usd: Annotated[float, typer.Option(min=0.01, help="no call starts once so much is spent")] = 5.0,
    out: Annotated[Path, typer.Option(help="folder for the results")] = Path("out/acceptance"),
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before the models are paid")] = False,
) -> None:
    """Build a small collection with a real teacher and judge, within a budget, and audit it; 1 where something is bad."""
    from services.cli.acceptance import run_acceptance  # as for `audit`

    raise typer.Exit(run_acceptance(instructions, teacher, judge, budget_usd, out, console, confirmed=yes))


@app.command()
def submit(
    spec: Annotated[Path, typer.Argument(help="job spec as YAML or JSON")],
    upload: Annotated[
        list[Path] | None,
        typer.Option(
            help="file to upload; the spec names it as `upload:<file name>`: instructions, a benchmark, a taxonomy, rows to "
            "train on"
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="follow the job until it ends")] = False,
) -> None:
    """Submit a job and print its id."""
    body = read_spec(spec)
    client = ApiClient()
    job = client.post("/v1/jobs", with_uploads(client, body, upload or []), {"Idempotency-Key": uuid4().hex})
    console.print(job["id"])
    if watch:
        _follow(client, job["id"])


@app.command()
def estimate(
    spec: Annotated[Path, typer.Argument(help="job spec as YAML or JSON")],
    upload: Annotated[list[Path] | None, typer.Option(help="as for `submit`")] = None,
) -> None:
    """Calls, tokens and money that a job would take, without submitting it."""
    body = read_spec(spec)
    client = ApiClient()
    print_estimate(client.post("/v1/jobs/estimate", with_uploads(client, body, upload or [])), console)


@app.command()
def preview(
    target: Annotated[str, typer.Argument(help="a job's id, or a job spec: that is submitted as a dry run")],
    stage: Annotated[str | None, typer.Option(help="show this training alone; default: all of the job")] = None,
    rows: Annotated[int, typer.Option(min=0, help="rows (or sides of pairs) to print of each training")] = 3,
    upload: Annotated[list[Path] | None, typer.Option(help="as for `submit`; with a spec alone")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the pages; default: out/<job id>")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before a real teacher is paid")] = False,
) -> None:
    """Show what trainings read, as tokens: those in the loss, row lengths, rows that are lost. Trains nothing."""
    client = ApiClient()
    if is_spec(target):
        job_id = submit_dry_run(client, Path(target), upload or [], console, confirmed=yes)
        if job_id is None:
            raise typer.Exit(2)
    elif upload:
        raise MultifacetError("--upload goes with a spec, and a job that ran has its files; leave it out")
    else:
        job_id = target
    show_previews(client, job_id, stage, out or Path("out") / job_id, rows, console)


@app.command()
def jobs(limit: Annotated[int, typer.Option(min=1, max=200)] = 20) -> None:
    """The newest jobs."""
    table = Table(Column("id", no_wrap=True), "name", "state", "created", "cost")
    for job in ApiClient().get("/v1/jobs", limit=limit)["items"]:
        table.add_row(
            job["id"],
            escape(job["name"]),
            job["state"],
            models.clock(job["created_at"]),
            f"${job['cost_micro_usd'] / 1e6:.4f}",
        )
    console.print(table)


@app.command()
def watch(job_id: JobId) -> None:
    """Follow a job with progress bars; ends with 1 if the job does not succeed."""
    _follow(ApiClient(), job_id)


@app.command()
def cancel(job_id: JobId) -> None:
    """Ask a job to stop; what it finished is kept."""
    console.print(f"{job_id} {ApiClient().post(job_path(job_id, 'cancel'))['state']}")


@app.command()
def retry(
    job_id: JobId,
    budget_usd: Annotated[float | None, typer.Option(help="a new budget, for a job that reached its own")] = None,
) -> None:
    """Take a failed or cancelled job up again; finished parts and paid answers are used again."""
    body = {} if budget_usd is None else {"budget_usd": budget_usd}
    console.print(f"{job_id} {ApiClient().post(job_path(job_id, 'retry'), body)['state']}")


@app.command()
def pull(
    job_id: JobId,
    out: Annotated[Path | None, typer.Option(help="folder; default: out/<job id>")] = None,
    everything: Annotated[bool, typer.Option("--all", help="also the parts of every stage")] = False,
) -> None:
    """Download what a job made, checking every sha256; weights of models by `models pull`, or with --all."""
    folder = out or Path("out") / job_id
    client = ApiClient()
    removed = client.get(job_path(job_id))["artifacts_removed_at"]
    written = pull_job(client, job_id, folder, everything=everything)
    console.print(f"{len(written)} files in {folder}")
    if removed is not None:
        console.print(f"what else the job made was removed on {removed[:10]} because of its age")


@app.command()
def audit(
    files: Annotated[
        list[Path],
        typer.Argument(help="one data set, or two to compare: a JSONL or Parquet file, or an export's folder"),
    ],
    benchmark: Annotated[
        list[Path] | None, typer.Option(help="file whose texts must not stand in the instructions; may be repeated")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="write the page here, one HTML file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Measure what is wrong with a data set in the released layouts, ours or others'; needs no running system."""
    from services.cli.audit import (
        run_audit,
    )  # its statistics take a second to import, which no other command should wait

    run_audit(files, benchmark or [], out, as_json, console)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="an evaluation.json, a folder holding one, or the id of a job")],
    second: Annotated[str, typer.Argument(help="the one that is taken from the first")],
    force: Annotated[bool, typer.Option(help="compare what two different benches have in common")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """The differences of two evaluations with their intervals, paired item by item; files need no running system."""
    from services.cli.compare import run_compare  # as for `audit`

    run_compare(first, second, console, force=force, as_json=as_json)


LayoutOption = Annotated[
    str | None, typer.Option(help="default: told by the columns; docs/verdict-files.md lists them")
]


@app.command()
def agreement(
    file: Annotated[Path, typer.Argument(help="JSON, JSONL, CSV or Parquet file of several annotators' verdicts")],
    layout: LayoutOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
) -> None:
    """How far annotators agree beyond chance, and what most of them say; needs no running system."""
    from services.cli.verdicts import run_agreement  # as for `audit`

    run_agreement(file, layout, as_json, console)


@app.command()
def rate(
    file: Annotated[Path, typer.Argument(help="JSON, JSONL, CSV or Parquet file of comparisons of models")],
    layout: LayoutOption = None,
    baseline: Annotated[str | None, typer.Option(help="model that the others are held against")] = None,
    length_control: Annotated[
        bool, typer.Option("--length-control", help="also the win rates at equal length of both answers")
    ] = False,
    style_control: Annotated[
        bool, typer.Option("--style-control", help="also the ratings at equal length and Markdown")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
) -> None:
    """Which models win, by how much, and how often the order of the answers decided; needs no running system."""
    from services.cli.verdicts import run_rate  # as for `audit`

    run_rate(file, layout, baseline, length_control, style_control, as_json, console)


@app.command("purge-cache")
def purge_cache() -> None:
    """Remove the stored answers of models; what jobs made stays, calls made from now on are paid again."""
    console.print(f"{ApiClient().delete('/v1/cache')['removed']:,} stored answers removed")


def _follow(client: ApiClient, job_id: str) -> None:
    job = watch_job(client, job_id, console)
    print_outcome(client, job, console)
    if job["state"] != "succeeded":
        raise typer.Exit(1)


def main() -> None:
    """Entry point: errors that a person is meant to read end with 1 and no traceback."""
    try:
        app()
    except MultifacetError as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]error[/red]: {escape(str(error))}", highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
