"""Whether the scratch folder and the artifact store can take what a training writes."""

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import msgspec

from services.training.preflight.memory import (
    Device,
    Load,
    adapter_parameters,
    estimate_memory,
    gibibytes,
    shape_parameters,
)
from services.training.preflight.shape import ModelShape
from shared.artifacts.protocol import ArtifactStore
from shared.domain.errors import MultifacetError
from shared.domain.training import TrainParameters, Tuning

_PROBE_BYTES = 1 << 20


class ScratchUnusable(MultifacetError):
    """The scratch folder of this worker cannot be written or is too full; another worker may do."""

    code = "scratch_unusable"


class Disk(msgspec.Struct, frozen=True):
    """Bytes free on the scratch folder's disk, and what the training needs there (None: not known for this architecture)."""

    free_bytes: int
    needed_bytes: int | None


def needed_disk_bytes(parameters: TrainParameters, shape: ModelShape) -> int:
    """Two checkpoints (one is written while another is uploaded) of trained weights and optimizer states, and the model that
    is registered: all weights, unless adapters stay by themselves. The prepared rows are on the disk already."""
    number = 2 if parameters.precision == "bf16" else 4
    # One process, nothing shared out: a checkpoint holds everything.
    alone = parameters.model_copy(update={"processes": 1})
    estimate = estimate_memory(alone, shape, Load(0, 0), recompute=True, device=Device("cpu", 0))
    if parameters.tuning is Tuning.FULL:
        trained = shape_parameters(parameters, shape) * number
    else:
        trained = adapter_parameters(parameters, shape) * 4
    merged = parameters.tuning is Tuning.FULL or parameters.lora.merge
    return 2 * (trained + estimate.optimizer) + (shape_parameters(parameters, shape) * number if merged else trained)


def check_scratch(folder: Path, parameters: TrainParameters, shape: ModelShape | None) -> Disk:
    """Write a file there and read it back, and compare what is free with what is needed.

    Raises ScratchUnusable: another worker may do. A dry run needs no room.
    """
    probe = folder / f".probe-{uuid4().hex}"
    data = os.urandom(_PROBE_BYTES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        returned = probe.read_bytes()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ScratchUnusable(
            f"the scratch folder {folder} of this worker cannot be written ({error}); give the worker one that can"
        ) from error
    finally:
        with suppress(OSError):
            probe.unlink()
    if returned != data:
        raise ScratchUnusable(
            f"the scratch folder {folder} gives back other bytes than were written; check its disk or give the worker another"
        )
    needed = None if shape is None or parameters.dry_run else needed_disk_bytes(parameters, shape)
    if needed is not None and needed > free:
        raise ScratchUnusable(
            f"the training writes about {gibibytes(needed)} to {folder} (two checkpoints and the model), but {gibibytes(free)} "
            "are free; give the worker a larger scratch folder, or set tuning to lora"
        )
    return Disk(free, needed)


def check_store(store: ArtifactStore) -> None:
    """Raise MultifacetError unless checkpoints can be written to the store and deleted again. Not from within a loop."""
    asyncio.run(store.check())
