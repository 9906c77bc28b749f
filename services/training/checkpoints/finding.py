"""Find the checkpoint to go on from: the newest one that is complete, unchanged, and of this very training."""

import json
import shutil
from pathlib import Path

import msgspec

from services.training.checkpoints.blocking_store import BlockingStore
from services.training.checkpoints.manifest import (
    MANIFEST_NAME,
    TRAINER_STATE_NAME,
    CheckpointManifest,
    decode_manifest,
    missing_kinds,
)
from shared.artifacts.layout import checkpoint_folder, step_and_attempt
from shared.artifacts.protocol import ArtifactCorrupt, ObjectNotFound
from shared.domain.errors import MultifacetError


class CheckpointRefused(MultifacetError):
    """A checkpoint that must not be resumed from."""

    code = "checkpoint_refused"


class StoredCheckpoint(msgspec.Struct, frozen=True):
    folder: str
    """Key of its folder in the store."""
    attempt_id: int
    manifest: CheckpointManifest


class Listing(msgspec.Struct, frozen=True):
    """All that lies below the prefix of one training."""

    complete: tuple[StoredCheckpoint, ...]
    """With a readable manifest, newest step first; of one step, the one of the latest attempt."""
    torn: tuple[tuple[str, int], ...]
    """Folder and attempt of those without manifest: an upload that is under way or was cut off."""
    unreadable: tuple[tuple[str, int, str], ...]
    """Folder, attempt and reason of those whose manifest says nothing."""


class ResumePoint(msgspec.Struct, frozen=True):
    """Where to go on. `folder` None: from the first step. `refused` tells each newer checkpoint that was not taken."""

    folder: Path | None
    manifest: CheckpointManifest | None
    refused: tuple[str, ...]


def list_checkpoints(store: BlockingStore, prefix: str) -> Listing:
    """Every checkpoint of a training, whoever wrote it."""
    with_manifest: dict[tuple[int, int], bool] = {}
    for info in store.list_objects(f"{prefix}/"):
        place = step_and_attempt(prefix, info.key)
        if place is not None:
            is_manifest = info.key == f"{checkpoint_folder(prefix, *place)}/{MANIFEST_NAME}"
            with_manifest[place] = with_manifest.get(place, False) or is_manifest
    complete, torn, unreadable = [], [], []
    for (step, attempt_id), has_manifest in sorted(with_manifest.items(), reverse=True):
        folder = checkpoint_folder(prefix, step, attempt_id)
        if not has_manifest:
            torn.append((folder, attempt_id))
            continue
        try:
            manifest = decode_manifest(store.get_bytes(f"{folder}/{MANIFEST_NAME}"))
        except ObjectNotFound:  # pruned since it was listed
            continue
        except msgspec.MsgspecError as error:
            unreadable.append((folder, attempt_id, f"its manifest cannot be read: {error}"))
            continue
        if manifest.step != step:
            unreadable.append((folder, attempt_id, f"its manifest is of step {manifest.step}"))
            continue
        complete.append(StoredCheckpoint(folder, attempt_id, manifest))
    return Listing(tuple(complete), tuple(torn), tuple(unreadable))


def find_newest(store: BlockingStore, prefix: str, fingerprint: str) -> list[StoredCheckpoint]:
    """Complete checkpoints of the training that `fingerprint` names, newest first."""
    listing = list_checkpoints(store, prefix)
    return [stored for stored in listing.complete if stored.manifest.fingerprint == fingerprint]


def fetch(store: BlockingStore, stored: StoredCheckpoint, folder: Path) -> None:
    """Download a checkpoint to the new folder `folder`, each file held against its sha256.

    Nothing of it has been loaded before all of it matched: `optimizer.pt` is a pickle. Raises CheckpointRefused, and leaves
    nothing behind, where a kind of file or an object is missing, or bytes differ. An outage of the store is no fault of the
    checkpoint and passes through.
    """
    manifest = stored.manifest
    missing = missing_kinds([file.name for file in manifest.files], manifest.world_size)
    if missing:
        raise CheckpointRefused(f"it has no {', no '.join(missing)}")
    try:
        for file in manifest.files:
            target = folder / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            store.get_file(f"{stored.folder}/{file.name}", target, file.sha256)
        _check_trainer_state(folder / TRAINER_STATE_NAME, manifest.step)
    except (ArtifactCorrupt, ObjectNotFound) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise CheckpointRefused(str(error)) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def fetch_newest(store: BlockingStore, prefix: str, fingerprint: str, parent: Path) -> ResumePoint:
    """The newest checkpoint that can be trusted, as a folder `checkpoint-<step>` below `parent`, as the Trainer names it."""
    listing = list_checkpoints(store, prefix)
    refused = [f"{folder}: {reason}" for folder, _, reason in listing.unreadable]
    for stored in listing.complete:
        if stored.manifest.fingerprint != fingerprint:
            refused.append(f"{stored.folder}: it is of other parameters, data, base or number of processes")
            continue
        folder = parent / f"checkpoint-{stored.manifest.step}"
        try:
            fetch(store, stored, folder)
        except CheckpointRefused as error:
            refused.append(f"{stored.folder}: {error}")
            continue
        return ResumePoint(folder, stored.manifest, tuple(refused))
    return ResumePoint(None, None, tuple(refused))


def _check_trainer_state(path: Path, step: int) -> None:
    try:
        found = json.loads(path.read_bytes())["global_step"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointRefused(f"its {TRAINER_STATE_NAME} cannot be read ({type(error).__name__})") from error
    if found != step:
        raise CheckpointRefused(f"its {TRAINER_STATE_NAME} is of step {found}, its manifest of step {step}")
