"""Bradley-Terry ratings of models from battles, as Arena-Hard Auto v0.1 and Chatbot Arena compute them.

P(first wins) = logistic(strength first - strength second); ties count as half a win for each side; strong verdicts count thrice
(`Battle.weight`; Li et al. 2024, arXiv 2406.11939, section 4). Ratings are 1000 + strength x 400 / ln 10, so that 400 points
are odds of ten to one. Under style control differences of style between the two answers are further terms (the Arena's "Does
style matter?", 2024): each (a - b) / (a + b), standardised, so that a rating is what is left when the style is alike.

A model that wins, or loses, all of its battles has no finite strength; a weak penalty on squared strengths keeps its rating
finite, and `separated` names it.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from scipy.special import expit

from shared.statistics.bootstrap import cluster_draws, percentile_interval
from shared.statistics.intervals import LEVEL, SEED, Interval, Numbers
from shared.statistics.logistic import fit_logistic
from shared.statistics.pairwise import Battle

BOOTSTRAP_ROUNDS = 100
SCALE = 400 / float(np.log(10))
BASE = 1000.0
PENALTY = 1e-4
STYLE_FEATURES = ("length",)


class ModelRating(msgspec.Struct, frozen=True):
    """`rating` with its interval; `win_rate`: its chance against the anchor by the ratings (0 to 1), None without an anchor.
    `battles` counts verdicts, each once."""

    model: str
    rating: Interval
    win_rate: Interval | None
    battles: int


class Ratings(msgspec.Struct, frozen=True):
    """Strongest first. `style`: coefficient of each feature under style control, in logits per standard deviation. `missing`
    counts battles without a verdict, `separated` are models that won or lost all of theirs, `unconnected` says that some models
    never met, directly or through others, so that their ratings cannot be compared."""

    models: tuple[ModelRating, ...]
    style: dict[str, Interval]
    battles: int
    missing: int
    separated: tuple[str, ...]
    unconnected: bool


def bradley_terry(
    battles: Sequence[Battle],
    *,
    rounds: int = BOOTSTRAP_ROUNDS,
    level: float = LEVEL,
    seed: int = SEED,
    style: bool = False,
    anchor: str | None = None,
    anchor_rating: float = BASE,
) -> Ratings:
    """Ratings of all models with intervals by bootstrap over instructions (whole instructions are drawn).

    `style` controls for length (`first_words`, `second_words`) and the battles' further features of style; `anchor` is given
    `anchor_rating`, and without one the mean of all models is 1000. Raises ValueError for an anchor that never battled, and for
    battles with different numbers of style features.
    """
    judged = [battle for battle in battles if battle.outcome is not None]
    models = sorted({name for battle in judged for name in (battle.first, battle.second)})
    if anchor is not None and anchor not in models:
        raise ValueError(
            f"the anchor {anchor!r} has no battle with a verdict; the models: {', '.join(models) or 'none'}"
        )
    if not judged:
        return Ratings((), {}, 0, len(battles), (), unconnected=False)
    place = {model: number for number, model in enumerate(models)}
    styles = _style_features(judged) if style else np.zeros((len(judged), 0))
    instructions = {name: number for number, name in enumerate(dict.fromkeys(one.instruction for one in judged))}
    codes = np.array([instructions[battle.instruction] for battle in judged])
    first = np.array([place[battle.first] for battle in judged])
    second = np.array([place[battle.second] for battle in judged])
    outcomes = np.array([battle.outcome for battle in judged], dtype=np.float64)
    weights = np.array([battle.weight for battle in judged], dtype=np.float64)
    grouped = _Grouped(first, second, outcomes, styles, len(models))

    def strengths(counts: Numbers, start: Numbers | None) -> Numbers:
        return grouped.fit(counts * weights, start)

    fitted = strengths(np.ones(len(judged)), None)
    drawn = np.array(
        [
            strengths(counts[codes], fitted)
            for draws in cluster_draws(len(instructions), rounds, seed)
            for counts in draws
        ]
    )
    everything = np.vstack([fitted, drawn])
    size = len(models)
    centre = everything[:, :size].mean(axis=1) if anchor is None else everything[:, place[anchor]]
    relative = everything[:, :size] - centre[:, None]
    ratings = (BASE if anchor is None else anchor_rating) + SCALE * relative
    clusters = len(instructions)
    counted = Counter(name for battle in judged for name in (battle.first, battle.second))
    rated = []
    for model, number in place.items():
        chance = expit(relative[:, number]) if anchor is not None else None
        rated.append(
            ModelRating(
                model,
                percentile_interval(float(ratings[0, number]), ratings[1:, number], clusters, level),
                None if chance is None else percentile_interval(float(chance[0]), chance[1:], clusters, level),
                counted[model],
            )
        )
    names = (*STYLE_FEATURES, *(f"style_{number}" for number in range(1, styles.shape[1])))
    return Ratings(
        models=tuple(sorted(rated, key=lambda one: (-(one.rating.estimate or 0.0), one.model))),
        style={
            name: percentile_interval(float(fitted[size + at]), drawn[:, size + at], clusters, level)
            for at, name in enumerate(names[: styles.shape[1]])
        },
        battles=len(judged),
        missing=len(battles) - len(judged),
        separated=_separated(models, first, second, outcomes),
        unconnected=_parts(size, first, second) > 1,
    )


class _Grouped:
    """Battles that differ in nothing but their number are one row: without style 50,000 battles are a few hundred."""

    def __init__(self, first: Numbers, second: Numbers, outcomes: Numbers, styles: Numbers, models: int) -> None:
        table = np.column_stack([first, second, outcomes, styles])
        rows, self._row_of = np.unique(table, axis=0, return_inverse=True)
        self._row_of = self._row_of.ravel()
        self._outcomes = rows[:, 2]
        design = np.zeros((len(rows), models + styles.shape[1]))
        at = np.arange(len(rows))
        design[at, rows[:, 0].astype(int)] += 1.0
        design[at, rows[:, 1].astype(int)] -= 1.0
        design[:, models:] = rows[:, 3:]
        self._design = design

    def fit(self, weights: Numbers, start: Numbers | None) -> Numbers:
        counts = np.bincount(self._row_of, weights, minlength=len(self._outcomes)).astype(np.float64)
        return fit_logistic(self._design, self._outcomes, counts, PENALTY, start)


def _style_features(battles: Sequence[Battle]) -> Numbers:
    """n x features: (first - second) / (first + second), each divided by its deviation about 0."""
    lengths = {len(style) for battle in battles for style in (battle.first_style, battle.second_style)}
    if len(lengths) > 1:
        raise ValueError(f"battles have {sorted(lengths)} features of style: give the same ones for all, or none")
    first = np.array([(float(battle.first_words), *battle.first_style) for battle in battles])
    second = np.array([(float(battle.second_words), *battle.second_style) for battle in battles])
    total = first + second
    found = np.divide(first - second, total, out=np.zeros_like(total), where=total != 0)
    spread = np.sqrt((found**2).mean(axis=0))
    standardised: Numbers = np.divide(found, spread, out=np.zeros_like(found), where=spread != 0)
    return standardised


def _separated(models: Sequence[str], first: Numbers, second: Numbers, outcomes: Numbers) -> tuple[str, ...]:
    found = []
    for number, model in enumerate(models):
        own = np.concatenate([outcomes[first == number], 1 - outcomes[second == number]])
        if len(own) and (own.min() == 1.0 or own.max() == 0.0):
            found.append(model)
    return tuple(found)


def _parts(models: int, first: Numbers, second: Numbers) -> int:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(first)), (first, second)), shape=(models, models))
    return int(connected_components(graph, directed=False)[0])
