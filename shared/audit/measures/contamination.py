"""Contamination: instructions shared between train and test, and with benchmarks."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from shared.artifacts.tables import batched
from shared.audit.data import AuditData, prompts_of
from shared.audit.findings import Finding, Threshold, finding, not_applicable
from shared.overlap.decontamination import Contamination, Decontamination
from shared.statistics.intervals import cluster_mean_interval

RUN_WORDS = 13
"""As for GPT-3 (Brown et al. 2020)."""
SPLITS = Threshold(warn=0.0, bad=0.01)
BENCHMARKS = Threshold(warn=0.0, bad=0.01)
_BATCH = 5000


def measure(data: AuditData) -> list[Finding]:
    """Shares of different instructions, all rows read: of the training split with an overlap with the test split, and of
    all with one of the benchmarks. Overlap is a run of 13 words, or a whole shorter text."""
    return [_splits(data), _benchmarks(data)]


def _splits(data: AuditData) -> Finding:
    name, title = "train_test_overlap", "Training instructions that overlap with the test split"
    if not data.train or not data.test:
        return not_applicable(name, title, "one split only")
    with TemporaryDirectory() as folder:
        held = Path(folder) / "test.jsonl"
        with held.open("wb") as file:
            for prompt in _different(prompts_of(data, data.test)):
                file.write(orjson.dumps({"prompt": prompt}, option=orjson.OPT_APPEND_NEWLINE))
        if not held.stat().st_size:
            return not_applicable(name, title, "the test split is empty")
        return _overlap(name, title, [held], prompts_of(data, data.train), SPLITS, "all rows read")


def _benchmarks(data: AuditData) -> Finding:
    name, title = "benchmark_overlap", "Instructions that overlap with a benchmark"
    if not data.benchmarks:
        return not_applicable(name, title, "no benchmark file was given")
    return _overlap(
        name, title, data.benchmarks, prompts_of(data, (*data.train, *data.test)), BENCHMARKS, "all rows read"
    )


def _overlap(
    name: str, title: str, files: Sequence[Path], prompts: Iterable[str], threshold: Threshold, note: str
) -> Finding:
    known = Decontamination([(file.name, file.name, file) for file in files], RUN_WORDS)
    hits: list[float] = []
    examples: list[str] = []
    for batch in batched(_different(prompts), _BATCH):
        for prompt, overlap in zip(batch, known.check(batch), strict=True):
            hits.append(float(overlap is not None))
            if overlap is not None and len(examples) < 5:
                examples.append(f"{_where(overlap)}: {prompt}")
    interval = cluster_mean_interval(hits, range(len(hits)))
    return finding(name, title, interval, len(hits), "instructions", threshold, note=note, examples=examples)


def _where(overlap: Contamination) -> str:
    return f"{overlap.text.benchmark}, row {overlap.text.row} ({overlap.match})"


def _different(prompts: Iterable[str]) -> Iterable[str]:
    """Each prompt once; memory holds 16 bytes of each."""
    seen: set[bytes] = set()
    for prompt in prompts:
        digest = blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield prompt
