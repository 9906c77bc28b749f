"""Compression: how much shorter texts become when repeated wording is written once."""

import zlib

import numpy as np

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Threshold, finding, not_applicable
from shared.statistics.intervals import SEED, cluster_mean_interval

BLOCK_BYTES = 32_768
"""zlib looks back as far. A ratio grows with the size of what is compressed, so that only equal blocks compare."""
MOST_BLOCKS = 200
SYSTEMS = Threshold(warn=3.5, bad=6.0)
OUTPUTS = Threshold(warn=3.5, bad=6.0)


def measure(data: AuditData) -> list[Finding]:
    """Bytes of UTF-8 by bytes of zlib level 9, mean over blocks of 32 KiB; each block holds whole instructions."""
    systems = [(row.cluster, row.system) for row in data.rows if row.system is not None]
    outputs = [(row.cluster, text) for row in data.rows for text in (row.output, row.chosen) if text is not None]
    return [
        _compressed("system_compression", "Compression of system messages", systems, SYSTEMS),
        _compressed("output_compression", "Compression of answers", outputs, OUTPUTS),
    ]


def _compressed(name: str, title: str, texts: list[tuple[str, str]], threshold: Threshold) -> Finding:
    by_cluster: dict[str, list[str]] = {}
    for cluster, text in texts:
        by_cluster.setdefault(cluster, []).append(text)
    names = list(by_cluster)
    np.random.default_rng(SEED).shuffle(names)
    blocks: list[bytes] = []
    pending: list[str] = []
    size = 0
    for cluster in names:
        # A text that stands in several rows of an instruction (the chosen side of two pairs) counts once.
        for text in dict.fromkeys(by_cluster[cluster]):
            pending.append(text)
            size += len(text.encode()) + 1
        if size >= BLOCK_BYTES:
            blocks.append("\n".join(pending).encode()[:BLOCK_BYTES])
            pending, size = [], 0
        if len(blocks) == MOST_BLOCKS:
            break
    if not blocks:
        return not_applicable(name, title, f"fewer than {BLOCK_BYTES:,} bytes of such texts")
    ratios = [len(block) / len(zlib.compress(block, 9)) for block in blocks]
    return finding(
        name, title, cluster_mean_interval(ratios, range(len(ratios))), len(ratios), "blocks of 32 KiB", threshold,
        note="the interval is over blocks, each of other instructions",
    )  # fmt: skip
