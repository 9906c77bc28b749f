"""How good the best of n answers is, computed from more answers than n."""

from collections.abc import Sequence
from math import comb


def expected_best(scores: Sequence[float], n: int) -> float:
    """The mean, over all ways to draw n of the scores without putting any back, of the highest one drawn.

    With the scores sorted upwards as s_1 … s_m it is the sum over i from n to m of C(i-1, n-1) / C(m, n) · s_i: in that share of
    the draws s_i is the highest. The estimate of the best of n fresh answers has no bias, and uses every answer
    (the same sum gives pass@k in Chen et al. 2021, arXiv 2107.03374). Of fewer scores than n the highest is taken.

    Raises ValueError for no score, or n below 1.
    """
    if not scores or n < 1:
        raise ValueError(f"the best of {n} of {len(scores)} scores is nothing; give one score at least, and n from 1")
    ordered = sorted(scores)
    m = len(ordered)
    n = min(n, m)
    ways = comb(m, n)
    return sum(comb(i - 1, n - 1) / ways * ordered[i - 1] for i in range(n, m + 1))
