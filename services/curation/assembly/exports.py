"""Writes one export: train and test as Parquet and JSONL, and where each row came from."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import orjson
import pyarrow as pa

from services.curation.assembly.layouts import EXPORT_SCHEMA_VERSION, PROVENANCE_SCHEMA_VERSION
from shared.artifacts.tables import TableWriter
from shared.domain.splits import Split
from shared.stages.protocol import OutputObject

PARQUET = "application/vnd.apache.parquet"
JSONL = "application/jsonl"

PENDING_ROWS = 200
"""Rows that a table holds back before it writes a row group: many tables are open at once, and texts are long."""


class ExportWriter:
    """`exports/<name>/`: a context manager; `rows` counts by split. Memory holds one row group per table."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema, provenance_schema: pa.Schema) -> None:
        self.name = name
        self.folder = folder / "exports" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows: dict[Split, int] = dict.fromkeys(Split, 0)
        self._schema = schema
        self._provenance_schema = provenance_schema
        self._stack = ExitStack()
        self._tables: dict[Split, TableWriter] = {}
        self._lines: dict[Split, IO[bytes]] = {}

    def __enter__(self) -> "ExportWriter":
        for split in Split:
            path = self.folder / split.value
            self._tables[split] = self._stack.enter_context(
                TableWriter(path.with_suffix(".parquet"), self._schema, PENDING_ROWS)
            )
            self._lines[split] = self._stack.enter_context(path.with_suffix(".jsonl").open("wb"))
        self._provenance = self._stack.enter_context(
            TableWriter(self.folder / "provenance.parquet", self._provenance_schema, PENDING_ROWS)
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, split: Split, record: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
        self._tables[split].write(record)
        self._lines[split].write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        self._provenance.write({"split": split.value, "row": self.rows[split], **origin})
        self.rows[split] += 1

    def outputs(self, **more: Any) -> list[OutputObject]:
        """The objects written; call after the context has closed. `more` is told with the provenance."""
        return export_outputs(self.folder, self.name, self.rows, **more)


def export_outputs(folder: Path, name: str, rows: Mapping[Split, int], **more: Any) -> list[OutputObject]:
    """The five objects of the export that lies in `folder`. `more` goes into the metadata of its provenance."""
    made: list[OutputObject] = []
    for split in Split:
        for suffix, media_type in ((".parquet", PARQUET), (".jsonl", JSONL)):
            file = f"{split.value}{suffix}"
            made.append(
                OutputObject(
                    name=f"exports/{name}/{file}",
                    path=folder / file,
                    media_type=media_type,
                    rows=rows[split],
                    schema_version=EXPORT_SCHEMA_VERSION,
                    kind="table" if suffix == ".parquet" else "file",
                    metadata={"export": name, "split": split.value},
                )
            )
    made.append(
        OutputObject(
            name=f"exports/{name}/provenance.parquet",
            path=folder / "provenance.parquet",
            media_type=PARQUET,
            rows=sum(rows.values()),
            schema_version=PROVENANCE_SCHEMA_VERSION,
            kind="table",
            metadata={"export": name, "provenance": True, **more},
        )
    )
    return made
