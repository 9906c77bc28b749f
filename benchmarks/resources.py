"""Memory of every process of a system over time, and how its database and its store grow."""

import contextlib
import csv
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import msgspec
import psutil

SAMPLE_SECONDS = 5.0
_MEGABYTE = 2**20


class Sample(msgspec.Struct, frozen=True):
    """What was seen at one time: seconds since the first sample, sizes in MB of 2^20 bytes; `memory` by process."""

    seconds: float
    rows: int
    database_mb: float
    store_mb: float
    memory: Mapping[str, float]


class ResourceLog:
    """Takes a sample every few seconds in a thread of its own, from entering until leaving it. Use as a context manager.

    `roots` gives the processes by name, anew for each sample, because restarts change them; what a process started counts under
    its name followed by "steps", except for PostgreSQL, whose backends are counted with it. Memory is the proportional set
    size, in which shared pages count once altogether.
    """

    def __init__(
        self,
        roots: Callable[[], Mapping[str, int]],
        rows: Callable[[], int],
        database_bytes: Callable[[], int],
        store: Path,
        seconds: float = SAMPLE_SECONDS,
    ) -> None:
        self.samples: list[Sample] = []
        self._roots, self._rows, self._database_bytes, self._store = roots, rows, database_bytes, store
        self._seconds = seconds
        self._started = time.monotonic()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resources", daemon=True)

    def __enter__(self) -> "ResourceLog":
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._take()

    def peaks(self) -> dict[str, float]:
        """Highest memory of each process that was seen, largest first."""
        found: dict[str, float] = {}
        for sample in self.samples:
            for name, megabytes in sample.memory.items():
                found[name] = max(found.get(name, 0.0), megabytes)
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def write_csv(self, path: Path) -> None:
        """One line per sample; a process that did not run then has an empty field."""
        names = list(self.peaks())
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["seconds", "rows", "database_mb", "store_mb", *(f"{name}_mb" for name in names)])
            for sample in self.samples:
                memory = (f"{sample.memory[name]:.1f}" if name in sample.memory else "" for name in names)
                sizes = (f"{sample.database_mb:.2f}", f"{sample.store_mb:.2f}")
                writer.writerow([f"{sample.seconds:.1f}", sample.rows, *sizes, *memory])

    def _run(self) -> None:
        while not self._ending.wait(self._seconds):
            # A server that is being started again by a fault cannot be asked; the next sample can.
            with contextlib.suppress(Exception):
                self._take()

    def _take(self) -> None:
        memory: dict[str, float] = {}
        for name, pid in self._roots().items():
            for part, megabytes in _memory_of(name, pid):
                memory[part] = memory.get(part, 0.0) + megabytes
        self.samples.append(
            Sample(
                time.monotonic() - self._started,
                self._rows(),
                self._database_bytes() / _MEGABYTE,
                folder_bytes(self._store) / _MEGABYTE,
                memory,
            )
        )


def folder_bytes(folder: Path) -> int:
    """Sizes of all files below a folder; what is removed meanwhile counts as gone."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total


def _memory_of(name: str, pid: int) -> Sequence[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    try:
        root = psutil.Process(pid)
        members = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return found
    for process in members:
        part = name if process is root or name == "postgres" else f"{name} steps"
        with contextlib.suppress(psutil.Error):
            found.append((part, process.memory_full_info().pss / _MEGABYTE))
    return found
