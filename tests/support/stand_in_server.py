"""A stand-in for text-generation-launcher, of the standard library: it behaves as `behaviour.json` in the model's folder says.

`health_after`: seconds until it is healthy; `exit`: it ends with that status instead of listening; `never_healthy`;
`answer`: what `/generate` says. A request to `/crash` ends the process, one to `/hang` leaves it running and never healthy again.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-id", type=Path, required=True)
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-total-tokens", type=int, default=256)
    parser.add_argument("--lora-adapters")
    given, rest = parser.parse_known_args()
    path = given.model_id / "behaviour.json"
    behaviour = json.loads(path.read_text()) if path.is_file() else {}
    print(f"loading {given.model_id.name}", flush=True)
    if "exit" in behaviour:
        print("out of memory", flush=True)
        sys.exit(behaviour["exit"])
    hung = threading.Event()
    healthy_at = time.monotonic() + behaviour.get("health_after", 0.1)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            match self.path:
                case "/health":
                    ready = time.monotonic() >= healthy_at and not behaviour.get("never_healthy") and not hung.is_set()
                    self.answer(200 if ready else 503, {})
                case "/info":
                    self.answer(
                        200,
                        {
                            "model_id": str(given.model_id), "version": "3.3.7-stand-in", "model_dtype": "torch.float16",
                            "max_total_tokens": given.max_total_tokens, "max_input_tokens": given.max_total_tokens - 1,
                        },
                    )  # fmt: skip
                case "/generate":
                    time.sleep(behaviour.get("answer_after", 0))
                    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
                    told = {
                        "generated_text": behaviour.get("answer", ""), "devices": devices, "rest": rest, "pid": os.getpid(),
                        "adapters": given.lora_adapters, "token": os.environ.get("MULTIFACET_LAUNCHER_TOKEN"),
                    }  # fmt: skip
                    self.answer(200, told)
                case "/crash":
                    os._exit(9)
                case "/hang":
                    hung.set()
                    self.answer(200, {})

        def answer(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((given.hostname, given.port), Handler)
    server.daemon_threads = False  # requests under way are answered before the end

    def leave(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=server.shutdown).start()

    if behaviour.get("ignores_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, leave)
    server.serve_forever(poll_interval=0.05)
    server.server_close()


if __name__ == "__main__":
    main()
