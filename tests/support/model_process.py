"""The CPU server as people start it: a process of its own."""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

START_SECONDS = 100
ROOT = Path(__file__).parents[2]


@dataclass
class ModelProcess:
    process: "subprocess.Popen[str]"
    url: str = ""
    lines: list[str] = field(default_factory=list)
    """Of both outputs, as they came."""

    def post(self, path: str, body: object) -> httpx2.Response:
        return httpx2.post(f"{self.url}{path}", json=body, timeout=60)

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(f"{self.url}{path}", timeout=60)


@contextmanager
def model_process(folder: Path, *options: str, wait: bool = True) -> Iterator[ModelProcess]:
    """A server of the model in `folder` on a free port; with `wait` it answers when this returns."""
    command = [
        sys.executable,
        "-m",
        "services.inference.cpu_server",
        "--model-id",
        str(folder),
        "--port",
        "0",
        *options,
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    running = ModelProcess(process)
    said: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            running.lines.append(line)
            said.put(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        running.url = _said(process, said, "model server listening on ")
        if wait:
            _said(process, said, "model server ready: ")
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        reader.join(10)


def _said(process: "subprocess.Popen[str]", lines: "queue.Queue[str]", beginning: str) -> str:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            line = lines.get(timeout=0.2)
        except queue.Empty:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the model server did not say {beginning!r}") from None
            continue
        if line.startswith(beginning):
            return line.removeprefix(beginning).strip()
