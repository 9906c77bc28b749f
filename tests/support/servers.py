"""Real servers for tests: PostgreSQL and Redis from wheels, moto's S3. Each test process has its own."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.cli.embedded.postgres import EmbeddedPostgres
from services.cli.embedded.redis import EmbeddedRedis


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_postgres() -> Iterator[EmbeddedPostgres]:
    folder = Path(tempfile.mkdtemp(prefix="mf-test-pg-"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(
        folder / "pg", folder / "postgres.log", {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    )
    try:
        server.start()
        yield server
    finally:
        server.stop(immediately=True)  # its data goes with it
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_redis() -> Iterator[EmbeddedRedis]:
    folder = Path(tempfile.mkdtemp(prefix="mf-test-redis-"))
    server = EmbeddedRedis(free_port(), folder / "redis.log")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_s3() -> Iterator[str]:
    """host:port of an S3 server in a process of its own."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("moto's S3 server did not start")
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
