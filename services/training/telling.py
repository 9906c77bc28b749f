"""What a training says while it runs, and to whom."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec


class Tell(NamedTuple):
    """`emit(type, data)` adds an event to the job, `progress(done, total, note)` moves its bar."""

    emit: Callable[[str, dict[str, Any]], None]
    progress: Callable[[int, int | None, str], None]

    def note(self, stage: str, text: str) -> None:
        """A sentence for people, among the job's events."""
        self.emit("note", {"stage": stage, "text": text})


def tell_nobody() -> Tell:
    """For processes whose first one reports for all."""
    return Tell(lambda _type, _data: None, lambda _done, _total, _note: None)


def tell_lines(path: Path) -> Tell:
    """Lines in a file, which the process that started this one hands on; may be used from several threads."""
    file = path.open("ab")
    lock = threading.Lock()

    def write(what: str, arguments: list[Any]) -> None:
        with lock:
            file.write(msgspec.json.encode((what, arguments)) + b"\n")
            file.flush()

    return Tell(
        lambda type_, data: write("emit", [type_, data]),
        lambda done, total, note: write("progress", [done, total, note]),
    )


def hand_on(line: bytes, tell: Tell) -> None:
    """Say what a line of `tell_lines` says."""
    what, arguments = msgspec.json.decode(line, type=tuple[str, list[Any]])
    getattr(tell, what)(*arguments)
