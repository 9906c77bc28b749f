"""Log-probabilities of the responses under the reference model, computed once before DPO and kept.

The reference is the model that training starts from (with adapters: the model without them). It never has to be in memory
beside the policy. Pairs are computed in parts of a fixed size, each stored as soon as it is there under a key that says of what
it is: whoever needs the same model, data and numerics, be it a later attempt or another training, computes what is missing alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from numpy.typing import NDArray
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.numpy import load, save
from transformers import PreTrainedModel

from services.training.batches import PairCollator
from services.training.checkpoints.blocking_store import BlockingStore
from services.training.fused_heads import by_document, fuse_head, own_model, token_log_probabilities
from shared.artifacts.layout import reference_part_key
from shared.artifacts.protocol import ArtifactCorrupt, ObjectNotFound
from shared.domain.training import TrainParameters, Tuning

FORMAT = "multifacet reference log-probabilities 2"

PART_PAIRS = 4096
"""Pairs of a part. What an attempt that ends on the way loses is less than one part."""


@dataclass(frozen=True)
class PairLogProbabilities:
    """Sums over the response tokens, in the order of the rows, float32."""

    chosen: NDArray[np.float32]
    rejected: NDArray[np.float32]


@dataclass(frozen=True)
class ReferenceLogProbabilities:
    """Of all pairs of a training. `computed`: for how many pairs nothing was stored."""

    train: PairLogProbabilities
    test: PairLogProbabilities | None = None
    computed: int = 0


class StoredParts:
    """The parts of one key in the artifact store."""

    def __init__(self, store: BlockingStore, project_id: str, key: str) -> None:
        self._store = store
        self._place = (project_id, key)

    def get(self, name: str, pairs: int) -> PairLogProbabilities | None:
        """The part of so many pairs; None where it is not there, or cannot be read."""
        try:
            found = load(self._store.get_bytes(reference_part_key(*self._place, name)))
            part = PairLogProbabilities(found["chosen"], found["rejected"])
        except (ObjectNotFound, ArtifactCorrupt, SafetensorError, KeyError):
            return None
        return part if len(part.chosen) == len(part.rejected) == pairs else None

    def put(self, name: str, part: PairLogProbabilities) -> None:
        data = save({"chosen": part.chosen, "rejected": part.rejected}, metadata={"format": FORMAT})
        self._store.put_bytes(reference_part_key(*self._place, name), data)


def reference_key(parameters: TrainParameters, base: str, data: Sequence[str | None]) -> str:
    """The name of what `compute_reference` gives: sha256 over what the base is (`base`), the pairs in their order (`data`), and
    what changes the arithmetic. A base in 4 bits is another model than the same base in full."""
    in_four_bits = parameters.tuning is Tuning.QLORA
    parts = (FORMAT, PART_PAIRS, base, data, parameters.precision, parameters.attention, in_four_bits)
    return sha256(msgspec.json.encode(parts)).hexdigest()


def compute_reference(
    model: PreTrainedModel | PeftModel,
    train: Dataset,
    test: Dataset | None,
    *,
    device: torch.device,
    tokens_per_batch: int = 16384,
    parts: StoredParts | None = None,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> ReferenceLogProbabilities:
    """Compute them on `device`, where the model is moved to, but for the parts that `parts` has.

    Pairs go through the model in their order, as many at once as fit `tokens_per_batch` (one at least). Several processes share
    out the batches of each part; the first one reads and stores the parts, the others are given None for `parts`.
    `watch(pairs done, pairs in all)` is called in every process before each batch and each part; what it raises ends the
    computation, so all processes must raise it at the same call.
    """
    torch.nn.Module.to(model, device)
    fuse_head(model)
    was_training = model.training
    model.eval()
    splits = {"train": train} if test is None else {"train": train, "test": test}
    total = sum(map(len, splits.values()))
    done = computed = 0
    found: dict[str, list[PairLogProbabilities]] = {split: [] for split in splits}
    try:
        adapters_off = model.disable_adapter() if isinstance(model, PeftModel) else torch.no_grad()
        with torch.no_grad(), adapters_off:
            for split, rows in splits.items():
                for start in range(0, len(rows), PART_PAIRS):
                    pairs = range(start, min(start + PART_PAIRS, len(rows)))
                    watch(done, total)
                    name = f"{split}-{start // PART_PAIRS:05d}"
                    part = _stored(parts, name, len(pairs))
                    if part is None:

                        def watch_part(more: int, before: int = done) -> None:
                            watch(before + more, total)

                        part = _compute(model, rows, pairs, device, tokens_per_batch, watch_part)
                        computed += len(pairs)
                        if parts is not None:
                            parts.put(name, part)
                    done += len(pairs)
                    found[split].append(part)
    finally:
        model.train(was_training)
        own_model(model).__dict__.pop("forward", None)
    of_split = {split: _joined(of_parts) for split, of_parts in found.items()}
    return ReferenceLogProbabilities(of_split["train"], of_split.get("test"), computed)


def _stored(parts: StoredParts | None, name: str, pairs: int) -> PairLogProbabilities | None:
    """What the first process finds, for all of them."""
    found = [None if parts is None else parts.get(name, pairs)]
    broadcast_object_list(found)
    return found[0]


def _compute(
    model: PreTrainedModel | PeftModel,
    rows: Dataset,
    pairs: Sequence[int],
    device: torch.device,
    tokens_per_batch: int,
    watch: Callable[[int], None],
) -> PairLogProbabilities:
    """One part; `watch(pairs done)` before each round of batches, one batch for each process."""
    state = PartialState()
    collate = PairCollator()
    sums: list[tuple[int, float, float]] = []
    batches = iter(_batches(rows, pairs, tokens_per_batch))
    done = 0
    while batches_of_round := list(islice(batches, state.num_processes)):
        watch(done)
        done += sum(map(len, batches_of_round))
        for indices in batches_of_round[state.process_index : state.process_index + 1]:
            batch = collate([rows[index] for index in indices])
            on_device = {
                name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()
            }
            documents = by_document(token_log_probabilities(model, on_device), batch["document_lengths"])
            of_documents = torch.stack([document.sum() for document in documents]).tolist()
            sums += zip(indices, of_documents[0::2], of_documents[1::2], strict=True)
    everything: list[tuple[int, float, float]] = sorted(gather_object(sums))
    return PairLogProbabilities(
        np.asarray([pair[1] for pair in everything], dtype=np.float32),
        np.asarray([pair[2] for pair in everything], dtype=np.float32),
    )


def _joined(parts: Sequence[PairLogProbabilities]) -> PairLogProbabilities:
    return PairLogProbabilities(
        np.concatenate([part.chosen for part in parts]), np.concatenate([part.rejected for part in parts])
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
