"""What the child of a whole step tells its worker while it runs: one JSON line each, on the pipe between them."""

import threading
import time
from typing import Any, BinaryIO

import msgspec

EVENT_TYPES = frozenset({"train.metrics", "note"})
"""Types of job events that a step may emit."""

_PROGRESS_SECONDS = 0.5


class ProgressLine(msgspec.Struct, frozen=True, tag="progress", tag_field="line"):
    """How far the step is."""

    done: int
    total: int | None
    note: str


class EventLine(msgspec.Struct, frozen=True, tag="event", tag_field="line"):
    """An event of the job."""

    type: str
    data: dict[str, Any]


class StartLine(msgspec.Struct, frozen=True, tag="start", tag_field="line"):
    """From which point of earlier work the step goes on."""

    point: str


Line = ProgressLine | EventLine | StartLine


def decode_line(text: bytes) -> Line:
    """Raises msgspec.DecodeError for anything else."""
    line: Line = msgspec.json.decode(text, type=Line)
    return line


class LineWriter:
    """The child's end of the pipe. Its methods may be called from any thread; a worker that reads slowly makes them wait."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._progress_at = 0.0

    def progress(self, done: int, total: int | None, note: str) -> None:
        """Tell how far the step is; calls in quick succession are thinned out."""
        now = time.monotonic()
        if now - self._progress_at < _PROGRESS_SECONDS:
            return
        self._progress_at = now
        self._write(ProgressLine(done, total, note))

    def emit(self, type: str, data: dict[str, Any]) -> None:
        """Add an event to the job. Raises ValueError for a type that steps do not emit."""
        if type not in EVENT_TYPES:
            raise ValueError(f"a step emits no events of type {type!r}; types: {', '.join(sorted(EVENT_TYPES))}")
        self._write(EventLine(type, data))

    def starts_from(self, point: str) -> None:
        """Tell where the step goes on, such as `step 120`."""
        self._write(StartLine(point))

    def _write(self, line: Line) -> None:
        text = msgspec.json.encode(line) + b"\n"
        with self._lock:
            self._stream.write(text)
            self._stream.flush()
