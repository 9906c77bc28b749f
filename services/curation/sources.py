"""Opens the sources of a job: uploads, bundled sets and Hub data sets, all as one stream of mapped rows."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec

from shared.domain.errors import InputRefused, StepFailed
from shared.domain.jobs import FieldMapping, Source
from shared.sources.bundled import bundled_file
from shared.sources.inspection import open_source, unusable_file
from shared.sources.mapping import CompiledMapping, MappedRow, compile_mapping
from shared.sources.readers import BadRecord, Record, read_records
from shared.stages.protocol import InputObject

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_COLUMN_ROWS = 50
_UNREADABLE = frozenset({"missing_field", "invalid_json", "invalid_csv", "not_utf8", "oversized_line"})


class ImportedRow(msgspec.Struct, frozen=True):
    """One row of a source: an instruction as it stands there, or the reason why there is none."""

    source_row: int
    main_source: str
    original_source: str
    text: str
    reason: str = ""
    detail: str = ""


class OpenedSource:
    """A source ready to be read once. After reading, `rows` says how many rows there were."""

    def __init__(
        self,
        name: str,
        pointer: str,
        columns: list[str],
        mapping: CompiledMapping,
        records: Iterable[Record | BadRecord],
        limit: int | None,
    ) -> None:
        self.name = name
        self.pointer = pointer
        self.columns = columns
        self.mapping = mapping
        self.rows = 0
        self._records = records
        self._limit = limit

    def read(self) -> Iterator[ImportedRow]:
        """The rows in order. Raises InputRefused at the end where there was none, or none could be used at all."""
        faults: dict[str, int] = {}
        first_fault = ""
        for record in islice(self._records, self._limit):
            self.rows += 1
            row = self._imported(record)
            if row.reason in _UNREADABLE:
                faults[row.reason] = faults.get(row.reason, 0) + 1
                first_fault = first_fault or f"row {row.source_row}: {row.detail}"
            yield row
        if not self.rows:
            raise InputRefused("the source has no rows; give one with at least one row", self.pointer)
        if sum(faults.values()) == self.rows:
            raise unusable_file(self.columns, faults, first_fault, self.mapping, self.pointer)

    def _imported(self, record: Record | BadRecord) -> ImportedRow:
        if isinstance(record, BadRecord):
            return ImportedRow(record.row, self.name, self.name, record.text, record.reason, record.detail)
        mapped = self.mapping.apply(record.fields)
        if not isinstance(mapped, MappedRow):
            return ImportedRow(record.row, self.name, self.name, "", "missing_field", mapped.detail)
        main = mapped.main_source or self.name
        return ImportedRow(record.row, main, mapped.original_source or main, mapped.instruction)


def open_sources(sources: Sequence[Source], inputs: Sequence[InputObject]) -> list[OpenedSource]:
    """Every source of a job, opened. Raises InputRefused with the pointer of the one that cannot be used."""
    uploads = {item.name: item for item in inputs if item.stage == "upload"}
    return [_open(source, f"/sources/{position}", uploads) for position, source in enumerate(sources)]


def upload_title(item: InputObject) -> str:
    """The user's own file name of an upload, where it is known."""
    return str(item.metadata.get("name") or item.metadata.get("file_name") or item.path.name)


def _open(source: Source, pointer: str, uploads: dict[str, InputObject]) -> OpenedSource:
    if source.hub is not None:
        return _open_hub(source, source.hub, pointer)
    if source.bundled is not None:
        path, title = bundled_file(source.bundled, pointer), source.bundled
    else:
        upload = uploads.get(source.file or "")
        if upload is None:
            raise InputRefused(f"there is no uploaded file {source.file!r}; upload it first", f"{pointer}/file")
        path, title = upload.path, Path(upload_title(upload)).stem
    file_format, columns, mapping = open_source(path, source, pointer)
    records = read_records(path, file_format, pointer, mapping.columns)
    return OpenedSource(source.name or title, pointer, columns, mapping, records, source.limit)


def _open_hub(source: Source, name: str, pointer: str) -> OpenedSource:
    first, records = hub_records(
        HubDataSet(name, source.hub_config, source.hub_split, source.hub_revision), f"{pointer}/hub", pointer
    )
    columns = list(dict.fromkeys(column for row in first for column in row))
    mapping = compile_mapping(source.mapping, columns, pointer)
    if isinstance(source.mapping, FieldMapping):  # an upload was asked the same when the job was submitted
        mapped = [found for row in first if isinstance(found := mapping.apply(row), MappedRow)]
        if mapped:
            mapping.require_sources(mapped, columns)
    return OpenedSource(source.name or name.rpartition("/")[2], pointer, columns, mapping, records, source.limit)


class HubDataSet(msgspec.Struct, frozen=True):
    """Which data set of the Hub."""

    name: str
    config: str | None
    split: str
    revision: str | None


def hub_records(wanted: HubDataSet, where: str, pointer: str) -> tuple[list[dict[str, Any]], Iterator[Record]]:
    """A Hub data set, streamed: its first rows, and all of them as records. Only `org/name`: a bare or absolute name could reach
    into the server's own disk. Raises InputRefused for what the Hub does not have, StepFailed `hub_unreachable`."""
    name = wanted.name
    if not _HUB_NAME.fullmatch(name) or Path(name).exists():
        raise InputRefused(f"{name!r} is no Hub data set name; write org/name", where)
    import datasets  # slow to import, and only needed here
    from datasets.exceptions import DatasetNotFoundError

    try:
        stream = datasets.load_dataset(
            name, wanted.config, split=wanted.split, revision=wanted.revision, streaming=True
        )
        rows: Iterator[dict[str, Any]] = iter(stream)
        first = list(islice(rows, _HUB_COLUMN_ROWS))
    except DatasetNotFoundError as error:
        raise InputRefused(
            f"the Hub has no data set {name!r} that can be read without a key: {error}", where
        ) from error
    except ValueError as error:  # an unknown configuration or split; the message lists those that exist
        raise InputRefused(f"the Hub data set {name!r} cannot be opened so: {error}", pointer) from error
    except OSError as error:
        raise StepFailed("hub_unreachable", f"the Hub cannot be reached for {name!r}: {error}; retry later") from error
    return first, (Record(position, row) for position, row in enumerate(chain(first, rows)))
