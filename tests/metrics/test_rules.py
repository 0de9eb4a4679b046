"""Returns of decision rules: the closed form, and what was published."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.decision_rules import ARM, NOISE, PROXY, REWARD, _covariance
from mopl_jax.metrics import rules

S = 2 / ARM * _covariance(PROXY[1], REWARD[1], NOISE)
UP = {"metric up": rules.RULES["metric up"]}


def past(seed, tests=100, correlation=0.8):
    rng = np.random.default_rng(seed)
    true = rng.multivariate_normal(
        np.zeros(2), _covariance(PROXY[0], REWARD[0], correlation), tests
    )
    return true, true + rng.multivariate_normal(np.zeros(2), S, tests)


def returns(measured, chosen=UP, folds=10):
    spread = np.broadcast_to(S, (len(measured), 2, 2))
    return rules.returns(measured, spread, np.arange(len(measured)), 1.96, folds, chosen)


def test_the_mean_over_draws_is_the_closed_form():
    """E[N₁ 1(m₂ > 0) | Δ] = N Φ(m/τ) − (c/τ) φ(m/τ), τ² = S_mm/(F−1), c = S_mN: within 5 of the
    errors of 400 draws.
    """
    _, measured = past(0, 5000)
    (said,) = returns(measured)
    tau, c = np.sqrt(S[0, 0] / 9), S[0, 1]
    m, north = measured.T
    expected = north * stats.norm.cdf(m / tau) - c / tau * stats.norm.pdf(m / tau)
    error = 3 * np.sqrt(5000 * S[1, 1] / rules.DRAWS)  # a fold's noise has nine times S
    assert said.cross_validated == pytest.approx(expected.sum(), abs=5 * error)
    assert said.naive == pytest.approx(north[m > 0].sum())


def test_published_returns():
    """3.685e-3 naive, 1.843e-3 true, 1.778e-3 in ten folds, per 100 tests (arXiv 2502.08763): one
    history of 10,000 tests, within 4 standard errors; naive over true is 2.
    """
    true, measured = past(1, 10_000)
    (said,) = returns(measured)
    unit = 100 / len(true)
    error = unit * said.standard_error
    assert unit * said.cross_validated == pytest.approx(1.778e-3, abs=4 * error)
    assert unit * said.naive == pytest.approx(3.685e-3, abs=4 * error)
    truth = true[measured[:, 0] > 0, 1].sum()
    assert unit * truth == pytest.approx(1.843e-3, abs=4 * error)
    assert said.naive / truth == pytest.approx(2.0, abs=0.1)


def test_rules_ship_what_they_say():
    z = np.array([[2.5, -3.0], [2.5, -1.0], [1.0, 0.5], [-1.0, 2.5]])
    shipped = {name: rule(z[:, 0], z[:, 1], 1.96).tolist() for name, rule in rules.RULES.items()}
    assert shipped == {
        "North Star up": [False, False, True, True],
        "metric up": [True, True, True, False],
        "both up": [False, False, True, False],
        "North Star significant": [False, False, False, True],
        "metric significant": [True, True, False, False],
        "metric significant, North Star not worse": [False, True, False, False],
    }


def test_one_fold_is_refused_and_experiments_are_what_is_independent():
    _, measured = past(2, 50)
    with pytest.raises(ValueError, match="expected at least 2 folds, got 1"):
        returns(measured, folds=1)
    twice = np.repeat(measured, 2, axis=0)
    spread = np.broadcast_to(S, (100, 2, 2))
    (alone,) = returns(measured)
    (said,) = rules.returns(twice, spread, np.repeat(np.arange(50), 2), 1.96, 10, UP)
    assert said.standard_error == pytest.approx(2 * alone.standard_error, rel=0.2)


def test_the_best_rule_has_the_largest_return_and_a_level():
    """Rules that ship half of what has no effect are not chosen, however much they earn."""
    values = {"metric up": 9.0, "metric significant": 3.0, "North Star significant": 1.0}
    found = [rules.Return(name, 1, x, 0.1, x, 1.0) for name, x in values.items()]
    assert rules.best(found) == "metric significant"
    tie = rules.Return(rules.GUARDED, 1, 3.0, 0.1, 3.0, 1.0)
    assert rules.best([*found, tie]) == rules.GUARDED
