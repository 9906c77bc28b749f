"""How different texts are from each other: distinct n-grams, and ROUGE-L between all pairs."""

from collections.abc import Sequence
from itertools import combinations, pairwise

from shared.domain.prose import words
from shared.domain.similarity import rouge_l


def distinct_n(texts: Sequence[str], n: int) -> float | None:
    """Distinct word n-grams by all n-grams of the texts together, 0 to 1 (Li et al. 2016, arXiv 1510.03055); None where no text
    has one. Raises ValueError for n below 1."""
    if n < 1:
        raise ValueError(f"n is {n}: an n-gram has one word at least")
    grams = [gram for text in texts for gram in _grams(words(text.lower()), n)]
    return len(set(grams)) / len(grams) if grams else None


def mean_pairwise_rouge_l(texts: Sequence[str]) -> float | None:
    """Mean ROUGE-L over all pairs of texts, 0 to 1: the higher, the more alike they are; None for fewer than two texts."""
    found = [rouge_l(first, second) for first, second in combinations(texts, 2)]
    return sum(found) / len(found) if found else None


def _grams(found: Sequence[str], n: int) -> list[tuple[str, ...]]:
    if n == 2:
        return list(pairwise(found))
    return [tuple(found[start : start + n]) for start in range(len(found) - n + 1)]
