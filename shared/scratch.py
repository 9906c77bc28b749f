"""A process's own folder for what it works on, in a place that outlives it, and an end to what killed processes left there."""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "multifacet-scratch-"
"""Of no other folder: what carries it and nobody holds is removed."""


class Scratch:
    """A folder that this process holds by a lock until `close`, or until it dies. Making one removes those nobody holds.

    Several processes, also of several containers, may share the parent: a lock (flock(2)) is kept by the kernel and ends with
    its process, however that ends.
    """

    def __init__(self, parent: Path | None, name: str) -> None:
        """Below `parent` (which is made), by default the system's temporary folder. Raises OSError where it cannot be written."""
        above = Path(tempfile.gettempdir()) if parent is None else parent
        above.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(above)
        self.folder, self._lock = _make(above, f"{_PREFIX}{name}-")

    def make_folder(self) -> Path:
        """A new folder in it."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def close(self) -> None:
        """Remove it with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _make(above: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=above))
        lock = _locked(folder)
        # Another process may have taken it for one that was left behind, in the moment before it was locked.
        if lock is not None:
            if folder.exists():
                return folder, lock
            os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None where somebody else holds it, or it is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_left_behind(above: Path) -> None:
    for folder in above.glob(f"{_PREFIX}*-*"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        lock = _locked(folder)
        if lock is None:
            continue
        try:
            with suppress(OSError):
                shutil.rmtree(folder)
        finally:
            os.close(lock)
