import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.training.checkpoints.blocking_store import BlockingStore
from services.training.checkpoints.finding import fetch_newest, find_newest
from services.training.checkpoints.manifest import CheckpointManifest
from services.training.checkpoints.uploading import LONGEST_PAUSE, CheckpointUploader, pause_after
from shared.artifacts.directory import DirectoryStore
from shared.artifacts.protocol import StoredObject
from shared.domain.errors import StepFailed
from tests.services.training.output_support import PREFIX, checkpoint_on_disk


class GatedStore(DirectoryStore):
    """Uploads wait until they are let through; the first `spared` succeed, the next `failures` fail."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.failures = 0
        self.spared = 0
        self.puts: list[str] = []

    def _put_file(self, key: str, path: Path) -> StoredObject:
        self.reached.set()
        assert self.gate.wait(30)
        self.puts.append(key)
        if self.failures > 0 and len(self.puts) > self.spared:
            self.failures -= 1
            raise OSError("the store is down")
        return super()._put_file(key, path)


class Told:
    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.stored: list[CheckpointManifest] = []


@contextmanager
def uploader_to(store: BlockingStore, folder: Path, told: Told, **changes: Any) -> Iterator[CheckpointUploader]:
    values: dict[str, Any] = {
        "attempt_id": 1,
        "fingerprint": "ours",
        "world_size": 1,
        "spool": folder / "spool",
        "tell": told.sentences.append,
        "on_stored": told.stored.append,
        "pause": lambda failures: 0.01,
    }
    uploader = CheckpointUploader(store, PREFIX, **(values | changes))
    try:
        yield uploader
    finally:
        uploader.close()


@pytest.fixture
def gated(tmp_path: Path) -> GatedStore:
    return GatedStore(tmp_path / "objects")


def test_what_was_submitted_is_found_again_and_gone_from_the_disk(store: BlockingStore, tmp_path: Path) -> None:
    told = Told()
    with uploader_to(store, tmp_path, told) as uploader:
        uploader.submit(checkpoint_on_disk(tmp_path / "checkpoint-5", 5), 5, 50)
        assert uploader.finish(30)
        assert not list((tmp_path / "spool").iterdir())
    found = fetch_newest(store, PREFIX, "ours", tmp_path / "resume")
    assert found.manifest == told.stored[0]
    assert found.manifest.step == 5
    assert found.manifest.tokens == 50
    assert "training_args.bin" not in {file.name for file in found.manifest.files}
    assert not told.sentences


def test_training_goes_on_while_an_upload_is_under_way_and_only_the_newest_waits(
    gated: GatedStore, tmp_path: Path
) -> None:
    told = Told()
    gated.gate.clear()
    with BlockingStore(gated) as store, uploader_to(store, tmp_path, told) as uploader:
        for step in (5, 10, 15):
            uploader.make_room()
            # While the next one is written there is one under way at most: two on the disk.
            assert len(list((tmp_path / "spool").iterdir())) <= 1
            uploader.submit(checkpoint_on_disk(tmp_path / f"checkpoint-{step}", step), step, step)
            assert not (tmp_path / f"checkpoint-{step}").exists()
            assert gated.reached.wait(30)
        assert [stored.manifest.step for stored in find_newest(store, PREFIX, "ours")] == []
        assert not uploader.finish(0)
        gated.gate.set()
        assert uploader.finish(30)
        assert [stored.manifest.step for stored in find_newest(store, PREFIX, "ours")] == [15, 5]
    assert [manifest.step for manifest in told.stored] == [5, 15]


def test_a_failing_store_is_told_and_tried_again_without_repeating_what_is_stored(
    gated: GatedStore, tmp_path: Path
) -> None:
    told = Told()
    with BlockingStore(gated) as store, uploader_to(store, tmp_path, told) as uploader:
        gated.failures, gated.spared = 3, 2
        uploader.submit(checkpoint_on_disk(tmp_path / "checkpoint-5", 5), 5, 50)
        assert uploader.finish(30)
    assert len(told.sentences) == 3
    assert all("the store is down" in sentence and "step 5" in sentence for sentence in told.sentences)
    assert len(gated.puts) == 6 + 3
    assert [manifest.step for manifest in told.stored] == [5]


def test_a_checkpoint_that_cannot_be_stored_gives_way_to_a_newer_one(gated: GatedStore, tmp_path: Path) -> None:
    told = Told()
    with BlockingStore(gated) as store, uploader_to(store, tmp_path, told) as uploader:
        gated.gate.clear()
        gated.failures = 1
        uploader.submit(checkpoint_on_disk(tmp_path / "checkpoint-5", 5), 5, 50)
        assert gated.reached.wait(30)
        uploader.submit(checkpoint_on_disk(tmp_path / "checkpoint-10", 10), 10, 100)
        gated.gate.set()
        assert uploader.finish(30)
        assert [stored.manifest.step for stored in find_newest(store, PREFIX, "ours")] == [10]
    assert "given up" in told.sentences[0]


def test_a_wait_for_the_last_upload_ends_in_time_and_says_that_it_was_in_vain(
    gated: GatedStore, tmp_path: Path
) -> None:
    told = Told()
    with (
        BlockingStore(gated) as store,
        uploader_to(store, tmp_path, told, pause=lambda failures: LONGEST_PAUSE) as uploader,
    ):
        gated.failures = 10**6
        uploader.submit(checkpoint_on_disk(tmp_path / "checkpoint-5", 5), 5, 50)
        assert not uploader.finish(0.2)
    assert told.sentences
    assert not told.stored


def test_whoever_waits_ends_a_long_pause(gated: GatedStore, tmp_path: Path) -> None:
    told = Told()
    paused = threading.Event()

    def pause(failures: int) -> float:
        paused.set()
        return 3600.0

    with BlockingStore(gated) as store, uploader_to(store, tmp_path, told, pause=pause) as uploader:
        gated.failures = 1
        uploader.submit(checkpoint_on_disk(tmp_path / "checkpoint-5", 5), 5, 50)
        assert paused.wait(30)
        assert uploader.finish(30)


def test_without_any_checkpoint_there_is_nothing_to_wait_for(directory_store: BlockingStore, tmp_path: Path) -> None:
    with uploader_to(directory_store, tmp_path, Told()) as uploader:
        assert uploader.finish(0)


def test_a_folder_that_no_training_could_go_on_from_is_never_uploaded(
    directory_store: BlockingStore, tmp_path: Path
) -> None:
    folder = checkpoint_on_disk(tmp_path / "checkpoint-5", 5, without="optimizer.pt")
    with uploader_to(directory_store, tmp_path, Told()) as uploader:
        with pytest.raises(StepFailed, match=r"no optimizer\.pt") as caught:
            uploader.submit(folder, 5, 50)
        assert caught.value.code == "checkpoint_incomplete"
        assert uploader.finish(0)


def test_the_store_holds_two_checkpoints_however_many_were_made(store: BlockingStore, tmp_path: Path) -> None:
    with uploader_to(store, tmp_path, Told(), attempt_id=7) as uploader:
        for step in range(1, 6):
            uploader.submit(checkpoint_on_disk(tmp_path / f"checkpoint-{step}", step), step, step)
            assert uploader.finish(30)
    assert [stored.folder for stored in find_newest(store, PREFIX, "ours")] == [
        f"{PREFIX}/step-00000005-7",
        f"{PREFIX}/step-00000004-7",
    ]
    assert {info.key.split("/")[4] for info in store.list_objects(f"{PREFIX}/")} == {
        "step-00000005-7",
        "step-00000004-7",
    }


def test_what_a_killed_attempt_left_half_uploaded_goes_with_the_next_upload(
    store: BlockingStore, tmp_path: Path
) -> None:
    store.put_bytes(f"{PREFIX}/step-00000009-1/optimizer.pt", b"half")
    with uploader_to(store, tmp_path, Told(), attempt_id=2) as uploader:
        uploader.submit(checkpoint_on_disk(tmp_path / "checkpoint-5", 5), 5, 50)
        assert uploader.finish(30)
    assert {info.key.split("/")[4] for info in store.list_objects(f"{PREFIX}/")} == {"step-00000005-2"}


def test_pauses_grow_and_end_growing() -> None:
    assert [pause_after(failures) for failures in (1, 2, 3, 100)] == [1, 2, 4, LONGEST_PAUSE]
