"""Where the one-machine system keeps its data, and how a client finds the one that runs."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from shared.domain.errors import MultifacetError


class SystemRecord(msgspec.Struct):
    """Written by the supervisor when everything answers; read by the other commands."""

    supervisor_pid: int
    api_url: str
    database_url: str
    redis_url: str
    simulator_url: str


class StateFolder:
    """`root/{postgres,artifacts,logs,pids}`; by default under /var/lib for root (PostgreSQL runs as another user there),
    else in the XDG state folder. MULTIFACET_STATE_FOLDER moves it."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or _default_root()).resolve()

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def pids(self) -> Path:
        return self.root / "pids"

    @property
    def record_path(self) -> Path:
        return self.root / "system.json"

    def make(self) -> None:
        """Make the folders. Raises MultifacetError where they cannot be made."""
        try:
            self._make()
        except OSError as error:
            raise self._unusable(error) from error

    def _make(self) -> None:
        for folder in (self.root, self.logs, self.pids, self.root / "artifacts"):
            folder.mkdir(parents=True, exist_ok=True)
        # PostgreSQL's own user must pass through this folder when we are root; nothing else in it is opened.
        self.root.chmod(0o755)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock file; raises MultifacetError where another supervisor holds it."""
        self.make()
        with (self.root / "lock").open("a+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                record = self.record()
                where = f" and answers at {record.api_url}" if record else " (it is still starting)"
                raise MultifacetError(
                    f"a Multifacet system already runs over {self.root}{where}; use it, stop it, or set "
                    "MULTIFACET_STATE_FOLDER to another folder"
                ) from error
            try:
                yield
            finally:
                self.record_path.unlink(missing_ok=True)

    def record(self) -> SystemRecord | None:
        """The running system, or None. Raises MultifacetError where nobody may look."""
        try:
            record = msgspec.json.decode(self.record_path.read_bytes(), type=SystemRecord)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None
        except OSError as error:
            raise self._unusable(error) from error
        return record if Path(f"/proc/{record.supervisor_pid}").exists() else None

    def _unusable(self, error: OSError) -> MultifacetError:
        return MultifacetError(
            f"the state folder {self.root} cannot be used ({error.strerror}: {error.filename}); set MULTIFACET_STATE_FOLDER to "
            "one that can be written"
        )

    def write_record(self, record: SystemRecord) -> None:
        unfinished = self.record_path.with_suffix(".new")
        unfinished.write_bytes(msgspec.json.encode(record))
        unfinished.replace(self.record_path)


def _default_root() -> Path:
    chosen = os.environ.get("MULTIFACET_STATE_FOLDER")
    if chosen:
        return Path(chosen).expanduser()
    if os.geteuid() == 0:
        return Path("/var/lib/multifacet")
    return Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "multifacet"
