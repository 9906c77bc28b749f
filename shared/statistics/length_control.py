"""Length-controlled win rate: what a judge would prefer if both answers were equally long.

The model is AlpacaEval 2.0's (Dubois et al. 2024, "Length-Controlled AlpacaEval", arXiv 2404.04475, section 3):

    P(first preferred on x) = logistic(theta + phi tanh((len first - len second) / sd) + psi difficulty(x))

theta is the model term, phi the length term (sd: standard deviation of the length differences over the pairs), psi the term of
the instruction's difficulty, where one is given. It is fitted to the preferences, which may lie between 0 and 1, by regularised
maximum likelihood; the rate is the mean prediction over all pairs with the length term set to 0. Comparing two models the other
way round gives 1 minus the rate, and a model compared with itself one half.

What the released code (alpaca_eval, `length_controlled_v1`) does otherwise:

- it knows the difficulty of its own 805 instructions, fitted over all models of its leaderboard beforehand and kept fixed; here a
  difficulty is given for each instruction, or the term is left out;
- its penalty is L1, its strength found by cross validation; here it is L2, weak and fixed (`PENALTY`);
- it adds, with a fifth of the weight, comparisons of the baseline with wordy and terse versions of itself, which tie the length
  term to what length does to one and the same model; here the pairs of the two models alone are fitted;
- lengths are characters there, words here, and sd is taken about the mean there, about 0 here, which is what makes it symmetric.

So the two agree in what they ask, not in decimals. What data cannot tell is said in the method: where the difference of the
lengths is the same in every pair, length and model cannot be told apart, and there is no estimate (`length_confounded`). Where
length and model tell every verdict, as with a judge who always takes the longer answer, many rates fit equally well: penalties
then leave to length what length can explain, and the estimate has no interval (`length_separated`).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import expit

from shared.statistics.bootstrap import ROUNDS, cluster_draws, percentile_interval
from shared.statistics.intervals import LEVEL, SEED, Interval, Numbers, cluster_codes
from shared.statistics.logistic import Matrix, fit_logistic
from shared.statistics.pairwise import Battle, pair_outcomes

PENALTY, LENGTH_PENALTY = 1e-2, 1e-5
"""Of the squared coefficients, beside a likelihood summed over pairs: they matter only where something tells every verdict."""


def length_controlled_win_rate(
    battles: Sequence[Battle],
    *,
    difficulties: Mapping[str, float] | None = None,
    rounds: int = ROUNDS,
    level: float = LEVEL,
    seed: int = SEED,
) -> Interval:
    """The first model's win rate (0 to 1) of one ordered pair of models at equal lengths, with its interval over instructions.

    `battles` need `first_words` and `second_words`; `difficulties` is a number per instruction (the higher, the better for the
    first model), centred here. Where the lengths never differ the rate is that of the same model without its length term.
    `rounds` are of the bootstrap, which fits the model anew to whole instructions drawn with replacement.
    Raises ValueError where an instruction has no difficulty though others have.
    """
    pairs = pair_outcomes(battles)
    if not pairs:
        return Interval(None, None, None, level, 0, "nothing")
    outcomes = np.array([pair.outcome for pair in pairs])
    features = [
        np.ones(len(pairs)),
        _lengths(np.array([pair.first_words - pair.second_words for pair in pairs], float)),
    ]
    if difficulties is not None:
        features.append(_difficulty([pair.instruction for pair in pairs], difficulties))
    matrix = np.stack(features, axis=1)
    if matrix[0, 1] and np.ptp(matrix[:, 1]) <= _ROUNDING:
        return Interval(None, None, None, level, len({pair.instruction for pair in pairs}), "length_confounded")
    equal = matrix.copy()
    equal[:, 1] = 0.0
    codes, clusters = cluster_codes([pair.instruction for pair in pairs])

    design = Matrix(matrix)
    penalties = np.full(matrix.shape[1], PENALTY)
    penalties[1] = LENGTH_PENALTY

    def rate(weights: Numbers, start: Numbers | None) -> tuple[float, Numbers]:
        found = fit_logistic(design, outcomes, weights, penalties, start)
        return float((expit(equal @ found) * weights).sum() / weights.sum()), found

    estimate, fitted = rate(np.ones(len(pairs)), None)
    if np.isin(outcomes, (0.0, 1.0)).all() and np.abs(expit(matrix @ fitted) - outcomes).max() < 0.5:
        return Interval(estimate, None, None, level, clusters, "length_separated")
    drawn = [rate(counts[codes], fitted)[0] for draws in cluster_draws(clusters, rounds, seed) for counts in draws]
    return percentile_interval(estimate, np.array(drawn), clusters, level)


_ROUNDING = 1e-12


def _lengths(differences: Numbers) -> Numbers:
    """tanh of the standardised differences. The deviation is taken about 0, so that swapping the models changes signs alone."""
    spread = float(np.sqrt((differences**2).mean()))
    return np.tanh(differences / spread) if spread else np.zeros(len(differences))


def _difficulty(instructions: Sequence[str], difficulties: Mapping[str, float]) -> Numbers:
    missing = [name for name in instructions if name not in difficulties]
    if missing:
        raise ValueError(
            f"{len(missing)} instructions have no difficulty, such as {missing[0]!r}: give one for each, or none at all"
        )
    found = np.array([difficulties[name] for name in instructions], dtype=np.float64)
    centred: Numbers = found - found.mean()
    return centred
