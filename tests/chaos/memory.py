"""A limit of memory for some processes, by the kernel's control groups (either version), where this machine lets us make one."""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_ROOT = Path("/sys/fs/cgroup")


class MemoryLimit:
    """A control group of `limit_bytes` without swap. `works` is False where none can be made: then nothing is limited."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        first = (_ROOT / "memory").is_dir()
        self._folder = (_ROOT / "memory" if first else _ROOT) / f"multifacet-{name}"
        self._limit_name = "memory.limit_in_bytes" if first else "memory.max"
        self._parent = self._folder.parent
        self.works = False

    def __enter__(self) -> Self:
        with suppress(OSError):
            self._folder.mkdir()
            limit = self._folder / self._limit_name
            if not limit.exists():
                (self._parent / "cgroup.subtree_control").write_text("+memory")
            limit.write_text(str(self._limit_bytes))
            for swap in ("memory.swap.max", "memory.swappiness"):
                with suppress(OSError):
                    (self._folder / swap).write_text("0")
            self.works = True
        return self

    def hold(self, pid: int) -> None:
        """Put a process in, and all that it starts from now on. The kernel takes the greediest first."""
        if self.works:
            (self._folder / "cgroup.procs").write_text(str(pid))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.works:
            with suppress(OSError):
                self._folder.rmdir()
            return
        for pid in (self._folder / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (self._parent / "cgroup.procs").write_text(pid)
        with suppress(OSError):  # a process that is just ending keeps it for an instant; it is empty and harmless
            self._folder.rmdir()
