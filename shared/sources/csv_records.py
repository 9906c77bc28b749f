"""CSV records, such that a quote which nobody closes costs the line that it stands in and not the lines after it.

Work is linear in the size of the file: where a record went on for many lines and came to nothing, none of these lines can
begin a record that goes on either, because an open quote would meet the same fault. Memory holds one record.
"""

import csv
from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

RECORD_LINES = 100_000
"""Lines of one record: beyond, a quote was forgotten. Bounds the memory for very short lines."""


class CsvLine(msgspec.Struct, frozen=True):
    """One line of a file: its number from 1, its text with the line end, and its length in bytes.

    `cut` is the beginning of a line that was too long to be kept; its text is blank then.
    """

    number: int
    text: str
    length: int
    cut: bytes | None = None


class CsvRecord(msgspec.Struct, frozen=True):
    """The lines of a record and its values. With a `fault` there are no values, and only the line that has the fault."""

    lines: list[CsvLine]
    values: list[str]
    fault: str | None = None


class _NoEnd(Exception):
    """A record wants another line and must not have it; the message says why."""


class CsvRecords:
    """Iterates over the records of lines, blank ones (without values) and faulty ones included."""

    def __init__(self, lines: Iterable[CsvLine], delimiter: str, limit_bytes: int) -> None:
        """`limit_bytes`: once the lines of a record have more than this together, no other line joins them."""
        self._lines = iter(lines)
        self._delimiter = delimiter
        self._limit_bytes = limit_bytes
        self._again: deque[CsvLine] = deque()
        self._open_until = 0
        self._taken: list[CsvLine] = []
        self._size = 0
        self._ended = False
        self._reader = self._new_reader()

    def __iter__(self) -> Iterator[CsvRecord]:
        return self

    def __next__(self) -> CsvRecord:
        self._taken, self._size = [], 0
        try:
            return CsvRecord(self._taken, next(self._reader))
        except (csv.Error, _NoEnd) as error:
            return self._faulty(error)

    def _new_reader(self) -> Iterator[list[str]]:
        return csv.reader(self._texts(), delimiter=self._delimiter, strict=True)

    def _texts(self) -> Iterator[str]:
        """What the reader reads: it asks for the next line while the record at hand is not complete."""
        while True:
            if self._taken:
                self._refuse_more()
            line = self._again.popleft() if self._again else next(self._lines, None)
            if line is None:
                self._ended = True
                return
            self._taken.append(line)
            self._size += 0 if line.cut is not None else line.length
            yield line.text

    def _refuse_more(self) -> None:
        if self._taken[-1].number <= self._open_until:
            raise _NoEnd("a quote is opened and not closed")
        if self._size > self._limit_bytes or len(self._taken) >= RECORD_LINES:
            raise _NoEnd(
                f"a quote is opened and not closed within {self._limit_bytes:,} bytes or {RECORD_LINES:,} lines"
            )

    def _faulty(self, error: Exception) -> CsvRecord:
        """Give the first line up, and let the others be read again as records of their own."""
        first, *others = self._taken
        last = self._taken[-1].number
        fault = str(error)
        if isinstance(error, csv.Error) and self._ended:
            fault = "a quote is opened and not closed up to the end of the file"
        elif isinstance(error, csv.Error) and others:
            fault = f"a quote is opened and not closed properly (line {last}: {error})"
        # Up to here every line began inside the open quote, so any record that leaves a quote open there fails alike.
        # The line that showed the fault is the exception: read from outside a quote it may well be good.
        ended_inside = self._ended or isinstance(error, _NoEnd)
        self._open_until = max(self._open_until, last if ended_inside else last - 1)
        self._again.extendleft(reversed(others))
        self._ended = False
        self._reader = self._new_reader()
        return CsvRecord([first], [], fault)
