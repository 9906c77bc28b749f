"""Several rows in one sequence, best fit first, so that next to nothing of a sequence stays empty."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from trl.data_utils import pack_dataset

from services.training.data.counts import Packing
from shared.domain.identifiers import seed_of

_ROWS_AT_ONCE = 8192
"""Rows that are fitted into sequences together: the more, the fuller the sequences, and the more of them lie in memory."""


def pack(rows: Any, maximum_length: int, seed: int, folder: Path, name: str) -> tuple[Any, Packing]:
    """The rows as packs (`datasets.Dataset` with `input_ids`, `labels`, `seq_lengths`), and how well they are filled.

    Rows are shuffled before (so that those packed together are any), and packs after (fitting orders them by length); both by
    `seed`. No row is cut: all must have at most `maximum_length` tokens. Files lie in `folder`: `<name>-fitted.arrow`, which
    is removed, and `<name>-packs.arrow`.
    """
    fitted_file, packs_file = folder / f"{name}-fitted.arrow", folder / f"{name}-packs.arrow"
    fitted_file.unlink(missing_ok=True)
    packs_file.unlink(missing_ok=True)
    shuffled = rows.shuffle(seed=_seed(seed, "rows"), keep_in_memory=True)
    fitted = pack_dataset(
        shuffled,
        seq_length=maximum_length,
        strategy="bfd",
        map_kwargs={
            "batch_size": _ROWS_AT_ONCE,
            "cache_file_name": str(fitted_file),
            "load_from_cache_file": False,
        },
    )
    packs = fitted.shuffle(seed=_seed(seed, "packs"), keep_in_memory=True).flatten_indices(
        cache_file_name=str(packs_file)
    )
    figures = _figures(packs.with_format("arrow")[:]["seq_lengths"].to_pylist(), maximum_length)
    fitted_file.unlink()
    return packs, figures


def _seed(seed: int, what: str) -> int:
    return seed_of("packing", what, seed) % 2**32


def _figures(lengths: Iterable[list[int]], maximum_length: int) -> Packing:
    rows = [len(pack) for pack in lengths]
    tokens = sum(sum(pack) for pack in lengths)
    return Packing(
        sequences=len(rows),
        rows_per_sequence=float(np.mean(rows)),
        most_rows=max(rows),
        fill_share=tokens / (len(rows) * maximum_length),
    )
