"""A model server for tests, as a process that can be killed: `python -m tests.support.answering_server PORT LOG [SECONDS]`.

It speaks the two routes that jobs use, `/v1/chat/completions` and `/score`. What it says depends on the request alone. Each call
that it answers is a line of LOG, written just before the answer is sent.
"""

import hashlib
import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

AT_ONCE = 4
"""Calls that it works on; the others wait."""


def answer_text(body: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([body["messages"], body.get("seed")]).encode()).hexdigest()
    return f"Answer {digest[:12]}."


def score_of(conversation: list[dict[str, str]]) -> float:
    digest = hashlib.sha256(json.dumps(conversation).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 * 2 - 1


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log_path: Path
    seconds: float
    turn = threading.Semaphore(AT_ONCE)
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.turn:
            time.sleep(self.seconds)
            if self._is_gone():
                self.close_connection = True
                return
            if self.path == "/score":
                answer: dict[str, Any] = {"scores": [score_of(one) for one in body["conversations"]]}
            else:
                text = answer_text(body)
                answer = {
                    "object": "chat.completion",
                    "model": body["model"],
                    "choices": [
                        {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                    ],
                    "usage": {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18},
                }
            content = json.dumps(answer).encode()
            with self.lock, self.log_path.open("a") as log:
                log.write(json.dumps({"path": self.path, "body": body}) + "\n")
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def _is_gone(self) -> bool:
        """Whether the client has hung up: servers work for nobody who does not listen."""
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


def main(port: int, log_path: Path, seconds: float) -> None:
    Handler.log_path, Handler.seconds = log_path, seconds
    Server(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
