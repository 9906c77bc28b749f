"""What a complete checkpoint is: the files that must be there, and the manifest that is written after all of them."""

import hashlib
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from shared.domain.models import METRICS_FILE

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = "1"

TRAINER_STATE_NAME = "trainer_state.json"

_LEFT_OUT = frozenset({"training_args.bin", "README.md", MANIFEST_NAME})
"""Not needed to go on. `training_args.bin` is a pickle of a whole object, which nobody should ever load."""

_SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")


class CheckpointFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    """Relative to the checkpoint's folder."""
    sha256: str
    size: int
    """Bytes."""


class CheckpointManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`manifest.json`: a checkpoint without it is torn and is never read."""

    schema_version: str = SCHEMA_VERSION
    step: int
    fingerprint: str
    """Of all that decides the course of the training; see `fingerprint_of`."""
    world_size: int
    """Training processes: each has a random state of its own."""
    files: tuple[CheckpointFile, ...]
    tokens: int
    """Real tokens trained on so far."""
    created_at: str
    """ISO 8601, UTC."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def fingerprint_of(*, parameters: Any, data: Any, base: Any, world_size: int) -> str:
    """sha256 over all that decides the course of a training, as JSON with sorted keys. Two trainings with the same value
    go through the same states, so one may go on from a checkpoint of the other."""
    content = {"parameters": parameters, "data": data, "base": base, "world_size": world_size}
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


def encode_manifest(manifest: CheckpointManifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def decode_manifest(data: bytes) -> CheckpointManifest:
    """Raises msgspec.MsgspecError (a ValueError) for anything but a manifest of this version."""
    manifest = msgspec.json.decode(data, type=CheckpointManifest)
    if manifest.schema_version != SCHEMA_VERSION:
        raise msgspec.ValidationError(f"schema version {manifest.schema_version!r}, known is {SCHEMA_VERSION!r}")
    for file in manifest.files:
        path = PurePosixPath(file.name)
        if path.is_absolute() or not path.parts or ".." in path.parts:
            raise msgspec.ValidationError(f"{file.name!r} lies outside the checkpoint")
    return manifest


def checkpoint_files(folder: Path) -> list[str]:
    """Names of the files in a folder of the Trainer that belong into the checkpoint, sorted."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name not in _LEFT_OUT)


def missing_kinds(names: Collection[str], world_size: int) -> list[str]:
    """What a resume needs and `names` do not hold, in words; empty for a complete checkpoint.

    The Trainer itself asks for less: without `optimizer.pt` it goes on with a fresh optimizer and says nothing, without a
    random state with fresh dropout. `optimizer.bin` is what accelerate writes for sharded training with full states.
    """
    found = set(names)
    wanted = {
        "model or adapter weights as safetensors": _has_weights(found),
        "optimizer.pt": bool(found & {"optimizer.pt", "optimizer.bin"}),
        "scheduler.pt": "scheduler.pt" in found,
        TRAINER_STATE_NAME: TRAINER_STATE_NAME in found,
        # Our own state beside the Trainer's: the rows up to the checkpoint's step.
        METRICS_FILE: METRICS_FILE in found,
    }
    wanted |= {name: name in found for name in _random_states(world_size)}
    return [kind for kind, there in wanted.items() if not there]


def _random_states(world_size: int) -> list[str]:
    return ["rng_state.pth"] if world_size == 1 else [f"rng_state_{rank}.pth" for rank in range(world_size)]


def _has_weights(names: set[str]) -> bool:
    if names & {"model.safetensors", "adapter_model.safetensors"}:
        return True
    shards = [match for name in names if (match := _SHARD.fullmatch(name))]
    return bool(shards) and "model.safetensors.index.json" in names and len(shards) == int(shards[0][2])
