from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.training.checkpoints.blocking_store import BlockingStore
from services.training.checkpoints.finding import CheckpointRefused, fetch, fetch_newest, find_newest
from services.training.checkpoints.manifest import fingerprint_of, missing_kinds
from services.training.checkpoints.pruning import prune, remove_all
from shared.artifacts.layout import checkpoint_folder, checkpoint_prefix, step_and_attempt
from tests.services.training.output_support import CONTENT, PREFIX, put_checkpoint


def keys(store: BlockingStore) -> set[str]:
    return {info.key.removeprefix(f"{PREFIX}/").partition("/")[0] for info in store.list_objects(f"{PREFIX}/")}


def test_the_newest_complete_checkpoint_is_fetched_byte_for_byte(store: BlockingStore, tmp_path: Path) -> None:
    put_checkpoint(store, 10)
    put_checkpoint(store, 20, attempt_id=2)
    found = fetch_newest(store, PREFIX, "ours", tmp_path / "resume")
    assert found.folder == tmp_path / "resume" / "checkpoint-20"
    assert found.manifest is not None
    assert found.manifest.tokens == 200
    assert (found.folder / "optimizer.pt").read_bytes() == CONTENT["optimizer.pt"]
    assert not found.refused


def test_a_checkpoint_cut_off_before_its_manifest_is_not_seen(store: BlockingStore, tmp_path: Path) -> None:
    put_checkpoint(store, 10)
    put_checkpoint(store, 20, without=("manifest.json", "optimizer.pt"))
    assert [stored.manifest.step for stored in find_newest(store, PREFIX, "ours")] == [10]
    assert fetch_newest(store, PREFIX, "ours", tmp_path / "resume").folder == tmp_path / "resume" / "checkpoint-10"


@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "trainer_state.json", "metrics.jsonl"])
def test_one_flipped_bit_sends_training_to_the_older_checkpoint(
    store: BlockingStore, tmp_path: Path, name: str
) -> None:
    put_checkpoint(store, 10)
    folder = put_checkpoint(store, 20)
    data = bytearray(store.get_bytes(f"{folder}/{name}"))
    data[len(data) // 2] ^= 1
    store.put_bytes(f"{folder}/{name}", bytes(data))
    found = fetch_newest(store, PREFIX, "ours", tmp_path / "resume")
    assert found.folder == tmp_path / "resume" / "checkpoint-10"
    assert len(found.refused) == 1
    assert "step-00000020-1" in found.refused[0]
    assert name in found.refused[0]
    assert not (tmp_path / "resume" / "checkpoint-20").exists()


@pytest.mark.parametrize(
    "name",
    ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "metrics.jsonl", "model.safetensors"],
)
def test_a_checkpoint_without_one_of_its_parts_is_refused_though_its_manifest_says_complete(
    store: BlockingStore, tmp_path: Path, name: str
) -> None:
    put_checkpoint(store, 10)
    put_checkpoint(store, 20, without=(name,))
    found = fetch_newest(store, PREFIX, "ours", tmp_path / "resume")
    assert found.folder == tmp_path / "resume" / "checkpoint-10"
    assert name.rpartition(".")[2] in found.refused[0]
    assert "it has no" in found.refused[0]


def test_a_missing_object_is_refused_and_nothing_is_left_on_the_disk(store: BlockingStore, tmp_path: Path) -> None:
    folder = put_checkpoint(store, 20)
    store.delete(f"{folder}/scheduler.pt")
    (stored,) = find_newest(store, PREFIX, "ours")
    with pytest.raises(CheckpointRefused, match="no object"):
        fetch(store, stored, tmp_path / "resume")
    assert not (tmp_path / "resume").exists()


def test_checkpoints_of_another_training_are_told_and_not_taken(store: BlockingStore, tmp_path: Path) -> None:
    put_checkpoint(store, 10, fingerprint="theirs")
    found = fetch_newest(store, PREFIX, "ours", tmp_path / "resume")
    assert found.folder is None
    assert "other parameters" in found.refused[0]
    assert find_newest(store, PREFIX, "ours") == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[1]",
        b'{"step": 20',
        b'{"schema_version":"2","step":20,"fingerprint":"ours","world_size":1,"files":[],"tokens":1,"created_at":""}',
        b'{"schema_version":"1","step":20,"fingerprint":"ours","world_size":1,"tokens":1,"created_at":"",'
        b'"files":[{"name":"../outside","sha256":"","size":1}]}',
        b'{"schema_version":"1","step":21,"fingerprint":"ours","world_size":1,"files":[],"tokens":1,"created_at":""}',
    ],
)
def test_a_garbled_manifest_is_told_and_the_older_checkpoint_taken(
    directory_store: BlockingStore, tmp_path: Path, text: bytes
) -> None:
    put_checkpoint(directory_store, 10)
    folder = put_checkpoint(directory_store, 20)
    directory_store.put_bytes(f"{folder}/manifest.json", text)
    found = fetch_newest(directory_store, PREFIX, "ours", tmp_path / "resume")
    assert found.folder == tmp_path / "resume" / "checkpoint-10"
    assert "its manifest" in found.refused[0]


def test_a_state_of_another_step_than_the_manifest_says_is_refused(
    directory_store: BlockingStore, tmp_path: Path
) -> None:
    folder, other = put_checkpoint(directory_store, 20), put_checkpoint(directory_store, 30)
    for name in ("trainer_state.json", "manifest.json"):
        text = directory_store.get_bytes(f"{other}/{name}").replace(b'"step": 30', b'"step": 20')
        directory_store.put_bytes(f"{folder}/{name}", text)
    directory_store.delete(f"{other}/manifest.json")
    found = fetch_newest(directory_store, PREFIX, "ours", tmp_path / "resume")
    assert found.folder is None
    assert "of step 30" in found.refused[0]


def test_pruning_keeps_the_two_newest_and_takes_out_what_dead_attempts_left(store: BlockingStore) -> None:
    for step in (10, 20, 30, 40):
        put_checkpoint(store, step, attempt_id=1 if step < 30 else 3)
    put_checkpoint(store, 25, attempt_id=1, without=("manifest.json",))
    put_checkpoint(store, 5, attempt_id=2, fingerprint="theirs")
    put_checkpoint(store, 50, attempt_id=4, without=("manifest.json",))  # a later attempt is uploading
    prune(store, PREFIX, "ours", attempt_id=3)
    assert keys(store) == {"step-00000030-3", "step-00000040-3", "step-00000050-4"}


def test_an_attempt_that_lost_its_lease_prunes_nothing_of_a_later_one(store: BlockingStore) -> None:
    for step, attempt_id in ((10, 2), (20, 2), (30, 1), (40, 1), (50, 1)):
        put_checkpoint(store, step, attempt_id)
    prune(store, PREFIX, "ours", attempt_id=1)
    assert keys(store) == {"step-00000010-2", "step-00000020-2", "step-00000040-1", "step-00000050-1"}


def test_after_success_nothing_is_left_and_other_trainings_are_untouched(store: BlockingStore) -> None:
    put_checkpoint(store, 10)
    put_checkpoint(store, 20, without=("manifest.json",))
    store.put_bytes(f"{PREFIX}-two/step-00000010-1/manifest.json", b"{}")
    remove_all(store, PREFIX)
    assert [info.key for info in store.list_objects("checkpoints/")] == [f"{PREFIX}-two/step-00000010-1/manifest.json"]


@given(st.integers(0, 10**10), st.integers(0, 10**9), st.from_regex(r"[a-z][a-z0-9-]{0,39}", fullmatch=True))
def test_step_and_attempt_are_read_back_from_every_key(step: int, attempt_id: int, stage: str) -> None:
    prefix = checkpoint_prefix("p", "j", stage)
    assert step_and_attempt(prefix, f"{checkpoint_folder(prefix, step, attempt_id)}/a/b") == (step, attempt_id)
    assert step_and_attempt(f"{prefix}x", f"{checkpoint_folder(prefix, step, attempt_id)}/a") is None


def test_sharded_weights_need_their_index_and_every_shard() -> None:
    rest = {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "metrics.jsonl"}
    shards = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    index = {"model.safetensors.index.json"}
    assert missing_kinds(rest | shards | index, 1) == []
    assert missing_kinds(rest | shards, 1) != []
    assert missing_kinds(rest | {"model-00001-of-00002.safetensors"} | index, 1) != []
    assert missing_kinds(rest | {"pytorch_model.bin"}, 1) != []
    assert missing_kinds(rest | {"adapter_model.safetensors"}, 1) == []
    assert missing_kinds(rest | {"adapter_model.safetensors"}, 2) == ["rng_state_0.pth", "rng_state_1.pth"]


def test_every_part_changes_the_fingerprint_and_order_of_keys_does_not() -> None:
    first = fingerprint_of(parameters={"a": 1, "b": 2}, data=["x"], base="m", world_size=1)
    assert first == fingerprint_of(parameters={"b": 2, "a": 1}, data=["x"], base="m", world_size=1)
    others = {
        fingerprint_of(parameters={"a": 2, "b": 2}, data=["x"], base="m", world_size=1),
        fingerprint_of(parameters={"a": 1, "b": 2}, data=["y"], base="m", world_size=1),
        fingerprint_of(parameters={"a": 1, "b": 2}, data=["x"], base="n", world_size=1),
        fingerprint_of(parameters={"a": 1, "b": 2}, data=["x"], base="m", world_size=2),
    }
    assert first not in others
    assert len(others) == 4
