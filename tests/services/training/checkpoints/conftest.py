"""Both stores behind the blocking facade."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.training.checkpoints.blocking_store import BlockingStore
from shared.artifacts import open_store
from shared.artifacts.directory import DirectoryStore
from shared.artifacts.s3 import S3Store


@pytest.fixture
def directory_store(tmp_path: Path) -> Iterator[BlockingStore]:
    with BlockingStore(DirectoryStore(tmp_path / "objects")) as store:
        yield store


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlockingStore]:
    if request.param == "directory":
        yield request.getfixturevalue("directory_store")
        return
    opened = open_store(request.getfixturevalue("s3_settings"))
    assert isinstance(opened, S3Store)
    asyncio.run(opened.ensure_bucket())
    with BlockingStore(opened) as blocking:
        yield blocking
