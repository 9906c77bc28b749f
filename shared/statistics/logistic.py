"""Regularised logistic regression on outcomes between 0 and 1, by Newton's method, which can start where it last ended.

scikit-learn's takes classes alone: a preference of 0.7 would have to be given as two weighted rows, and each of a thousand
resamples would begin anew.
"""

import numpy as np
from scipy.special import expit

from shared.statistics.intervals import Numbers

_STEPS = 50
_CLOSE = 1e-9
_HALVINGS = 40
_ROUNDING = 1e-13


def fit_logistic(
    features: Numbers, outcomes: Numbers, weights: Numbers, penalty: float | Numbers, start: Numbers | None = None
) -> Numbers:
    """Coefficients that maximise the weighted log-likelihood minus penalty / 2 times their squares; k penalties, or one for all.

    `features`: n x k; `outcomes`: n shares from 0 to 1; `weights`: n numbers, not negative; `start`: k coefficients to begin at.
    Newton's method (iteratively reweighted least squares), a step being halved until it loses nothing; a penalty above 0 keeps
    the coefficients of separable data finite.
    """
    found = np.zeros(features.shape[1]) if start is None else start.copy()
    kept = weights > 0
    features, outcomes, weights = features[kept], outcomes[kept], weights[kept]

    def gained(coefficients: Numbers, logits: Numbers) -> float:
        likelihood = weights @ (outcomes * logits - np.logaddexp(0.0, logits))
        return float(likelihood - (penalty * coefficients) @ coefficients / 2)

    logits = features @ found
    reached = gained(found, logits)
    for _ in range(_STEPS):
        predicted = expit(logits)
        gradient = features.T @ (weights * (outcomes - predicted)) - penalty * found
        curvature = (features * (weights * predicted * (1 - predicted))[:, None]).T @ features
        step = np.linalg.solve(curvature + np.diag(np.broadcast_to(penalty, found.shape)), gradient)
        for _ in range(_HALVINGS):
            nearer = features @ (found + step)
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
