"""The servers of a world behave as the real ones do where the product looks."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.artifacts.protocol import ArtifactCorrupt, ObjectNotFound
from shared.artifacts.s3 import S3Store
from tests.chaos.memory import MemoryLimit
from tests.chaos.servers import StoreServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PYTHON_PATH = {"PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoreServer]:
    made = StoreServer(tmp_path / "store", tmp_path / "store.log", PYTHON_PATH, "bucket")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def store(server: StoreServer) -> S3Store:
    return S3Store(f"127.0.0.1:{server.port}", "key", "secret", "bucket")


async def test_the_store_keeps_objects_reads_ranges_and_lists(store: S3Store, tmp_path: Path) -> None:
    stored = await store.put_bytes("a/b c/ü.txt", b"0123456789")
    assert await store.get_bytes("a/b c/ü.txt") == b"0123456789"
    assert await store.get_bytes("a/b c/ü.txt", 2, 3) == b"234"
    await store.get_file("a/b c/ü.txt", tmp_path / "there", stored.sha256)
    with pytest.raises(ArtifactCorrupt):
        await store.get_file("a/b c/ü.txt", tmp_path / "there", "0" * 64)
    assert (await store.stat("a/b c/ü.txt")).size == 10
    await store.put_bytes("b", b"")
    assert [info.key async for info in store.list_objects("a/")] == ["a/b c/ü.txt"]
    await store.check()
    await store.delete("b")
    await store.delete("b")
    for missing in (store.get_bytes("b"), store.stat("b"), store.get_file("b", tmp_path / "none")):
        with pytest.raises(ObjectNotFound):
            await missing


async def test_a_large_file_goes_up_in_parts_and_comes_back_whole(store: S3Store, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(1 << 20) * 37)
    stored = await store.put_file("large", path)
    await store.get_file("large", tmp_path / "back", stored.sha256)
    assert (tmp_path / "back").stat().st_size == 37 << 20


async def test_objects_outlive_a_kill_of_the_store(server: StoreServer, store: S3Store) -> None:
    await store.put_bytes("kept", b"content")
    server.kill()
    server.start()
    assert await store.get_bytes("kept") == b"content"
    assert (server.objects / "kept").read_bytes() == b"content"


def test_a_shifted_clock_is_off_by_what_was_said(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(
        "import datetime, time; print(time.time(), datetime.datetime.now(datetime.UTC).timestamp(), time.monotonic())"
    )
    environment = {**os.environ, "PYTHONPATH": f"{PYTHON_PATH['PYTHONPATH']}:{tmp_path}"}
    command = [sys.executable, "-m", "tests.chaos.shifted_clock", "3600", "told"]
    before, monotonic = time.time(), time.monotonic()
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert all(before + 3600 <= float(value) <= time.time() + 3600 for value in told[:2])
    assert monotonic <= float(told[2]) <= time.monotonic()


def test_a_process_above_its_memory_limit_is_killed_by_the_kernel() -> None:
    with MemoryLimit(f"test-{os.getpid()}", 200 << 20) as limit:
        if not limit.works:
            pytest.skip("no control group can be made here")
        command = "import sys; sys.stdin.readline(); kept = [bytearray(1 << 20) * 16 for _ in range(64)]"
        greedy = subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE)
        limit.hold(greedy.pid)
        greedy.communicate(b"now\n")
    assert greedy.returncode == -signal.SIGKILL
