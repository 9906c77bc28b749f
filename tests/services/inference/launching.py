"""A launcher in a process of its own, an api that says what a test wants of it, and a Hub that holds what a test puts there."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[3]
TOKEN = "a-token-of-launchers"
STAND_IN = " ".join(
    [
        sys.executable, "-m", "tests.support.stand_in_server", "--model-id", "{model}", "--hostname", "{host}",
        "--port", "{port}", "{arguments}",
    ]
)  # fmt: skip


class Http:
    """A small HTTP server whose answers a test decides."""

    def __init__(self, get: Callable[[BaseHTTPRequestHandler], None], port: int = 0) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                get(self)

            def do_POST(self) -> None:
                get(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
    handler.send_response(status)
    handler.send_header("content-length", str(len(content)))
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


class FakeApi:
    """Takes reports, answers with what is wanted, serves files. `away`: nobody answers."""

    def __init__(self) -> None:
        self.wanted: dict[int, dict[str, Any]] = {}
        self.reports: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        self.files: dict[str, bytes] = {}
        self.away = False
        self.breaks_after: int | None = None
        """Files are cut off after so many bytes, once each."""
        self.refuses_files = 0
        self.ranges: list[str | None] = []
        self.give_up_seconds = 600.0
        self.http = Http(self._answer)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        if self.away:
            handler.close_connection = True
            return
        if handler.path.endswith("/report"):
            self.tokens.add(handler.headers.get("authorization"))
            report = json.loads(body)
            self.reports.append(report)
            places = [
                {"place": place["place"], "wanted": self.wanted.get(place["place"])} for place in report["places"]
            ]
            answer = {"report_seconds": 0.1, "give_up_seconds": self.give_up_seconds, "places": places}
            send(handler, 200, json.dumps(answer).encode())
            return
        content = self.files.get(handler.path)
        if content is None:
            send(handler, 404, b"{}")
            return
        if self.refuses_files > 0:
            self.refuses_files -= 1
            send(handler, 503, b"{}")
            return
        given = handler.headers.get("range")
        self.ranges.append(given)
        start = int(given.removeprefix("bytes=").rstrip("-")) if given else 0
        handler.send_response(206 if given else 200)
        handler.send_header("content-length", str(len(content) - start))
        handler.end_headers()
        if self.breaks_after is not None:
            handler.wfile.write(content[start : start + self.breaks_after])
            handler.close_connection = True
            self.breaks_after = None
            return
        handler.wfile.write(content[start:])

    def model(self, key: str, files: dict[str, bytes] | None = None, **behaviour: Any) -> dict[str, Any]:
        """A source whose files this api serves."""
        contents = {"behaviour.json": json.dumps(behaviour).encode(), **(files or {})}
        listed = []
        for name, content in contents.items():
            path = f"/v1/launchers/test/files/{key}-{name.replace('/', '-')}"
            self.files[path] = content
            listed.append({"name": name, "size": len(content), "sha256": sha256(content).hexdigest(), "url": path})
        return {"key": key, "files": listed}

    def want(self, identifier: str, model: dict[str, Any] | None, place: int = 0, **changes: Any) -> None:
        self.wanted = {
            **self.wanted,
            place: {
                "id": identifier, "name": "mine", "model": model, "adapters": None, "arguments": [], "devices": [],
                "problem": None, **changes,
            },
        }  # fmt: skip

    def place(self, number: int = 0) -> dict[str, Any]:
        return next(place for place in self.reports[-1]["places"] if place["place"] == number) if self.reports else {}

    def until(self, holds: Callable[[dict[str, Any]], Any], place: int = 0, seconds: float = 30) -> dict[str, Any]:
        """The last report of a place once it is as wanted."""
        deadline = time.monotonic() + seconds
        while True:
            now = self.place(place)
            if now and holds(now):
                return now
            assert time.monotonic() < deadline, self.reports[-1:]
            time.sleep(0.02)

    def until_serving(self, identifier: str, place: int = 0) -> dict[str, Any]:
        return self.until(lambda now: now["state"] == "ready" and now["serving"] == identifier, place)


class FakeHub:
    """A Hub with one model, of which one file lies where it redirects to."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.sent: dict[str, bytes] = {}
        """What is sent in place of a file."""
        self.seen: list[tuple[str, str | None]] = []
        self.storage = Http(self._store)
        self.http = Http(self._answer)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.seen.append((handler.path, handler.headers.get("authorization")))
        if handler.path == "/api/models/some/model/revision/v1?blobs=true":
            siblings: list[dict[str, Any]] = []
            for name, content in self.files.items():
                entry: dict[str, Any] = {
                    "rfilename": name, "size": len(content),
                    "blobId": sha1(b"blob %d\0" % len(content) + content).hexdigest(),
                }  # fmt: skip
                if name.endswith(".safetensors"):
                    entry["lfs"] = {"sha256": sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
                siblings.append(entry)
            send(handler, 200, json.dumps({"sha": "c0ffee", "siblings": siblings}).encode())
            return
        name = handler.path.removeprefix("/some/model/resolve/c0ffee/")
        if name in self.files and name.endswith(".safetensors"):
            send(handler, 302, b"", {"location": f"{self.storage.url}/{name}"})
        elif name in self.files:
            send(handler, 200, self.sent.get(name, self.files[name]))
        else:
            send(handler, 404, b"{}")

    def _store(self, handler: BaseHTTPRequestHandler) -> None:
        self.seen.append((f"storage{handler.path}", handler.headers.get("authorization")))
        name = handler.path.lstrip("/")
        send(handler, 200, self.sent.get(name, self.files[name]))

    def close(self) -> None:
        self.http.close()
        self.storage.close()


class Launcher:
    """`services/inference/launcher.py` as a program."""

    def __init__(self, api: FakeApi, folder: Path, *options: str, **environment: str) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self.command = [
            sys.executable, str(ROOT / "services/inference/launcher.py"), "--api", api.http.url, "--name", "test",
            "--cache", str(folder), "--command", STAND_IN, "--stop-seconds", "5", *options,
        ]  # fmt: skip
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "MULTIFACET_LAUNCHER_TOKEN": TOKEN, **environment,
        }  # fmt: skip
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stderr=log, stdout=log)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def events(self) -> list[str]:
        return [line["event"] for line in self._lines()]

    def told(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log about such events."""
        return [line for line in self._lines() if line["event"] == event]

    def _lines(self) -> list[dict[str, Any]]:
        # The last line may be written just now.
        return [
            json.loads(line) for line in self.said().splitlines() if line.startswith('{"event"') and line.endswith("}")
        ]


def generate(address: str) -> dict[str, Any]:
    answer: dict[str, Any] = httpx2.get(f"{address}/generate", timeout=10).json()
    return answer


def crash(address: str) -> None:
    try:
        httpx2.get(f"{address}/crash", timeout=10)
    except httpx2.TransportError:
        return


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
