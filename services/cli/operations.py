"""What an operator does with a whole system: `multifacet garbage`, `backup`, `verify-backup`, `restore`."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from services.cli.administered import administered_settings
from services.cli.garbage import run_garbage, size_text
from shared.artifacts import open_store
from shared.artifacts.s3 import S3Store
from shared.operations.backup_format import BackupManifest

app = typer.Typer()
console = Console(soft_wrap=True)

BackupFolder = Annotated[Path, typer.Argument(help="folder of the backup")]


@app.command()
def garbage(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only list what would go, with sizes")] = False,
    unknown_jobs: Annotated[
        bool, typer.Option("--unknown-jobs", help="also objects of jobs that the database does not know")
    ] = False,
) -> None:
    """Remove what is past its age and needed by nothing, as the controller does now and then; ages are MULTIFACET_RETENTION_*."""
    with administered_settings() as settings:
        run_garbage(settings, console, dry_run=dry_run, unknown_jobs_too=unknown_jobs)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="folder to write into: empty, or not there yet")],
) -> None:
    """Back up the whole system while it works: database, artifacts, uploads, checkpoints; neither settings nor secrets."""
    from shared.operations.backup import (
        back_up,
    )  # migrations take a moment to import, which no other command should wait

    started = time.monotonic()
    with administered_settings() as settings:
        manifest = asyncio.run(back_up(settings.database_url, open_store(settings), folder))
    _tell("backed up", folder, manifest, time.monotonic() - started)
    for lost in manifest.lost:
        console.print(f"[red]not in it[/red]: {escape(lost.key)}: {escape(lost.why)}", highlight=False)
    if manifest.lost:
        console.print("the store had lost these before; everything else is in the backup")
        raise typer.Exit(1)


@app.command("verify-backup")
def verify_backup(folder: BackupFolder) -> None:
    """Hold every file of a backup against its sha256; needs no running system."""
    from shared.operations.backup_format import verify  # as for `backup`

    started = time.monotonic()
    manifest, _ = verify(folder)
    _tell("whole:", folder, manifest, time.monotonic() - started)


@app.command()
def restore(folder: BackupFolder) -> None:
    """Put a backup into an empty system, verified first; stop api, controller and workers before."""
    from shared.operations.restore import restore as put_back  # as for `backup`

    started = time.monotonic()
    with administered_settings() as settings:
        store = open_store(settings)

        async def work() -> BackupManifest:
            if isinstance(store, S3Store):
                await store.ensure_bucket()
            return await put_back(settings.database_url, store, folder)

        manifest = asyncio.run(work())
    _tell("restored", folder, manifest, time.monotonic() - started)
    console.print("start the system: jobs that were under way go on by themselves")


def _tell(what: str, folder: Path, manifest: BackupManifest, seconds: float) -> None:
    console.print(
        f"{what} {folder}: as of {manifest.taken_at}, {manifest.rows:,} rows of {len(manifest.tables)} tables, "
        f"{manifest.objects:,} objects of {size_text(manifest.bytes)}, in {seconds:.1f} s"
    )
