"""Diagnostics: known tails, the mean-weight test's level, verdicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from worlds import rows
from yardsticks import DTYPES, KEY, binomial_tail, eps, standard_errors

from mopl_jax.diagnostics.verdicts import VERDICTS, reasons
from mopl_jax.diagnostics.weight_diagnostics import (
    diagnose,
    generalised_pareto_shape,
    pareto_k,
    unseen,
)
from mopl_jax.estimators import snips
from mopl_jax.policies import Gaussian, Uniform


def mean_weight_test(log_weight):
    """p-value and mean of the weights, as the diagnosis of rewards that are all zero has them."""
    found = diagnose(snips(log_weight, jnp.zeros_like(log_weight)))
    return found.mean_weight_p_value, found.mean_weight


run = jax.jit(diagnose, static_argnames="reward_range")


def verdict(log_weight, reward, **options):
    """The verdict in words."""
    return VERDICTS[
        int(run(snips(jnp.asarray(log_weight), jnp.asarray(reward)), **options).verdict)
    ]


def test_many_rows_in_float32():
    """n (n − 1) of 50,000 rows is no 32-bit integer; of weights 1 ± ½ the error is ½ / √n."""
    n = 50_000
    with jax.enable_x64(False):
        log_weight = jnp.asarray(np.resize(np.log([0.5, 1.5]), n), jnp.float32)
        found = run(snips(log_weight, jnp.zeros(n, jnp.float32)))
    assert found.mean_weight_error == pytest.approx(0.5 / np.sqrt(n), rel=1e-4)


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.5, 0.9])
def test_tail_shape_of_pareto_draws(k):
    """Within four standard errors (1+k)/√m of maximum likelihood of k shrunk by ten rows of ½."""
    x = np.sort(stats.genpareto(k).rvs(2000, random_state=1))
    found = float(generalised_pareto_shape(jnp.asarray(x)))
    assert abs(found - (2000 * k + 5) / 2010) < 4 * (1 + k) / np.sqrt(2000)


def test_tail_shape_is_near_maximum_likelihood():
    x = np.sort(stats.genpareto(0.4).rvs(300, random_state=2))
    fitted, _, _ = stats.genpareto.fit(x, floc=0)
    made = float(generalised_pareto_shape(jnp.asarray(x)))
    np.testing.assert_allclose(
        (made * 310 - 5) / 300, fitted, atol=0.2 * (1 + fitted) / np.sqrt(300)
    )


def test_pareto_k_is_invariant_to_the_weights_scale_and_ignores_the_bulk():
    log_weight = jnp.asarray(np.log(stats.genpareto(0.5).rvs(5000, random_state=3)))
    k = pareto_k(log_weight)
    np.testing.assert_allclose(pareto_k(log_weight + 50), k, rtol=1e-9)
    bulk = jnp.where(log_weight < jnp.median(log_weight), -10.0, log_weight)
    np.testing.assert_allclose(pareto_k(bulk), k, rtol=1e-9)


def test_degenerate_tails():
    assert pareto_k(jnp.zeros(100)) == -np.inf
    assert pareto_k(jnp.zeros(3)) == -np.inf
    assert pareto_k(jnp.asarray([0.0, 1.0, 2.0])) == np.inf


@pytest.mark.parametrize("counts", ["uniform", "poisson", "geometric"])
def test_ties_are_not_a_heavy_tail(counts):
    """Users with a few rows each, as `compare` weighs the logging policy by cluster: bounded or
    light tails, k well below one.
    """
    rng = np.random.default_rng(0)
    rows = {
        "uniform": rng.integers(1, 10, 871),
        "poisson": 1 + rng.poisson(1.5, 871),
        "geometric": rng.geometric(0.3, 871),
    }
    assert pareto_k(jnp.log(jnp.asarray(rows[counts], float))) < 0.7


def test_mean_weight_test_has_its_level():
    log_weight = 0.3 * jax.random.normal(KEY, (1000, 500)) - 0.3**2 / 2
    p_value, _ = jax.vmap(mean_weight_test)(log_weight)
    assert binomial_tail(int((p_value < 0.05).sum()), 1000, 0.05) > 1e-3
    shifted, mean = jax.vmap(mean_weight_test)(log_weight + 0.2)
    assert np.median(shifted) < 1e-6
    assert standard_errors(mean, np.exp(0.2)) < 4
    assert mean_weight_test(jnp.zeros(10))[0] == 1
    certain = mean_weight_test(jnp.ones(10))[0]  # an arm of 1/e that was played ten times in ten
    np.testing.assert_allclose(certain, special.erfc(np.sqrt(10)), rtol=1e-9)


def test_verdicts():
    log_weight, reward = rows(1, 2000, spread=0.5)
    log_weight = log_weight - jnp.log(jnp.mean(jnp.exp(log_weight)))
    inside = (float(reward.min()), float(reward.max()))
    assert verdict(log_weight, reward) == "trust"
    assert verdict(log_weight, reward, reward_range=inside) == "trust"
    assert verdict(log_weight, reward, reward_range=(inside[0], inside[1] - 1e-3)) == "refuse"
    assert verdict(log_weight + 1, reward) == "refuse"  # wrong propensities
    assert verdict(log_weight[:50], reward[:50]) in ("caution", "refuse")
    assert verdict(log_weight.at[0].set(9.0), reward) == "refuse"  # one row decides
    assert verdict(np.full(50, -np.inf), reward[:50]) == "refuse"
    assert verdict(np.zeros(200), reward[:200]) == "trust"


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_unseen_mass_of_a_wide_target(scale):
    """w(a) rises with |a|, log w by a²/2 (1 − 1/scale²): what is unseen is beyond the row where it
    is 1 % larger than at the farthest, 2Φ(−|a|/scale) of it, to binomial error.
    """
    target, logging = Gaussian.diagonal([0.0], scale), Gaussian.diagonal([0.0], 1.0)
    action = jnp.asarray([[0.3], [-2.0]])
    log_weight = jax.vmap(target.log_density)(action) - jax.vmap(logging.log_density)(action)
    farthest = np.sqrt(2.0**2 + 2 * 0.01 / (1 - 1 / scale**2))
    share = 2 * stats.norm.sf(farthest / scale)
    found = float(unseen(target, logging, log_weight))
    assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / 4096)
    assert float(unseen(target, logging, log_weight + 500)) == 0


def test_unseen_mass_outside_a_box():
    """The largest weight is at the centre and was logged: what is unseen is exactly what leaves the
    box.
    """
    target, logging = (
        Gaussian.diagonal([0.2, 0.0], 0.8),
        Uniform(jnp.full(2, -1.0), jnp.full(2, 1.0)),
    )
    log_weight = (target.log_density(target.mean) - logging.log_density(target.mean))[None]
    share = 1 - float(
        np.prod(
            stats.norm.cdf([1, 1], target.mean, 0.8) - stats.norm.cdf([-1, -1], target.mean, 0.8)
        )
    )
    assert abs(float(unseen(target, logging, log_weight)) - share) < 4 * np.sqrt(
        share * (1 - share) / 4096
    )


def test_a_policy_has_seen_itself():
    policy = Gaussian.diagonal([0.1, -0.3], 0.7)
    assert float(unseen(policy, policy, jnp.zeros(3))) == 0


def test_unseen_mass_in_the_verdict():
    made = snips(*(column[:2000] for column in rows(1, 2000, spread=0.5)))
    made = snips(made.log_weight - jnp.log(jnp.mean(jnp.exp(made.log_weight))), made.reward)
    words = [VERDICTS[int(run(made, unseen=share).verdict)] for share in (jnp.nan, 0.01, 0.1, 0.5)]
    assert words == ["trust", "trust", "caution", "refuse"]
    assert any("50%" in text for text in reasons(run(made, unseen=0.5), 2000))
    assert not any("%" in text for text in reasons(run(made), 2000))


@pytest.mark.parametrize(
    ("reward", "why"),
    [
        (stats.norm().ppf, None),
        (stats.pareto(1.5).ppf, "contributions of rows"),
        (lambda u: u > 0.99, None),
        (lambda u: u > 0.998, "effective rows make the variance"),
    ],
)
def test_rewards_that_no_log_has_shown(reward, why):
    """Contributions with a tail of infinite variance, and a handful of clicks whose range is not
    known, are taken with caution. Rewards are quantiles, so that the tail is exact.
    """
    u = np.random.default_rng(0).permutation((np.arange(2000) + 0.5) / 2000)
    made = snips(jnp.zeros(2000), jnp.asarray(reward(u), float))
    found = run(made)
    assert VERDICTS[int(found.verdict)] == ("caution" if why else "trust")
    said = reasons(found, 2000)
    assert any(why in text for text in said) if why else not said
    square = np.square(np.asarray(made.influence))
    terms = square.sum() ** 2 / (square**2).sum()
    assert float(found.effective_terms) == pytest.approx(terms, rel=1e-9)
    if why == "contributions of rows":
        assert float(found.influence_k) == pytest.approx(1 / 1.5, abs=0.1)
    ranged = run(made, reward_range=(-1e6, 1e6))
    assert ranged.verdict == found.verdict
    assert any("no range is known" in text for text in said) == (float(found.effective_terms) < 10)
    assert not any("no range is known" in text for text in reasons(ranged, 2000))


@pytest.mark.parametrize("step", [0.25, 1.0])
def test_values_on_a_lattice_have_no_heavy_tail(step):
    """Ties with the row below the tail are no exceedances: half-normal values, rounded."""
    x = np.sort(np.round(stats.halfnorm.ppf((np.arange(300) + 0.5) / 300) / step) * step)
    assert float(generalised_pareto_shape(jnp.asarray(x[-52:] - x[-53]))) < 0.1


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_and_no_nan(dtype):
    for log_weight, reward in (
        rows(2, 400, dtype),
        (jnp.full(400, -jnp.inf, dtype), jnp.ones(400, dtype)),
    ):
        made = run(snips(log_weight, reward), unseen=0.0)
        assert not any(np.isnan(leaf) for leaf in jax.tree.leaves(made))
        assert made.kish.dtype == made.pareto_k.dtype == made.mean_weight_p_value.dtype == dtype
    exact = run(snips(*rows(2, 400)))
    np.testing.assert_allclose(
        run(snips(*rows(2, 400, dtype))).pareto_k, exact.pareto_k, atol=1e4 * eps(dtype)
    )
