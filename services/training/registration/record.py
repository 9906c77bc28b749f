"""`multifacet.json`: all that is known of how a model was made, beside its weights. The model card is rendered from it."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

RECORD_NAME = "multifacet.json"
SCHEMA_VERSION = "1"

LIBRARIES = (
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "bitsandbytes",
    "datasets",
    "tokenizers",
    "safetensors",
)


class BaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The model that training started from."""

    source: str
    """stage | registry | folder | hub | random"""
    name: str
    """Stage, id of a registered model, folder, name on the Hub, or architecture, by `source`."""
    revision: str | None = None
    sha256: str | None = None
    """Over the weights, where it is known."""


class DataArtifact(msgspec.Struct, frozen=True):
    id: str
    name: str
    sha256: str
    rows: int | None = None


class DataRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that were trained on."""

    job_id: str | None = None
    file_id: str | None = None
    artifacts: tuple[DataArtifact, ...] = ()
    train_rows: int
    test_rows: int = 0
    teacher: str | None = None
    """`provider/model`; None where it is not known, as of an uploaded file."""
    simulator: bool = False
    """Whether a program wrote the texts instead of a model."""
    prompt_versions: dict[str, str] = {}
    hub_data_sets: tuple[str, ...] = ()


class FigureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the training came to."""

    steps: int
    epochs: float
    tokens: int
    """Real tokens, without padding."""
    seconds: float
    """Spent on training steps, over all attempts."""
    final_loss: float | None
    evaluation: dict[str, float | None] = {}
    """The last evaluation on the test split, without the prefix `eval_`."""


class MergeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How well the merged weights stand for base and adapters. Both figures are relative norms over the logits of a probe."""

    difference: float
    """|merged - adapters| / |adapters|: what rounding costs."""
    effect: float
    """|adapters - base| / |adapters|: what the adapters do on the probe, for comparison."""
    dequantised: bool
    """Whether the base was held in 4 bits: then the weights are those 4-bit values written out, plus the adapters."""


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    schema_version: str = SCHEMA_VERSION
    name: str
    method: str
    tuning: str
    architecture: str
    parameter_count: int
    dtype: str
    base: BaseRecord
    random_weights: bool
    """Whether the chain of trainings began at random weights: such a model knows nothing."""
    chain: tuple[str, ...] = ()
    """Trainings before this one, first to last, as `method of model`."""
    job_id: str
    stage: str
    parameters: dict[str, Any]
    """All parameters as they were used, presets resolved."""
    data: DataRecord
    figures: FigureRecord
    merge: MergeRecord | None = None
    adapter_only: bool = False
    code_version: str
    libraries: dict[str, str]
    created_at: str
    """ISO 8601, UTC."""


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide what a training does, of those that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_record(folder: Path, record: ModelRecord) -> None:
    (folder / RECORD_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))


def read_record(folder: Path) -> ModelRecord:
    """Raises msgspec.MsgspecError for anything but a record of this version."""
    return msgspec.json.decode((folder / RECORD_NAME).read_bytes(), type=ModelRecord)
