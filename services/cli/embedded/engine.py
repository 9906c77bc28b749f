"""The worker processes of this machine, offered to the autoscaler as a Docker engine offers containers: list them, start one.

Protocol: the two requests of the Docker Engine API that `services.autoscaler` makes, over a Unix socket that only this user can
open. So the autoscaler has one way to work, and the supervisor stays the parent of every process.
"""

import shutil
import socketserver
import tempfile
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from services.cli.embedded.children import Child


class ProcessEngine:
    """Serves `children` until `close`; all carry the same labels."""

    def __init__(self, children: Sequence[Child], labels: dict[str, str]) -> None:
        self._children = {child.name: child for child in children}
        self._labels = labels
        # A socket's path holds at most 107 bytes, and a state folder may lie deep.
        self._folder = Path(tempfile.mkdtemp(prefix="multifacet-engine-"))
        self._server = _Server(str(self._folder / "engine.sock"), self._answer)
        self._thread = threading.Thread(target=self._server.serve_forever, name="engine", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"unix://{self._folder / 'engine.sock'}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answer(self, method: str, path: str) -> tuple[int, Any]:
        parts = urlsplit(path).path.strip("/").split("/")
        if (method, parts) == ("GET", ["containers", "json"]):
            return 200, [self._shown(child) for child in self._children.values()]
        if method == "POST" and len(parts) == 3 and (parts[0], parts[2]) == ("containers", "start"):
            child = self._children.get(parts[1])
            if child is None:
                return 404, {"message": f"there is no process {parts[1]}"}
            return (204 if child.start_stopped() else 304), None
        return 403, {"message": "only listing and starting is served here"}

    def _shown(self, child: Child) -> dict[str, Any]:
        state, status = "running", ""
        if child.waits_for_restart:
            state, status = "restarting", f"Restarting ({child.exit_status})"
        elif not child.alive():
            state, status = "exited", "Created" if child.exit_status is None else f"Exited ({child.exit_status})"
        return {"Id": child.name, "State": state, "Status": status, "Labels": self._labels}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, answer: Any) -> None:
        class Handler(BaseHTTPRequestHandler):
            def _handle(self) -> None:
                status, body = answer(self.command, self.path)
                encoded = b"" if body is None else orjson.dumps(body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                if status not in {204, 304}:
                    self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)

            do_GET = do_POST = _handle  # noqa: N815

            def address_string(self) -> str:
                return "autoscaler"

            def log_message(self, *_: Any) -> None:
                """Nothing: it is asked every two seconds."""

        super().__init__(path, Handler)
