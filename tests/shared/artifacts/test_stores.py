"""One contract, both stores."""

import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from shared.artifacts import open_store
from shared.artifacts.directory import DirectoryStore
from shared.artifacts.protocol import ArtifactCorrupt, ArtifactStore, ObjectNotFound
from shared.artifacts.s3 import S3Store
from shared.domain.errors import MultifacetError
from shared.settings import Settings


@pytest.fixture(params=["directory", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ArtifactStore]:
    if request.param == "directory":
        yield DirectoryStore(tmp_path / "objects")
    else:
        opened = open_store(request.getfixturevalue("s3_settings"))
        assert isinstance(opened, S3Store)
        assert await opened.ensure_bucket()
        assert not await opened.ensure_bucket()
        yield opened


async def test_what_was_put_is_got_back_with_its_hash(store: ArtifactStore, tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 100_000)  # over one multipart part
    from_file = await store.put_file("a/b/big.bin", path)
    from_bytes = await store.put_bytes("a/small.txt", b"hello world", "text/plain")
    assert from_file.size == 25_600_000
    assert await store.get_bytes("a/small.txt") == b"hello world"
    assert await store.get_bytes("a/small.txt", 6, 3) == b"wor"
    copy = tmp_path / "copy.bin"
    await store.get_file("a/b/big.bin", copy, from_file.sha256)
    assert copy.read_bytes() == path.read_bytes()
    assert (await store.stat("a/small.txt")).size == from_bytes.size == 11
    streamed = [chunk async for chunk in store.stream("a/b/big.bin", 1 << 20)]
    assert sum(map(len, streamed)) == 25_600_000


async def test_a_presigned_url_opens_one_object_without_a_key_where_the_store_has_a_server(
    store: ArtifactStore,
) -> None:
    await store.put_bytes("a/b c.bin", b"content")
    url = await store.presigned_url("a/b c.bin", 60)
    if isinstance(store, DirectoryStore):
        assert url is None
        return
    assert url is not None
    assert "X-Amz-Expires=60" in url
    async with httpx2.AsyncClient() as anybody:
        assert (await anybody.get(url)).content == b"content"


async def test_listing_is_by_prefix_and_sorted(store: ArtifactStore) -> None:
    for key in ("p/2.txt", "p/1.txt", "p/deep/3.txt", "q/4.txt"):
        await store.put_bytes(key, key.encode())
    assert [info.key async for info in store.list_objects("p/")] == ["p/1.txt", "p/2.txt", "p/deep/3.txt"]
    assert [info.key async for info in store.list_objects("nothing/")] == []


async def test_a_listing_tells_sizes_and_when_objects_were_written(store: ArtifactStore) -> None:
    before = datetime.now(UTC)
    await store.put_bytes("t/1.txt", b"four")
    (listed,) = [info async for info in store.list_objects("t/")]
    known = await store.stat("t/1.txt")
    assert (listed.key, listed.size, known.size) == ("t/1.txt", 4, 4)
    for written in (listed.written_at, known.written_at):
        assert abs(written - before) < timedelta(minutes=10)


async def test_more_objects_are_listed_than_a_page_of_the_store_holds(store: ArtifactStore) -> None:
    keys = [f"many/{number:05d}" for number in range(1100)]
    for key in keys:
        await store.put_bytes(key, b"")
    assert [info.key async for info in store.list_objects("many/")] == keys


async def test_a_missing_object_is_named(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFound, match="nowhere"):
        await store.get_bytes("nowhere")
    with pytest.raises(ObjectNotFound):
        await store.stat("nowhere")
    with pytest.raises(ObjectNotFound):
        await store.get_file("nowhere", tmp_path / "x")
    await store.delete("nowhere")


async def test_changed_bytes_are_refused_and_not_left_behind(store: ArtifactStore, tmp_path: Path) -> None:
    stored = await store.put_bytes("x", b"right")
    await store.put_bytes("x", b"wrong")
    with pytest.raises(ArtifactCorrupt, match="was changed"):
        await store.get_file("x", tmp_path / "x", stored.sha256)
    assert not (tmp_path / "x").exists()


async def test_check_passes_and_leaves_nothing(store: ArtifactStore) -> None:
    await store.check()
    assert [info.key async for info in store.list_objects("")] == []


async def test_an_unreachable_bucket_is_explained(s3_settings: Settings) -> None:
    with pytest.raises(MultifacetError, match="MULTIFACET_S3_ENDPOINT"):
        await open_store(s3_settings).check()


@pytest.mark.parametrize("key", ["../outside", "/etc/passwd", "a/../../outside", ""])
async def test_a_directory_store_never_leaves_its_folder(tmp_path: Path, key: str) -> None:
    store = DirectoryStore(tmp_path / "objects")
    with pytest.raises(ObjectNotFound):
        await store.put_bytes(key, b"x")


def test_a_directory_store_forgets_what_a_killed_process_left_unfinished_a_day_ago(tmp_path: Path) -> None:
    unfinished = tmp_path / "objects" / ".unfinished"
    unfinished.mkdir(parents=True)
    for name, age in ((".old", 90_000), (".new", 60)):
        (unfinished / name).write_bytes(b"half")
        os.utime(unfinished / name, (time.time() - age,) * 2)
    DirectoryStore(tmp_path / "objects")
    assert [path.name for path in unfinished.iterdir()] == [".new"]
