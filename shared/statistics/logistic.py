"""Regularised logistic regression on outcomes between 0 and 1, by Newton's method, which can start where it last ended.

scikit-learn's takes classes alone: a preference of 0.7 would have to be given as two weighted rows, and each of a thousand
resamples would begin anew.
"""

from typing import Protocol

import numpy as np
from scipy.special import expit

from shared.statistics.intervals import Numbers

_STEPS = 50
_CLOSE = 1e-9
_HALVINGS = 40
_ROUNDING = 1e-13


class Design(Protocol):
    """n rows of k features, by the products that a fit needs: who has more of a structure than zeros can compute them faster."""

    @property
    def coefficients(self) -> int:
        """k."""

    def logits(self, coefficients: Numbers) -> Numbers:
        """Features times k coefficients: n."""

    def sums(self, of_rows: Numbers) -> Numbers:
        """Transposed features times a number a row: k."""

    def curvature(self, of_rows: Numbers) -> Numbers:
        """Transposed features times a number a row times features: k x k."""


class Matrix:
    """A design written out, n x k."""

    def __init__(self, features: Numbers) -> None:
        self._features = features

    @property
    def coefficients(self) -> int:
        return int(self._features.shape[1])

    def logits(self, coefficients: Numbers) -> Numbers:
        return self._features @ coefficients

    def sums(self, of_rows: Numbers) -> Numbers:
        return self._features.T @ of_rows

    def curvature(self, of_rows: Numbers) -> Numbers:
        return (self._features * of_rows[:, None]).T @ self._features


def fit_logistic(
    design: Design, outcomes: Numbers, weights: Numbers, penalty: float | Numbers, start: Numbers | None = None
) -> Numbers:
    """Coefficients that maximise the weighted log-likelihood minus penalty / 2 times their squares; k penalties, or one for all.

    `design`: n x k; `outcomes`: n shares from 0 to 1; `weights`: n numbers, not negative; `start`: k coefficients to begin at.
    Newton's method (iteratively reweighted least squares), a step being halved until it loses nothing; a penalty above 0 keeps
    the coefficients of separable data finite.
    """
    found = np.zeros(design.coefficients) if start is None else start.copy()

    def gained(coefficients: Numbers, logits: Numbers) -> float:
        # log(1 + exp z), which numpy's logaddexp takes five times as long for.
        softplus = np.log1p(np.exp(-np.abs(logits))) + np.maximum(logits, 0.0)
        likelihood = (weights * (outcomes * logits - softplus)).sum()
        return float(likelihood - (penalty * coefficients**2).sum() / 2)

    logits = design.logits(found)
    reached = gained(found, logits)
    for _ in range(_STEPS):
        predicted = expit(logits)
        gradient = design.sums(weights * (outcomes - predicted)) - penalty * found
        curvature = design.curvature(weights * predicted * (1 - predicted))
        step = np.linalg.solve(curvature + np.diag(np.broadcast_to(penalty, found.shape)), gradient)
        for _ in range(_HALVINGS):
            nearer = design.logits(found + step)
            value = gained(found + step, nearer)
            if value >= reached - _ROUNDING * abs(reached):
                break
            step = step / 2
        else:
            break
        found, logits, reached = found + step, nearer, value
        if float(np.abs(step).max(initial=0.0)) < _CLOSE:
            break
    return found
