"""Refinement: the analyst's answer where its model is true, a better one where it is not, in any
coordinates.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from worlds import logged, standard
from yardsticks import KEY, binomial_tail, standard_errors

from mopl_jax import intervals
from mopl_jax.learning import plan, refinement, response_surface
from mopl_jax.logs import Logs
from mopl_jax.policies import Gaussian

STANDARD = standard(2)
FRAME = Gaussian.full(np.array([1.0, -2.0]), np.array([[0.5, 0.2], [0.2, 0.3]]))


def quadratic(z):
    return -0.5 * (0.3 * (z[0] - 0.8) ** 2 + 0.5 * (z[1] - 0.4) ** 2)


def bump(z):
    return jnp.exp(-0.5 * jnp.sum(jnp.square(z - 0.8)) / 0.5**2)


@functools.partial(jax.jit, static_argnames="n")
def log_of(key, height, noise=0.3, n=4000):
    """Rows of the mixture of both worlds, logged from N(0, I)."""
    keys = jax.random.split(key)
    z = jax.random.normal(keys[0], (n, 2), jnp.float64)
    mean = jax.vmap(lambda row: (1 - height) * quadratic(row) + height * bump(row))(z)
    return logged(z, mean + noise * jax.random.normal(keys[1], (n,), jnp.float64))


@jax.jit
@jax.vmap
def maxima(key):
    """The maximum of the surface of another log of the quadratic world."""
    logs = log_of(key, 0.0)
    surface = response_surface.fit_surface(logs.action, logs.reward, STANDARD)
    return response_surface.highest(surface, plan.RADIUS)


@jax.jit
def learn(logs):
    """The cell that the tests share."""
    return refinement.learn(logs, interval=intervals.normal, scales=(0.85, 0.6), steps=10)


def test_stays_with_the_surface_where_rewards_are_quadratic():
    made = learn(log_of(KEY, 0.0))
    assert not made.accepted.any()
    np.testing.assert_allclose(made.learnt.policy.mean, made.incumbent, rtol=1e-9)
    best = maxima(jax.random.split(KEY, 100))
    assert standard_errors(best, [0.8, 0.4]).max() < 4
    assert np.all(np.abs(made.incumbent - np.array([0.8, 0.4])) < 4 * best.std(axis=0))
    assert made.learnt.steps == 1
    assert made.learnt.bound < made.learnt.value


def test_leaves_the_surface_where_they_are_not():
    made = learn(log_of(KEY, 1.0))
    surface_best = response_surface.highest(made.surface, 2.0)
    assert made.accepted.any()
    assert bump(made.learnt.policy.mean) > 0.9 > bump(surface_best)


def test_where_the_surface_is_void_the_held_out_bound_decides():
    """Too noisy for significance against a far incumbent; the shape of the rewards still shows that
    the surface is wrong.
    """
    made = [learn(log_of(jax.random.fold_in(KEY, i), 1.0, 1.5)) for i in range(12)]
    void = np.array([m.surface_p < response_surface.CREDIBLE for m in made])
    better = np.array([bump(m.learnt.policy.mean) > bump(m.incumbent) + 0.1 for m in made])
    assert void.sum() >= 8
    assert better[void].mean() > 0.8
    assert any(
        m.accepted[0] and m.score[0] < 1.28 for m in made
    )  # what significance at `LEVEL` would have left


def _of_fit(key, height, spread, n=1000):
    """Lack of fit of one log, its noise growing with the action where `spread` is positive; along
    (1, 1).
    """
    logs = log_of(key, height, 0.0, n)
    noise = (0.5 + spread * jnp.abs(logs.action[:, 0])) * jax.random.normal(
        jax.random.fold_in(key, 9), (n,)
    )
    surface = response_surface.fit_surface(logs.action, logs.reward + noise, STANDARD)
    return surface, logs.action, logs.reward + noise, jnp.ones(2)


def test_random_starts_are_those_of_the_seed():
    """Beside the incumbent and the centre; the same for the same seed, others for another."""
    incumbent = jnp.array([0.5, -0.5])
    found = [refinement.starts_of(plan.Plan(starts=3, seed=seed), incumbent) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0][:2], [[0.5, -0.5], [0.0, 0.0]])
    assert np.all(found[0][2:] != found[2][2:])
    assert found[0].shape == (5, 2)


def test_lack_of_fit_has_its_size_and_power():
    keys = jax.random.split(KEY, 1000)
    of = jax.jit(
        jax.vmap(
            lambda key, height, spread: response_surface.lack_of_fit(*_of_fit(key, height, spread)),
            (0, None, None),
        )
    )
    for spread in (0.0, 0.5):
        beyond = int(jnp.sum(of(keys, 0.0, spread) > stats.chi2(2).ppf(0.95)))
        assert binomial_tail(beyond, 1000, 0.05) > 1e-3, beyond
    assert jnp.mean(of(keys[:200], 1.0, 0.0) > stats.chi2(2).ppf(0.95)) > 0.95


def test_lack_of_fit_is_a_robust_score_test():
    """Dense least squares: scores of the third and fourth power, freed of lower ones, and their
    covariance.
    """
    surface, action, reward, direction = _of_fit(KEY, 0.5, 0.5)
    t = np.asarray(action @ direction) / np.sqrt(2)
    low = np.stack([np.ones_like(t), t, t**2], axis=1)
    high = np.stack([t**3, t**4], axis=1)
    high = high - low @ np.linalg.lstsq(low, high, rcond=None)[0]
    scores = high * np.asarray(reward - jax.vmap(surface)(action))[:, None]
    expected = scores.sum(0) @ np.linalg.solve(scores.T @ scores, scores.sum(0))
    np.testing.assert_allclose(
        response_surface.lack_of_fit(surface, action, reward, direction), expected, rtol=1e-8
    )


def test_coordinates_do_not_matter():
    """Weights in other units and correlated: the same policy, expressed in them."""
    logs = log_of(KEY, 1.0)
    factor = jnp.asarray(FRAME.scale)
    moved = Logs(
        logs.action @ factor.T + FRAME.mean[None, :],
        logs.log_propensity - jnp.log(jnp.abs(jnp.linalg.det(factor))),
        logs.reward,
    )
    plain, other = learn(logs), learn(moved)
    np.testing.assert_allclose(other.learnt.bound, plain.learnt.bound, rtol=1e-6)
    np.testing.assert_allclose(
        other.learnt.policy.mean, factor @ plain.learnt.policy.mean + FRAME.mean, atol=1e-4
    )
    np.testing.assert_allclose(
        other.surface(other.incumbent), plain.surface(plain.incumbent), rtol=1e-6
    )


def test_caution_follows_no_extrapolation():
    """With a few noisy rows the surface's maximum is at the edge; the cautious one is not farther
    out.
    """
    logs = jax.tree.map(lambda x: x[:40], log_of(KEY, 0.0))
    surface = response_surface.fit_surface(logs.action, logs.reward, STANDARD)
    starts = jnp.stack([response_surface.highest(surface, 3.0), jnp.zeros(2)])
    careful = response_surface.cautious(surface, starts, lambda a: a, 2.0)
    heights = jax.vmap(lambda a: surface(a) - 2.0 * surface.error(a))(
        jnp.concatenate([careful[None], starts])
    )
    assert heights.argmax() == 0
    assert jnp.linalg.norm(careful) < jnp.linalg.norm(starts[0])
