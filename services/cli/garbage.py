"""`multifacet garbage`: what is past its age and needed by nothing."""

import asyncio
from collections import Counter

from rich.console import Console
from rich.table import Column, Table

from shared.artifacts import open_store
from shared.metadata.engine import create_engine, session_factory
from shared.operations.garbage import Ages, Collector, Removal, Unknown
from shared.settings import Settings

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def run_garbage(settings: Settings, console: Console, *, dry_run: bool, unknown_jobs_too: bool) -> None:
    """List what would go, or remove it, with sizes."""
    found, kept, unknown = asyncio.run(_collect(settings, dry_run=dry_run, unknown_jobs_too=unknown_jobs_too))
    table = Table("what", Column("which", no_wrap=True), Column("count", justify="right"), "size", "why")
    for removal in found:
        table.add_row(removal.kind.value, removal.subject, f"{removal.count:,}", size_text(removal.bytes), removal.why)
    if found:
        console.print(table)
    sums: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for removal in found:
        sums[removal.kind.value] += removal.bytes
        counts[removal.kind.value] += removal.count
    for kind in counts:
        console.print(f"{kind}: {counts[kind]:,}, {size_text(sums[kind])}")
    total = size_text(sum(sums.values()))
    console.print(f"{total} {'would be removed' if dry_run else 'removed'}" if found else "nothing is past its age")
    if kept:
        console.print(f"{kept} of what was found is needed by now, or a backup is being made; it stays")
    if unknown != Unknown() and not unknown_jobs_too:
        shown = ", ".join(unknown.jobs[:3]) + (" …" if len(unknown.jobs) > 3 else "")
        console.print(
            f"the store holds {unknown.count:,} objects ({size_text(unknown.bytes)}) of {len(unknown.jobs):,} jobs that "
            f"this database does not know ({shown}): nothing unnamed is removed while it does. If another system uses this "
            "store, give each its own; if the database was restored from before them, run `multifacet garbage --unknown-jobs`"
        )


async def _collect(settings: Settings, *, dry_run: bool, unknown_jobs_too: bool) -> tuple[list[Removal], int, Unknown]:
    engine = create_engine(settings.database_url, application_name="multifacet-garbage")
    collector = Collector(
        session_factory(engine), open_store(settings), Ages.of(settings), unknown_jobs_too=unknown_jobs_too
    )
    try:
        found, kept = [], 0
        async for removal in collector.find():
            if dry_run or await collector.remove(removal):
                found.append(removal)
            else:
                kept += 1
    finally:
        await engine.dispose()
    return found, kept, collector.unknown


def size_text(count: int) -> str:
    """Bytes for people: `3.4 MiB`."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"
