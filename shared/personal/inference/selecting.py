"""A sparse model of choices: which columns of evidence are needed to explain them, one after the other, and how much each weighs.

The model is Bradley and Terry's (1952) in the form of a logistic regression without intercept: the chosen answer is chosen with
probability 1 / (1 + exp(-x·b)), x being what differs between the answers. Columns enter one at a time. One enters if its score
under the model so far is larger than chance explains, over all columns at once: the signs of the scores' contributions are
flipped at random by prompt (Hemerik, Goeman and Finos 2020, "Robust testing in generalized linear models by sign flipping score
contributions", JRSS B 82), and its score must exceed the largest score of any column in all but 1% of the flips (Westfall and
Young 1993). For the first column that is exact: choices made by chance let something in at most in one of 100 data sets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from shared.statistics.intervals import Codes, Numbers

Flags: TypeAlias = npt.NDArray[np.bool_]

LEVEL = 0.01
FLIPS = 999
LEAST_INFORMATIVE = 5
"""Prompts in which a column must differ from 0 to be looked at."""
STRENGTH = 10.0
"""Inverse of the ridge penalty on weights: it keeps them finite where a column explains every choice."""


@dataclass(frozen=True)
class Selected:
    """A column that entered, and the share of flips that reach its score."""

    column: int
    chance: float


def select(
    evidence: Numbers,
    groups: Codes,
    excludes: Callable[[int], Flags],
    most: int,
    seed: int,
) -> list[Selected]:
    """The columns that explain the choices, in the order in which they entered, at most `most`.

    `evidence`: choices x columns; `groups`: the prompt of each choice; `excludes(column)`: for each column, whether it cannot
    stand beside that one (itself included).
    """
    generator = np.random.default_rng(seed)
    names, codes = np.unique(groups, return_inverse=True)
    open_columns = _informative(evidence, codes, len(names)) >= LEAST_INFORMATIVE
    chosen: list[Selected] = []
    while len(chosen) < most and open_columns.any():
        columns = np.flatnonzero(open_columns)
        scores = _scores(evidence, [one.column for one in chosen], columns, codes, len(names))
        spread = np.sqrt((scores**2).sum(axis=0))
        usable = spread > 1e-9
        if not usable.any():
            break
        columns, scores = columns[usable], scores[:, usable] / spread[usable]
        observed = scores.sum(axis=0)
        best = int(np.argmax(observed > observed.max() - 1e-9))
        signs = generator.integers(2, size=(FLIPS, len(names))) * 2.0 - 1.0
        largest = (signs @ scores).max(axis=1)
        chance = (1 + int((largest >= observed[best] - 1e-9).sum())) / (FLIPS + 1)
        if observed[best] <= 0 or chance > LEVEL:
            break
        chosen.append(Selected(int(columns[best]), chance))
        open_columns &= ~excludes(int(columns[best]))
    return chosen


def weights_of(evidence: Numbers) -> Numbers:
    """The weights of the columns of `evidence`, fitted with a ridge penalty."""
    if not evidence.shape[1]:
        return np.zeros(0)
    from sklearn.linear_model import LogisticRegression  # see `inferring`: heavy, and seldom needed

    mirrored = np.concatenate([evidence, -evidence])
    outcomes = np.repeat([1, 0], len(evidence))
    model = LogisticRegression(C=STRENGTH, fit_intercept=False, solver="newton-cholesky")
    fitted: Numbers = model.fit(mirrored, outcomes).coef_[0]
    return fitted


def _informative(evidence: Numbers, codes: Codes, count: int) -> Codes:
    """For each column, in how many prompts it differs from 0."""
    seen = np.zeros((count, evidence.shape[1]), dtype=bool)
    np.logical_or.at(seen, codes, evidence != 0)
    informative: Codes = seen.sum(axis=0, dtype=np.int64)
    return informative


def _scores(evidence: Numbers, entered: Sequence[int], columns: Codes, codes: Codes, count: int) -> Numbers:
    """What each prompt contributes to the score of each column, given the columns that entered: prompts x columns.

    What a column shares with those that entered is taken out (the effective score), so that it counts for what it adds.
    """
    candidates = evidence[:, columns]
    if entered:
        known = evidence[:, list(entered)]
        explained = 1 / (1 + np.exp(-known @ weights_of(known)))
        variance = explained * (1 - explained)
        information = known.T @ (known * variance[:, None]) + np.eye(len(entered)) * 1e-9
        candidates = candidates - known @ np.linalg.solve(information, (known * variance[:, None]).T @ candidates)
        contributions = candidates * (1 - explained)[:, None]
    else:
        contributions = candidates * 0.5
    sums = np.zeros((count, len(columns)))
    np.add.at(sums, codes, contributions)
    return sums
