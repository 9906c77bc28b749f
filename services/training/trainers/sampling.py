"""Which rows each process computes when: the same rows make up a step, however many processes share them.

An epoch is a permutation by seed and epoch, cut into micro-batches; process r of W takes every W-th of them, from the r-th on.
The last round is completed by fillers (negative indices), rows that are computed and count for nothing.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from services.training.batches import FILLER, Batch, Row
from shared.domain.identifiers import seed_of

# Index of a filler: row 0, marked. Any index below 0 would do.
FILLER_INDEX = -1


class RankBatches(Sampler[list[int]]):
    """Indices of the rows of one process's micro-batches. `seed` None keeps the rows' order."""

    def __init__(self, rows: int, micro_batch: int, rank: int, processes: int, seed: int | None) -> None:
        self.rows, self.micro_batch, self.rank, self.processes, self.seed = rows, micro_batch, rank, processes, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the permutation of `epoch` from the next iteration on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(math.ceil(self.rows / self.micro_batch) / self.processes)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(self.rows))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(seed_of("order of rows", self.seed, self.epoch))
            order = torch.randperm(self.rows, generator=generator).tolist()
        for turn in range(len(self)):
            start = (turn * self.processes + self.rank) * self.micro_batch
            yield order[start : start + self.micro_batch] or [FILLER_INDEX]


class RowsWithFillers(TorchDataset[Row]):
    """Rows by index; a negative index gives the first row, marked as a filler."""

    def __init__(self, rows: Dataset) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return {**self.rows[0], FILLER: True} if index < 0 else dict(self.rows[index])


class RankLoader(DataLoader[Row]):
    """Batches of one process. Unlike a plain loader it draws nothing from torch's global random state."""

    def __init__(self, rows: Dataset, collator: Any, batches: RankBatches, pin_memory: bool) -> None:
        super().__init__(
            RowsWithFillers(rows),
            batch_sampler=batches,
            collate_fn=collator,
            num_workers=0,
            pin_memory=pin_memory,
            generator=torch.Generator().manual_seed(0),
        )
        self.batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of each epoch."""
        self.batches.set_epoch(epoch)


def total_counts(batches: Sequence[Batch]) -> dict[str, int]:
    """What the batches count, added up."""
    totals: dict[str, int] = {}
    for batch in batches:
        for name, value in batch["counts"].items():
            totals[name] = totals.get(name, 0) + value
    return totals
