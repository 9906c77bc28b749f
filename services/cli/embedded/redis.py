"""Redis from a wheel as a direct child process. It keeps nothing on disk: everything in it can be lost."""

import subprocess
import time
from pathlib import Path

import redis

from services.cli.embedded.binaries import redis_server
from shared.domain.errors import MultifacetError


class EmbeddedRedis:
    """One server on 127.0.0.1 and a given port."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, timeout_seconds: float = 10) -> None:
        """Start and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(redis_server()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                    "--appendonly", "no", "--daemonize", "no",
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + timeout_seconds
        client = redis.Redis(port=self.port, socket_connect_timeout=1)
        try:
            while True:
                try:
                    client.ping()
                except redis.exceptions.RedisError as error:
                    if not self.alive() or time.monotonic() > deadline:
                        self.stop()
                        raise MultifacetError(f"Redis did not start on port {self.port}; see {self._log}") from error
                    time.sleep(0.05)
                else:
                    return
        finally:
            client.close()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None
