"""Shortcuts that a model could learn instead of the system message, each as the accuracy of a rule that cannot see it.

Accuracies are cross-fitted: an observation is judged by a rule that was learnt from other instructions only, and their
intervals have the instructions as clusters.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from shared.domain.similarity import word_tokens
from shared.statistics.intervals import LEVEL, SEED, Clusters, Codes, Interval, cluster_codes, cluster_mean_interval

MOST_OBSERVATIONS = 20_000
"""Of more, whole instructions are drawn until there are so many."""
READ_CHARACTERS = 4000
"""Longer answers are read by their beginning."""
FEWEST_INSTRUCTIONS = 10
"""Fewer can neither teach a rule nor test it."""
FOLDS = 5

_WORD_FEATURES = 2**15
_REGULARISATION = 0.3


class ShortcutAccuracy(msgspec.Struct, frozen=True):
    """`accuracy` from 0 to 1 with its interval, `chance` what a rule without the shortcut gets, and `gain` of one over the
    other; `observations` judged, of `available`. The intervals are None with method `too_few_instructions` below 10."""

    accuracy: Interval
    gain: Interval
    chance: float | None
    observations: int
    available: int


def blind_accuracy(
    chosen: Sequence[str],
    rejected: Sequence[str],
    instructions: Clusters,
    *,
    level: float = LEVEL,
    most: int = MOST_OBSERVATIONS,
    seed: int = SEED,
) -> ShortcutAccuracy:
    """How often a classifier tells the chosen from the rejected answer without seeing the system message.

    Logistic regression on the difference of two answers: which words stand in them (hashed) and the logarithm of their
    numbers of words and characters. The two are shown in a seeded order and the model has no intercept, so swapping them
    swaps the verdict; a verdict of exactly 0 counts one half. Chance is 1/2, which pairs in both orders give by
    construction. Raises ValueError for lists of different lengths.
    """
    if not len(chosen) == len(rejected) == len(instructions):
        raise ValueError(
            f"{len(chosen)} chosen, {len(rejected)} rejected and {len(instructions)} instructions: they come in threes"
        )
    codes, count = cluster_codes(instructions)
    if count < FEWEST_INSTRUCTIONS:
        return _too_few(0.5, len(chosen), count, level)
    generator = np.random.default_rng(seed)
    kept = sampled_observations(codes, count, most, generator)
    signs = generator.choice((-1.0, 1.0), size=len(kept))
    features = sparse.diags_array(signs) @ _differences([chosen[i] for i in kept], [rejected[i] for i in kept])
    correct = np.empty(len(kept))
    for training, testing in _folds(codes[kept], generator):
        if len(set(signs[training])) < 2:
            correct[testing] = 0.5
            continue
        model = LogisticRegression(C=_REGULARISATION, fit_intercept=False, solver="liblinear", max_iter=200)
        verdicts = model.fit(features[training], signs[training]).decision_function(features[testing])
        correct[testing] = np.where(verdicts == 0, 0.5, (verdicts > 0) == (signs[testing] > 0))
    owners = codes[kept]
    return ShortcutAccuracy(
        accuracy=cluster_mean_interval(correct, owners, level=level),
        gain=cluster_mean_interval(correct - 0.5, owners, level=level),
        chance=0.5,
        observations=len(kept),
        available=len(chosen),
    )


def position_accuracy(
    sets: Sequence[Sequence[str]],
    instructions: Clusters,
    *,
    level: float = LEVEL,
    most: int = MOST_OBSERVATIONS,
    seed: int = SEED,
) -> ShortcutAccuracy:
    """How often the position of an entry in its preference set tells the entry's dimension.

    `sets[i]` are the dimensions of a set in order. The rule is the commonest dimension at that position in other
    instructions; chance is that of the commonest dimension wherever it stands, learnt alike. Observations are entries.
    Raises ValueError for lists of different lengths.
    """
    if len(sets) != len(instructions):
        raise ValueError(f"{len(sets)} sets and {len(instructions)} instructions: each set belongs to one")
    codes, count = cluster_codes(instructions)
    available = sum(map(len, sets))
    if count < FEWEST_INSTRUCTIONS:
        return _too_few(None, available, count, level)
    generator = np.random.default_rng(seed)
    kept = sampled_observations(codes, count, most, generator)
    with_position: list[float] = []
    without: list[float] = []
    owners: list[Hashable] = []
    for training, testing in _folds(codes[kept], generator):
        rules: dict[int, Counter[str]] = {}
        anywhere: Counter[str] = Counter()
        for index in kept[training].tolist():
            anywhere.update(sets[index])
            for position, dimension in enumerate(sets[index]):
                rules.setdefault(position, Counter())[dimension] += 1
        default = _commonest(anywhere)
        best = {position: _commonest(counts) for position, counts in rules.items()}
        for index in kept[testing].tolist():
            for position, dimension in enumerate(sets[index]):
                with_position.append(float(best.get(position, default) == dimension))
                without.append(float(default == dimension))
                owners.append(int(codes[index]))
    gains = [own - other for own, other in zip(with_position, without, strict=True)]
    return ShortcutAccuracy(
        accuracy=cluster_mean_interval(with_position, owners, level=level),
        gain=cluster_mean_interval(gains, owners, level=level),
        chance=sum(without) / len(without) if without else None,
        observations=len(with_position),
        available=available,
    )


def sampled_observations(codes: Codes, count: int, most: int, generator: np.random.Generator) -> Codes:
    """Positions of all observations of clusters drawn at random until there are `most`; all of them where there are
    fewer."""
    if len(codes) <= most:
        return np.arange(len(codes), dtype=np.int64)
    order = generator.permutation(count)
    filled = np.cumsum(np.bincount(codes, minlength=count)[order])
    taken = order[: int(np.searchsorted(filled, most)) + 1]
    chosen: Codes = np.flatnonzero(np.isin(codes, taken)).astype(np.int64)
    return chosen


def _folds(codes: Codes, generator: np.random.Generator) -> list[tuple[Codes, Codes]]:
    """(training, testing) positions, no cluster in both."""
    known, inverse = np.unique(codes, return_inverse=True)
    fold = (generator.permutation(len(known)) % FOLDS)[inverse]
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(FOLDS)]


def _differences(chosen: list[str], rejected: list[str]) -> sparse.csr_array:
    vectoriser = HashingVectorizer(
        analyzer=word_tokens, n_features=_WORD_FEATURES, alternate_sign=False, binary=True, norm=None
    )
    left, right = ([text[:READ_CHARACTERS] for text in texts] for texts in (chosen, rejected))
    words = sparse.csr_array(vectoriser.transform(left)) - sparse.csr_array(vectoriser.transform(right))
    scale = 1 / np.sqrt(np.maximum(np.abs(words).sum(axis=1), 1.0))
    lengths = _lengths(chosen) - _lengths(rejected)
    joined: sparse.csr_array = sparse.hstack([sparse.diags_array(scale) @ words, lengths], format="csr")
    return joined


def _lengths(texts: list[str]) -> npt.NDArray[np.float64]:
    """Logarithms of 1 + the number of words, and of characters; whole texts, n x 2."""
    return np.log1p(np.array([[len(text.split()), len(text)] for text in texts], dtype=np.float64).reshape(-1, 2))


def _commonest(counts: Counter[str]) -> str | None:
    # Of equally frequent ones the first by name: a rule must not depend on the order of the data.
    return min(counts, key=lambda name: (-counts[name], name), default=None)


def _too_few(chance: float | None, available: int, clusters: int, level: float) -> ShortcutAccuracy:
    nothing = Interval(None, None, None, level, clusters, "too_few_instructions")
    return ShortcutAccuracy(nothing, nothing, chance, 0, available)
