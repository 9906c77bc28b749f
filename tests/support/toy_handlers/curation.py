import os
import random
import signal
import time
from collections.abc import Iterable

from shared.artifacts.layout import part_name
from shared.artifacts.tables import read_rows, write_rows
from shared.domain.errors import InputRefused
from shared.domain.identifiers import row_id_of
from shared.domain.jobs import JobSpec
from shared.domain.ledger import Ledger
from shared.domain.plan import StageKind, shard_size
from shared.domain.rows import ROW_SCHEMA_VERSION, InstructionRow
from shared.stages.protocol import OutputObject, WholeContext, WholeResult, WholeStepHandler


def curate(context: WholeContext) -> WholeResult:
    print("noise on standard output must not disturb the protocol")
    name = context.spec.name
    if name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("hungry"):
        _eat()
    if name.startswith("raise"):
        raise RuntimeError("a secret text that must not be kept")
    if name.startswith("refuse"):
        raise InputRefused("the toy refuses this source", "/sources/0")
    if name.startswith("sleep"):
        for second in range(600):
            context.progress(second, 600, "sleeping")
            time.sleep(0.1)
    outputs = []
    parts = curated(context.spec)
    count = sum(map(len, parts))
    for shard, part in enumerate(parts):
        path = context.output_folder / part_name(shard)
        write_rows(path, part)
        outputs.append(_table(path.name, path, len(part)))
        context.progress(part[0].source_row, count, "writing")
    return WholeResult(tuple(outputs), Ledger(rows_in=count, rows_out=count), {"uploads": _uploads(context)})


def _eat() -> None:
    """Take memory until the kernel says no."""
    taken = []
    while True:
        taken.append(bytearray(os.urandom(1 << 20)) * 16)
        time.sleep(0.01)


_BALLAST_BYTES = 40 << 20
"""More than one part of an upload in parts."""


def curated(spec: JobSpec) -> list[list[InstructionRow]]:
    """The rows that a job's curation makes, shard by shard."""
    name, count = spec.name, spec.curate.limit or 32
    rows = [InstructionRow(row_id_of(f"{name} {n}"), f"instruction {n}", "toy", "toy", n) for n in range(count)]
    size = 1 if name.startswith("many") else shard_size(count)
    return [rows[start : start + size] for start in range(0, count, size)]


def assemble(context: WholeContext) -> WholeResult:
    rows = [row for item in context.inputs for row in read_rows(item.path)]
    path = context.output_folder / "collection.parquet"
    write_rows(path, rows)
    outputs = [_table("collection/train.parquet", path, len(rows))]
    if context.spec.name.startswith("heavy"):
        ballast = context.output_folder / "ballast.bin"
        ballast.write_bytes(random.Random(context.spec.name).randbytes(_BALLAST_BYTES))
        outputs.append(OutputObject("exports/ballast.bin", ballast, "application/octet-stream"))
    facets = sum(len([f for f in row.facets if f.alive]) for row in rows)
    alive = sum(row.alive for row in rows)
    ledger = Ledger(rows_in=alive, rows_out=alive, facets_in=facets, facets_out=facets)
    return WholeResult(tuple(outputs), ledger, {"facets": facets})


def report(context: WholeContext) -> WholeResult:
    page = context.output_folder / "report.html"
    page.write_text(f"<h1>{context.facts['job_id']}</h1>" + repr(dict(context.stage_ledgers)))
    readme = context.output_folder / "README.md"
    readme.write_text("# card\n")
    return WholeResult(
        (
            OutputObject("report.html", page, "text/html", kind="report", job_level=True),
            OutputObject("README.md", readme, "text/markdown", kind="card", job_level=True),
        ),
        Ledger(),
        {"stages": sorted(context.stage_ledgers), "simulator": context.facts["teacher_is_simulator"]},
    )


def _table(name: str, path: "os.PathLike[str]", rows: int) -> OutputObject:
    return OutputObject(name, path, "application/vnd.apache.parquet", rows, ROW_SCHEMA_VERSION, "table")  # type: ignore[arg-type]


def _uploads(context: WholeContext) -> Iterable[str]:
    return [f"{item.metadata['name']}: {item.path.stat().st_size}" for item in context.inputs if item.stage == "upload"]


HANDLERS = (
    WholeStepHandler(StageKind.CURATE, f"{__name__}:curate"),
    WholeStepHandler(StageKind.ASSEMBLE, f"{__name__}:assemble"),
    WholeStepHandler(StageKind.SELECT, "services.curation.select:run"),
    WholeStepHandler(StageKind.REPORT, f"{__name__}:report"),
)
