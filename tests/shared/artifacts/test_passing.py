"""Which errors of stores and disks pass: those are tried again for long."""

import errno
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from minio.error import S3Error

from shared.artifacts.directory import DirectoryStore
from shared.artifacts.passing import disk_is_full, passing_fault
from shared.artifacts.s3 import S3Store


async def _error_of(answer: Callable[[], web.Response]) -> BaseException:
    """What the store raises where a server answers so."""

    async def respond(_: web.BaseRequest) -> web.Response:
        return answer()

    runner = web.ServerRunner(web.Server(respond, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        with pytest.raises(Exception) as raised:  # noqa: PT011  which one is what the tests ask
            await S3Store(f"127.0.0.1:{runner.addresses[0][1]}", "k", "s", "bucket").put_bytes("key", b"x")
        return raised.value
    finally:
        await runner.cleanup()


def _refusal(status: int, code: str) -> web.Response:
    text = f"<Error><Code>{code}</Code><Message>No space left on device</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda: _refusal(507, "XMinioStorageFull"), "507 XMinioStorageFull"),
        (lambda: _refusal(400, "XAmzContentSHA256Mismatch"), "400 XAmzContentSHA256Mismatch"),
        (
            lambda: web.Response(status=418, text="<p>a proxy</p>", content_type="text/html"),
            "what no S3 server answers",
        ),
    ],
)
async def test_a_store_that_is_full_or_met_changed_bytes_passes(answer: Callable[[], web.Response], told: str) -> None:
    error = await _error_of(answer)
    fault = passing_fault(error)
    assert fault is not None
    assert fault.code == "store_unavailable"
    assert not disk_is_full(error), "the worker's own disk has space"
    assert f"answered {told}:" in fault.message


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket"])
async def test_what_a_store_refuses_for_good_does_not_pass(code: str) -> None:
    error = await _error_of(lambda: _refusal(403, code))
    assert isinstance(error, S3Error)
    assert passing_fault(error) is None


@pytest.fixture
def full_device() -> Path:
    """A file whose every write finds no space."""
    path = Path("/dev/full")
    if not path.exists():
        pytest.skip("this system has no /dev/full")
    return path


def test_a_full_disk_is_known_whoever_met_it(full_device: Path) -> None:
    with pytest.raises(OSError, match="No space left") as python, full_device.open("wb", buffering=0) as sink:
        sink.write(b"x")
    with pytest.raises(OSError, match="No space left") as arrow, pa.OSFile(str(full_device), "wb") as sink:
        pq.write_table(pa.table({"a": [1]}), sink)
    told = RuntimeError("write failed: No space left on device (os error 28)")
    over = OSError(errno.EDQUOT, "quota")
    for error in (python.value, arrow.value, told, over):
        assert disk_is_full(error)
        wrapped = ValueError("the part cannot be written")
        wrapped.__cause__ = error
        assert passing_fault(wrapped) is not None
    assert not disk_is_full(OSError(errno.EACCES, "no"))
    assert passing_fault(ValueError("nothing of it")) is None


async def test_a_folder_store_without_room_keeps_no_rest_of_what_it_could_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_device: Path
) -> None:
    store = DirectoryStore(tmp_path / "objects")
    (tmp_path / "objects" / ".unfinished").mkdir(parents=True)
    temporary = tmp_path / "objects" / ".unfinished" / ".link"
    temporary.symlink_to(full_device)
    monkeypatch.setattr(store, "_new", lambda key: (tmp_path / "objects" / key, temporary))
    with pytest.raises(OSError, match="No space left"):
        await store.put_bytes("a", b"x")
    assert [path for path in (tmp_path / "objects").rglob("*") if not path.is_dir()] == []
