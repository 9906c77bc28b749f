"""Which instructions give a training example without a system message: their neutral answer.

Two stages ask: the one that makes the neutral answers, and the one that writes the examples. Both get the same answer.
"""

from shared.domain.identifiers import seed_of

_SEEDS = float(1 << 63)
"""`seed_of` gives whole numbers below this."""


def no_system_probability(facets: int, share: float) -> float:
    """Share of instructions with `facets` examples each that need one more, without a system message, so that `share` of all
    examples has none: n of N instructions give n / (n + N * facets) = share, so n / N = share * facets / (1 - share). At most
    1: an instruction has one neutral answer."""
    return min(1.0, share * facets / (1.0 - share))


def trains_without_system(row_id: str, facets: int, share: float, seed: int) -> bool:
    """Whether this instruction, with `facets` examples, also gives one without a system message. Drawn by the job's seed.

    Whoever is drawn with few facets is drawn with more, too: an instruction that lost facets on the way needs no neutral
    answer that it was not asked for before.
    """
    return seed_of(seed, "no_system", row_id) / _SEEDS < no_system_probability(facets, share)
