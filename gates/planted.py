"""What the audit finds of planted defects in the exports of a finished job:

    python -m gates.planted EXPORTS OUT [--seed 0] [--alone]

EXPORTS is the folder `assemble/exports` with `sft` and `dpo`, which is only read. OUT gets a copy of both with the defects of
`gates.defects`, and a page each with the clean and the planted set side by side.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from gates.defects import DEFECTS, Defect, Export, Planted, Row, Splits
from shared.audit import Audit, Finding, audit_data, compare, load_data
from shared.audit.findings import VERDICT_WORDS
from shared.audit.page import figure_text, render_audit
from shared.domain.errors import InputRefused

EXPORTS: tuple[Export, ...] = ("sft", "dpo")
_RANK = {"not_applicable": 0, "ok": 1, "warn": 2, "bad": 3}
_SPLITS = ("train", "test")


class Caught(msgspec.Struct, frozen=True):
    """What one measure says of the clean and of the planted set about one defect."""

    defect: Defect
    planted: Planted
    clean: Finding
    changed: Finding

    @property
    def caught(self) -> bool:
        """Whether something was planted and the verdict about it is bad, or worse than that about the clean set."""
        worse = _RANK[self.changed.verdict] > _RANK[self.clean.verdict]
        return self.planted.changed > 0 and (worse or self.changed.verdict == "bad")


def plant(
    exports: Path, out: Path, seed: int = 0, defects: Sequence[Defect] = DEFECTS
) -> dict[tuple[Export, str], Planted]:
    """Writes `out/sft` and `out/dpo` with the defects and returns how far each was planted, by export and name.

    Raises InputRefused where an export lacks a file, and where `out` is `exports`.
    """
    if out.resolve() == exports.resolve():
        raise InputRefused(f"{out} is the folder of the exports themselves, which stay as they are; give another one")
    found = {}
    for export in EXPORTS:
        source = exports / export
        files = {name: source / f"{name}.parquet" for name in (*_SPLITS, "provenance")}
        if missing := [str(file) for file in files.values() if not file.is_file()]:
            raise InputRefused(
                f"{', '.join(missing)} cannot be read; give the folder `assemble/exports` of a finished job, whose `sft` and "
                "`dpo` hold train.parquet, test.parquet and provenance.parquet"
            )
        tables = {name: pq.read_table(file) for name, file in files.items()}
        origins = {(origin["split"], origin["row"]): origin for origin in tables["provenance"].to_pylist()}
        rows = {
            name: [
                {**row, "_origin": origins.get((name, at))} for at, row in enumerate(tables[name].to_pylist())
            ]
            for name in _SPLITS
        }  # fmt: skip
        splits = Splits(rows["train"], rows["test"])
        for defect in defects:
            if defect.export == export:
                found[export, defect.name] = defect.plant(splits, defect.share, random.Random(f"{seed}:{defect.name}"))
        _write(out / export, splits, {name: table.schema for name, table in tables.items()})
    return found


def measure(exports: Path, out: Path, seed: int = 0, *, alone: bool = False) -> list[Caught]:
    """Plants, audits both, and writes `out/sft.html` and `out/dpo.html`.

    A copy with all defects has figures that several of them move; with `alone` each defect is judged in a copy of its own,
    which takes an audit for each. Raises InputRefused as `plant` does.
    """
    together = plant(exports, out, seed)
    results = []
    for export in EXPORTS:
        clean = _audit(exports / export, f"{export}, clean")
        changed = _audit(out / export, f"{export}, planted")
        # Without its provenance the planted copy does not tell any more who made it.
        changed = msgspec.structs.replace(changed, simulated=clean.simulated)
        page = render_audit([clean, changed], compare(clean, changed))
        (out / f"{export}.html").write_text(page, encoding="utf-8")
        for defect in DEFECTS:
            if defect.export != export:
                continue
            planted, judged = together[export, defect.name], changed
            if alone:
                with TemporaryDirectory() as folder:
                    planted = plant(exports, Path(folder), seed, [defect])[export, defect.name]
                    judged = _audit(Path(folder) / export, defect.name)
            results += [Caught(defect, planted, _named(clean, name), _named(judged, name)) for name in defect.measures]
    return results


def _audit(folder: Path, name: str) -> Audit:
    return msgspec.structs.replace(audit_data(load_data(folder)), name=name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 1 where a planted defect is not caught, 2 where the folder cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m gates.planted", description=__doc__)
    parser.add_argument("exports", type=Path, help="folder assemble/exports of a finished job")
    parser.add_argument("out", type=Path, help="folder for the planted copy and the pages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alone", action="store_true", help="judge each defect in a copy that has no other")
    options = parser.parse_args(arguments)
    console = Console(width=170)
    try:
        results = measure(options.exports, options.out, options.seed, alone=options.alone)
    except InputRefused as error:
        console.print(str(error), markup=False)
        return 2
    table = Table(
        "defect", "planted in", "measure", "clean", "planted", "verdict clean", "verdict planted", "caught",
        title=f"Defects planted in exports, {'each alone' if options.alone else 'all in one copy'}",
    )  # fmt: skip
    for result in results:
        table.add_row(
            result.defect.name,
            _share(result),
            result.clean.name,
            figure_text(result.clean.estimate),
            figure_text(result.changed.estimate),
            VERDICT_WORDS[result.clean.verdict],
            VERDICT_WORDS[result.changed.verdict],
            "yes" if result.caught else "no",
        )
    console.print(table)
    missed = sum(not result.caught for result in results)
    console.print(
        f"{len(results) - missed} of {len(results)} caught; pages: {options.out}/sft.html, {options.out}/dpo.html"
    )
    return 1 if missed else 0


def _write(folder: Path, splits: Splits, schemas: dict[str, pa.Schema]) -> None:
    """The files of one export; provenance follows the rows that are left, at their new places."""
    folder.mkdir(parents=True, exist_ok=True)
    origins: list[Row] = []
    for name, rows in zip(_SPLITS, (splits.train, splits.test), strict=True):
        kept = []
        for at, row in enumerate(rows):
            fields = dict(row)
            if (origin := fields.pop("_origin")) is not None:
                origins.append({**origin, "split": name, "row": at})
            kept.append(fields)
        pq.write_table(pa.Table.from_pylist(kept, schema=schemas[name]), folder / f"{name}.parquet")
    provenance = folder / "provenance.parquet"
    provenance.unlink(missing_ok=True)  # of an earlier run
    if splits.keeps_provenance:
        pq.write_table(pa.Table.from_pylist(origins, schema=schemas["provenance"]), provenance)


def _named(audit: Audit, name: str) -> Finding:
    return next(found for found in audit.findings() if found.name == name)


def _share(result: Caught) -> str:
    changed, reachable = result.planted.changed, result.planted.reachable
    return f"{changed / max(reachable, 1):.0%} of {reachable:,} {result.defect.unit}"


if __name__ == "__main__":
    sys.exit(main())
