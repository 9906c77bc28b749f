"""Nearest neighbours: whether descriptions and system messages of different instructions repeat one another."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Threshold, finding, not_applicable
from shared.domain.similarity import word_tokens
from shared.statistics.intervals import SEED, quantile_interval

MOST_TEXTS = 2000
"""Texts compared with each other, of each dimension: similarities are taken of all pairs."""
TAIL = 0.95
DESCRIPTIONS = Threshold(warn=0.85, bad=0.95)
SYSTEMS = Threshold(warn=0.8, bad=0.95)
_BLOCK = 500


def measure(data: AuditData) -> list[Finding]:
    """95th percentile of the cosine (TF-IDF of words) of a text with its nearest text of another instruction."""
    descriptions: dict[str, list[tuple[str, str]]] = {}
    for row in data.rows:
        for entry in row.entries or ():
            descriptions.setdefault(entry.dimension, []).append((row.cluster, entry.description))
    systems = [(row.cluster, row.system) for row in data.rows if row.system is not None]
    return [
        _neighbours("similar_descriptions", "Descriptions alike, 95th percentile", list(descriptions.values()), DESCRIPTIONS),
        _neighbours("similar_systems", "System messages alike, 95th percentile", [systems], SYSTEMS),
    ]  # fmt: skip


def _neighbours(name: str, title: str, groups: Sequence[Sequence[tuple[str, str]]], threshold: Threshold) -> Finding:
    clusters: list[str] = []
    values: list[float] = []
    pairs: list[tuple[float, str, str]] = []
    available = 0
    for group in groups:
        texts = [(cluster, text) for cluster, text in group if word_tokens(text)]
        available += len(texts)
        if len({cluster for cluster, _ in texts}) < 2:
            continue
        generator = np.random.default_rng(SEED)
        if len(texts) > MOST_TEXTS:
            texts = [texts[i] for i in np.sort(generator.choice(len(texts), MOST_TEXTS, replace=False))]
        nearest, partners = _nearest(texts)
        for position, (cluster, text) in enumerate(texts):
            clusters.append(cluster)
            values.append(float(nearest[position]))
            pairs.append((float(nearest[position]), text, texts[int(partners[position])][1]))
    if not values:
        return not_applicable(name, title, "fewer than two instructions have such texts")
    pairs.sort(key=lambda item: -item[0])
    return finding(
        name,
        title,
        quantile_interval(values, clusters, TAIL),
        len(values),
        "texts",
        threshold,
        note=f"{len(values):,} of {available:,} texts compared with each other" if len(values) < available else "",
        examples=[f"{cosine:.2f}: {left[:110]} | {right[:110]}" for cosine, left, right in pairs[::2]],
    )


def _nearest(texts: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """(cosine of each text with its nearest of another cluster, that one's position)."""
    vectors = TfidfVectorizer(analyzer=word_tokens, sublinear_tf=True, dtype=np.float32).fit_transform(
        [text for _, text in texts]
    )
    known: dict[str, int] = {}
    codes = np.array([known.setdefault(cluster, len(known)) for cluster, _ in texts])
    nearest, partners = np.empty(len(texts)), np.empty(len(texts), dtype=np.int64)
    for start in range(0, len(texts), _BLOCK):
        stop = min(start + _BLOCK, len(texts))
        cosines = (vectors[start:stop] @ vectors.T).toarray()
        cosines[codes[start:stop, None] == codes[None, :]] = -1.0
        partners[start:stop] = cosines.argmax(axis=1)
        nearest[start:stop] = cosines.max(axis=1)
    return np.clip(nearest, 0.0, 1.0), partners
