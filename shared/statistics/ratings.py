"""Bradley-Terry ratings of models from battles, as Arena-Hard Auto v0.1 and Chatbot Arena compute them.

P(first wins) = logistic(strength first - strength second); ties count as half a win for each side; strong verdicts count thrice
(`Battle.weight`; Li et al. 2024, arXiv 2406.11939, section 4). Ratings are 1000 + strength x 400 / ln 10, so that 400 points
are odds of ten to one. Under style control differences of style between the two answers are further terms (the Arena's "Does
style matter?", 2024): each (a - b) / (a + b + 1), divided by its deviation, so that a rating is what is left when the style is
alike. A win rate under style control is that at equal style.

Finite ratings fit best only where every model can be reached from every other by steps to one that it beat or drew with (Ford
1957); `determined` says whether that is so. Where it is not, a weak penalty on squared strengths keeps them finite, and how far
apart they stand says how many battles there were, not how strong a model is; `separated` names models that won or lost all.

The released code draws single battles, the copies of a strong verdict apart, and takes percentiles of 100 draws as here;
here whole instructions are drawn, because all battles of one instruction move together, or single battles where `over` says so.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from shared.statistics.bootstrap import cluster_draws, percentile_interval
from shared.statistics.intervals import LEVEL, SEED, Codes, Interval, Numbers, cluster_codes
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
    never met, directly or through others, so that their ratings cannot be compared. `determined`: finite ratings fit best."""

    models: tuple[ModelRating, ...]
    style: dict[str, Interval]
    battles: int
    missing: int
    separated: tuple[str, ...]
    unconnected: bool
    determined: bool


def bradley_terry(
    battles: Sequence[Battle],
    *,
    rounds: int = BOOTSTRAP_ROUNDS,
    level: float = LEVEL,
    seed: int = SEED,
    style: bool = False,
    anchor: str | None = None,
    anchor_rating: float = BASE,
    over: Literal["instructions", "battles"] = "instructions",
) -> Ratings:
    """Ratings of all models with intervals by bootstrap over instructions (whole instructions are drawn), or over battles.

    `style` controls for length (`first_words`, `second_words`) and the battles' further features of style; `anchor` is given
    `anchor_rating`, and without one the mean of all models is 1000. Without a verdict nobody is rated. Raises ValueError for an
    anchor without a verdict where others have some, and for battles with different numbers of style features.
    """
    judged = [battle for battle in battles if battle.outcome is not None]
    models = sorted({name for battle in judged for name in (battle.first, battle.second)})
    if not judged:
        return Ratings((), {}, 0, len(battles), (), unconnected=False, determined=False)
    if anchor is not None and anchor not in models:
        raise ValueError(f"the anchor {anchor!r} has no battle with a verdict; the models: {', '.join(models)}")
    place = {model: number for number, model in enumerate(models)}
    styles = _style_features(judged) if style else np.zeros((len(judged), 0))
    codes, clusters = cluster_codes(
        [battle.instruction for battle in judged] if over == "instructions" else range(len(judged))
    )
    first = np.array([place[battle.first] for battle in judged])
    second = np.array([place[battle.second] for battle in judged])
    outcomes = np.array([battle.outcome for battle in judged], dtype=np.float64)
    weights = np.array([battle.weight for battle in judged], dtype=np.float64)
    grouped = _Grouped(first, second, outcomes, styles, len(models))

    def strengths(counts: Numbers, start: Numbers | None) -> Numbers:
        return grouped.fit(counts * weights, start)

    size = len(models)
    fitted = strengths(np.ones(len(judged)), None)
    fits, present = [fitted], [np.ones(size, dtype=bool)]
    for draws in cluster_draws(clusters, rounds, seed):
        for counts in draws:
            drawn_battles = counts[codes]
            fits.append(strengths(drawn_battles, fitted))
            present.append(np.bincount(first, drawn_battles, size) + np.bincount(second, drawn_battles, size) > 0)
    relative = _relative(np.array(fits)[:, :size], np.array(present), None if anchor is None else place[anchor])
    coefficients = np.array(fits)[:, size:]
    ratings = (BASE if anchor is None else anchor_rating) + SCALE * relative
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
            name: percentile_interval(float(coefficients[0, at]), coefficients[1:, at], clusters, level)
            for at, name in enumerate(names[: styles.shape[1]])
        },
        battles=len(judged),
        missing=len(battles) - len(judged),
        separated=_separated(models, first, second, outcomes),
        unconnected=_parts(size, first, second) > 1,
        determined=_determined(size, first, second, outcomes),
    )


def _relative(strengths: Numbers, present: npt.NDArray[np.bool_], anchor: int | None) -> Numbers:
    """Strengths against the anchor's, or against the mean of all models: rounds x models, the first round that of all battles.

    A model without a battle in a round has no strength there. Where no anchor ties the rounds together the mean of the models
    that are present is held at what it is over all battles.
    """
    known = np.where(present, strengths, np.nan)
    if anchor is not None:
        return known - known[:, [anchor]]
    overall = strengths[0] - strengths[0].mean()
    shift = (np.where(present, strengths - overall, 0.0).sum(axis=1) / present.sum(axis=1))[:, None]
    relative: Numbers = known - shift
    return relative


class _Pairs:
    """Rows with 1 for the first model, -1 for the second, and their difference of style: never written out, since sums by model
    and by pair of models are all that a fit needs of them."""

    def __init__(self, first: Codes, second: Codes, styles: Numbers, models: int) -> None:
        self._first, self._second, self._styles, self._models = first, second, np.ascontiguousarray(styles), models
        self._pairs = first * models + second

    @property
    def coefficients(self) -> int:
        return self._models + int(self._styles.shape[1])

    def logits(self, coefficients: Numbers) -> Numbers:
        strengths = coefficients[: self._models]
        found: Numbers = strengths[self._first] - strengths[self._second] + self._styles @ coefficients[self._models :]
        return found

    def sums(self, of_rows: Numbers) -> Numbers:
        return np.concatenate([self._by_model(of_rows), self._styles.T @ of_rows])

    def curvature(self, of_rows: Numbers) -> Numbers:
        met = np.bincount(self._pairs, of_rows, self._models**2).reshape(self._models, self._models)
        met = met + met.T
        strengths = np.diag(met.sum(axis=1)) - met
        weighted = self._styles * of_rows[:, None]
        across = np.array([self._by_model(column) for column in weighted.T]).reshape(-1, self._models)
        return np.block([[strengths, across.T], [across, weighted.T @ self._styles]])

    def _by_model(self, of_rows: Numbers) -> Numbers:
        won: Numbers = np.bincount(self._first, of_rows, self._models).astype(np.float64)
        return won - np.bincount(self._second, of_rows, self._models)


class _Grouped:
    """Battles that differ in nothing but their number are one row: without style 50,000 battles are a few hundred."""

    def __init__(self, first: Codes, second: Codes, outcomes: Numbers, styles: Numbers, models: int) -> None:
        table = np.column_stack([first, second, outcomes, styles])
        rows, self._row_of = np.unique(table, axis=0, return_inverse=True)
        self._row_of = self._row_of.ravel()
        self._outcomes = rows[:, 2]
        self._design = _Pairs(rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64), rows[:, 3:], models)

    def fit(self, weights: Numbers, start: Numbers | None) -> Numbers:
        counts = np.bincount(self._row_of, weights, minlength=len(self._outcomes)).astype(np.float64)
        return fit_logistic(self._design, self._outcomes, counts, PENALTY, start)


def _style_features(battles: Sequence[Battle]) -> Numbers:
    """n x features: (first - second) / (first + second + 1), each divided by its deviation about 0."""
    lengths = {len(style) for battle in battles for style in (battle.first_style, battle.second_style)}
    if len(lengths) > 1:
        raise ValueError(f"battles have {sorted(lengths)} features of style: give the same ones for all, or none")
    first = np.array([(float(battle.first_words), *battle.first_style) for battle in battles])
    second = np.array([(float(battle.second_words), *battle.second_style) for battle in battles])
    found = (first - second) / (first + second + 1)
    spread = np.sqrt((found**2).mean(axis=0))
    standardised: Numbers = np.divide(found, spread, out=np.zeros_like(found), where=spread != 0)
    return standardised


def _separated(models: Sequence[str], first: Codes, second: Codes, outcomes: Numbers) -> tuple[str, ...]:
    found = []
    for number, model in enumerate(models):
        own = np.concatenate([outcomes[first == number], 1 - outcomes[second == number]])
        if len(own) and (own.min() == 1.0 or own.max() == 0.0):
            found.append(model)
    return tuple(found)


def _parts(models: int, first: Codes, second: Codes) -> int:
    graph = sparse.coo_matrix((np.ones(len(first)), (first, second)), shape=(models, models))
    return int(connected_components(graph, directed=False)[0])


def _determined(models: int, first: Codes, second: Codes, outcomes: Numbers) -> bool:
    """Ford's condition: along battles that were not lost, each model leads to each other."""
    won, lost = outcomes > 0, outcomes < 1
    winners, losers = np.concatenate([first[won], second[lost]]), np.concatenate([second[won], first[lost]])
    graph = sparse.coo_matrix((np.ones(len(winners)), (winners, losers)), shape=(models, models))
    return int(connected_components(graph, directed=True, connection="strong")[0]) == 1
