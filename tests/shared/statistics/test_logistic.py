"""Logistic regression on shares: the coefficients are where the gradient is 0, whatever the data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from shared.statistics.logistic import Matrix, fit_logistic


@settings(max_examples=150)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.floats(1e-5, 10))
def test_the_gradient_is_zero_also_where_the_data_are_separable(seed: int, separable: bool, penalty: float) -> None:
    generator = np.random.default_rng(seed)
    rows, columns = int(generator.integers(1, 60)), int(generator.integers(1, 5))
    features = generator.normal(size=(rows, columns)) * 10 ** generator.uniform(-2, 1)
    outcomes = (features @ generator.normal(size=columns) > 0).astype(float) if separable else generator.random(rows)
    weights = generator.integers(0, 4, size=rows).astype(float)
    found = fit_logistic(Matrix(features), outcomes, weights, penalty)
    gradient = features.T @ (weights * (outcomes - expit(features @ found))) - penalty * found
    assert np.abs(gradient).max() < 1e-5 * max(1.0, np.abs(features).max())


def test_on_classes_it_is_what_scikit_learn_finds() -> None:
    generator = np.random.default_rng(1)
    features = generator.normal(size=(300, 3))
    classes = (generator.random(300) < expit(features @ [1.0, -2.0, 0.5])).astype(float)
    theirs = LogisticRegression(C=1 / 0.5, fit_intercept=False, tol=1e-10).fit(features, classes)
    assert fit_logistic(Matrix(features), classes, np.ones(300), 0.5) == pytest.approx(theirs.coef_[0], abs=1e-5)


def test_it_may_begin_anywhere_and_each_coefficient_may_have_its_penalty() -> None:
    generator = np.random.default_rng(2)
    features = generator.normal(size=(50, 2))
    outcomes = generator.random(50)
    plain = fit_logistic(Matrix(features), outcomes, np.ones(50), 0.1)
    assert fit_logistic(Matrix(features), outcomes, np.ones(50), 0.1, start=np.array([30.0, -40.0])) == pytest.approx(
        plain
    )
    assert fit_logistic(Matrix(features), outcomes, np.ones(50), np.array([0.1, 1e9]))[1] == pytest.approx(0, abs=1e-6)
