"""Log-probabilities of the responses under the reference model, computed once before DPO and kept.

The reference is the model that training starts from (with adapters: the model without them). It never has to be in memory
beside the policy, and the same model, data and numerics never compute it twice: the key of the stored file says what it is of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from numpy.typing import NDArray
from peft import PeftModel
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers import PreTrainedModel

from services.training.batches import PairCollator
from services.training.fused_heads import by_document, fuse_head, own_model, token_log_probabilities
from shared.domain.training import TrainParameters

COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
FORMAT = "multifacet reference log-probabilities 1"


@dataclass(frozen=True)
class PairLogProbabilities:
    """Sums over the response tokens, in the order of the rows, float32."""

    chosen: NDArray[np.float32]
    rejected: NDArray[np.float32]


@dataclass(frozen=True)
class ReferenceLogProbabilities:
    """Of all pairs of a training; `key` says of what."""

    key: str
    train: PairLogProbabilities
    test: PairLogProbabilities | None = None


def model_fingerprint(model: PreTrainedModel | PeftModel) -> str:
    """sha256 of the weights' names, types and bytes, and of the configuration's architecture; adapters do not count."""
    digest = sha256()
    config = own_model(model).config
    digest.update(
        repr(sorted(config.to_diff_dict().get("architectures") or [type(own_model(model)).__name__])).encode()
    )
    for name, value in sorted(own_model(model).state_dict().items()):
        if "lora_" in name or not isinstance(value, torch.Tensor):
            continue
        digest.update(f"{name.replace('.base_layer', '')} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def data_fingerprint(rows: Dataset | None) -> str:
    """sha256 of the pairs' tokens in their order."""
    digest = sha256()
    for batch in [] if rows is None else rows.select_columns(list(COLUMNS)).iter(batch_size=512):
        for column in COLUMNS:
            for tokens in batch[column]:
                digest.update(len(tokens).to_bytes(8, "little"))
                digest.update(np.asarray(tokens, dtype=np.int64).tobytes())
    return digest.hexdigest()


def reference_key(
    parameters: TrainParameters, model: PreTrainedModel | PeftModel, train: Dataset, test: Dataset | None
) -> str:
    """The name of what `compute_reference` would give: of the model, the pairs, and what changes the arithmetic."""
    parts = (
        FORMAT,
        model_fingerprint(model),
        data_fingerprint(train),
        data_fingerprint(test),
        parameters.precision,
        parameters.attention,
    )
    return sha256("\n".join(parts).encode()).hexdigest()


def compute_reference(
    parameters: TrainParameters,
    model: PreTrainedModel | PeftModel,
    train: Dataset,
    test: Dataset | None,
    *,
    device: torch.device,
    tokens_per_batch: int = 16384,
    key: str | None = None,
) -> ReferenceLogProbabilities:
    """Compute them on `device`, where the model is moved to; several processes share the pairs out among them.

    Pairs go through the model in their order, as many at once as fit `tokens_per_batch` (one at least).
    """
    key = key or reference_key(parameters, model, train, test)
    torch.nn.Module.to(model, device)
    fuse_head(model)
    was_training = model.training
    model.eval()
    try:
        adapters_off = model.disable_adapter() if isinstance(model, PeftModel) else torch.no_grad()
        with torch.no_grad(), adapters_off:
            of_train = _of_rows(model, train, device, tokens_per_batch)
            of_test = None if test is None else _of_rows(model, test, device, tokens_per_batch)
    finally:
        model.train(was_training)
        own_model(model).__dict__.pop("forward", None)
    return ReferenceLogProbabilities(key, of_train, of_test)


def _of_rows(
    model: PreTrainedModel | PeftModel, rows: Dataset, device: torch.device, tokens_per_batch: int
) -> PairLogProbabilities:
    state = PartialState()
    collate = PairCollator()
    pairs: list[tuple[int, float, float]] = []
    mine = range(state.process_index, len(rows), state.num_processes)
    for indices in _batches(rows, mine, tokens_per_batch):
        batch = collate([rows[index] for index in indices])
        on_device = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()
        }
        documents = by_document(token_log_probabilities(model, on_device), batch["document_lengths"])
        sums = torch.stack([document.sum() for document in documents]).tolist()
        pairs += zip(indices, sums[0::2], sums[1::2], strict=True)
    everything: list[tuple[int, float, float]] = sorted(gather_object(pairs))
    return PairLogProbabilities(
        np.asarray([pair[1] for pair in everything], dtype=np.float32),
        np.asarray([pair[2] for pair in everything], dtype=np.float32),
    )


def _batches(rows: Dataset, indices: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    batches: list[list[int]] = []
    room = 0
    for index in indices:
        row: dict[str, Any] = rows[index]
        tokens = 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])
        if not batches or tokens > room:
            batches.append([])
            room = tokens_per_batch
        batches[-1].append(index)
        room -= tokens
    return batches


def save_reference(reference: ReferenceLogProbabilities, folder: Path) -> Path:
    """Write `reference-<key>.safetensors` into `folder`; the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(reference.key)
    tensors = {"train.chosen": reference.train.chosen, "train.rejected": reference.train.rejected}
    if reference.test is not None:
        tensors |= {"test.chosen": reference.test.chosen, "test.rejected": reference.test.rejected}
    save_file(tensors, path, metadata={"format": FORMAT, "key": reference.key})
    return path


def file_name(key: str) -> str:
    """The name of the file that holds the log-probabilities of `key`."""
    return f"reference-{key}.safetensors"


def load_reference(path: Path, key: str) -> ReferenceLogProbabilities:
    """Read a stored file. Raises ValueError where it is of another key (another model, other pairs or numerics)."""
    with safe_open(path, framework="numpy") as stored:
        metadata = stored.metadata() or {}
        if metadata.get("format") != FORMAT or metadata.get("key") != key:
            raise ValueError(
                f"{path} holds reference log-probabilities of {metadata.get('key')!r}, wanted were those of {key!r}; compute "
                "them again"
            )
        found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
    test = PairLogProbabilities(found["test.chosen"], found["test.rejected"]) if "test.chosen" in found else None
    return ReferenceLogProbabilities(key, PairLogProbabilities(found["train.chosen"], found["train.rejected"]), test)


def with_reference(rows: Dataset, reference: PairLogProbabilities | None) -> Dataset:
    """The rows with columns `reference_chosen` and `reference_rejected`.

    Raises ValueError where there are not as many as rows.
    """
    seen = 0 if reference is None else len(reference.chosen)
    if reference is None or seen != len(rows):
        raise ValueError(f"there are reference log-probabilities for {seen} pairs, but {len(rows)} pairs")
    return rows.add_column("reference_chosen", reference.chosen.tolist()).add_column(
        "reference_rejected", reference.rejected.tolist()
    )
