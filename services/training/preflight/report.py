"""What the preflight found: `preflight.json`."""

import msgspec

from services.training.data.counts import DataCounts
from services.training.preflight.memory import Device, MemoryEstimate
from services.training.preflight.storage import Disk


class SpecialToken(msgspec.Struct, frozen=True):
    text: str | None
    id: int | None


class PreflightReport(msgspec.Struct, frozen=True, kw_only=True):
    """All figures are of the rows as prepared; a refused training has those that were found until then, and `refused`."""

    method: str
    template: str
    """`mistral` (ours) or `system_role` (the model's own)."""
    data: DataCounts
    steps_per_epoch: int
    steps: int
    tokens_per_epoch: int
    tokens_per_step: float
    """Mean; of pairs, both sides with their prompts."""
    vocabulary: int
    """Highest token id + 1."""
    embedding_rows: int | None
    bos: SpecialToken
    eos: SpecialToken
    pad: SpecialToken
    device: Device
    memory: MemoryEstimate | None = None
    """None where the architecture is not one that the estimate knows."""
    recompute: bool | None = None
    disk: Disk | None = None
    store_checked: bool = False
    notes: list[str] = []
    refused: str | None = None
