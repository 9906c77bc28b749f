"""A stand-in for a model server: its chat route streams back what it was told, and does on request what servers do wrong.

The last message of a request chooses: `together` waits in mid-answer until two requests are there, `hold` never ends,
`break` closes the connection in mid-answer; all else is answered at once.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PATIENCE = 30.0
"""Seconds that `together` waits for the other request, so that a test which sends one alone ends."""


class EchoServer(ThreadingHTTPServer):
    """Answers `You asked: … I was told: <system message>`, word by word. `left` is set when a client of `hold` went away."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.both = threading.Barrier(2, timeout=_PATIENCE)
        self.left = threading.Event()
        self.closing = threading.Event()
        self.requests: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: EchoServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the console is the test's."""

    def do_GET(self) -> None:
        self._json({"model_id": "echo", "version": "1", "max_input_tokens": 1000, "max_total_tokens": 2000})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        asked = body["messages"][-1]["content"]
        system = " ".join(message["content"] for message in body["messages"] if message["role"] == "system")
        words = f"You asked: {asked} I was told: {system or 'nothing'}".split(" ")
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": " ".join(words)}, "finish_reason": "stop"}
            self._json(self._chunk("chat.completion", choice) | {"usage": _usage(words)})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self._stream(asked, words)
        except (BrokenPipeError, ConnectionResetError):
            self.server.left.set()

    def _stream(self, asked: str, words: list[str]) -> None:
        for number, word in enumerate(words):
            self._piece({"role": "assistant", "content": word if number == 0 else f" {word}"}, None)
            if number != 1:
                continue
            if asked == "together":
                self.server.both.wait()
            if asked == "break":
                return
            while asked == "hold" and not self.server.closing.wait(0.05):
                self._piece({"role": "assistant", "content": "…"}, None)
        self._piece({"role": "assistant", "content": ""}, "stop")
        self._event(self._chunk("chat.completion.chunk") | {"usage": _usage(words)})
        self.wfile.write(b"data: [DONE]\n\n")

    def _piece(self, delta: dict[str, str], finish: str | None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        self._event(self._chunk("chat.completion.chunk", choice))

    def _event(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def _chunk(self, kind: str, *choices: dict[str, Any]) -> dict[str, Any]:
        about = {"id": "echo", "object": kind, "created": 0, "model": "echo", "system_fingerprint": "1"}
        return {**about, "choices": list(choices)}

    def _json(self, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _usage(words: list[str]) -> dict[str, int]:
    return {"prompt_tokens": 10, "completion_tokens": len(words), "total_tokens": 10 + len(words)}


@contextmanager
def running_echo_server() -> Iterator[EchoServer]:
    server = EchoServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
