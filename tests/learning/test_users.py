"""Users in learning: rows of one user are one piece of evidence, wherever a policy is judged."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yardsticks import binomial_tail

from mopl_jax.learning import response_surface
from mopl_jax.learning.certification import certify
from mopl_jax.learning.objective import doubly_robust
from mopl_jax.learning.optimise import fit
from mopl_jax.learning.waves import fit_waves
from mopl_jax.logs import Logs, num_units, rows, split
from mopl_jax.policies import Gaussian

SLOPE = np.array([0.5, -0.3])
POLICY = Gaussian.diagonal(np.array([0.3, 0.2]), 0.7)
STANDARD = Gaussian.diagonal(np.zeros(2), 1.0)
REPLICATES = 300


def world(seed, users, each, same, level=0.0, noise=0.5):
    """Logs of `users` with `each` rows from N(0, I): `same` rows, or rows with a common `level`."""
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(users), each)
    z = rng.normal(size=(users, 2))[number] if same else rng.normal(size=(users * each, 2))
    error = rng.normal(size=users)[number] if same else rng.normal(size=users * each)
    reward = z @ SLOPE + noise * error + level * rng.normal(size=users)[number]
    log_propensity = -0.5 * np.sum(z**2, axis=1) - np.log(2 * np.pi)
    return Logs(z, log_propensity, reward, cluster=number)


@jax.jit
def certificate(logs):
    """The cell that simulations share."""
    return certify(POLICY, logs, np.zeros(2))


@pytest.mark.parametrize(
    "drawn",
    [
        functools.partial(world, users=160, each=3, same=True),
        functools.partial(world, users=100, each=8, same=False, level=1.5),
    ],
    ids=["three equal rows a user", "eight rows a user with a level of its own"],
)
def test_a_certificate_on_other_users_holds(drawn):
    """As often as promised: the 95 % bound of a policy whose value is known."""
    truth = SLOPE @ np.asarray(POLICY.mean)
    made = [certificate(split(drawn(seed), 0.5)[1]) for seed in range(REPLICATES)]
    missed = sum(float(each.bound) > truth for each in made)
    assert missed <= 0.05 * REPLICATES or binomial_tail(missed, REPLICATES, 0.05) > 1e-3
    assert np.median([each.bound for each in made]) > -1.0


# Repeating each row k times, as rows of one user, adds no evidence: an identity, not a simulation.

ONCE = rows(dataclasses.replace(world(7, 300, 1, same=True), cluster=None), np.ones(300, bool))
THRICE = jax.tree.map(jnp.asarray, world(7, 300, 3, same=True))
SURFACE = response_surface.fit_surface(ONCE.action, ONCE.reward, STANDARD)


def test_repeated_rows_certify_as_one():
    made, expected = (
        jax.jit(lambda logs: certify(POLICY, logs, np.zeros(2), value_estimator=ROBUST))(logs)
        for logs in (THRICE, ONCE)
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), made, expected)


ROBUST = doubly_robust(SURFACE)


def test_repeated_rows_teach_as_one():
    """The bound that is maximised, and the floor, which is a share of the users."""
    made, expected = (
        jax.jit(lambda logs: fit(logs, POLICY, value_estimator=ROBUST, floor=0.5))(logs)
        for logs in (THRICE, ONCE)
    )
    assert 0.5 * 300 < expected.ess < 0.5 * 900
    assert made.feasible
    assert expected.steps > 2
    for field in ("bound", "ess", "trace"):
        np.testing.assert_allclose(getattr(made, field), getattr(expected, field), rtol=1e-6)
    np.testing.assert_allclose(made.policy.mean, expected.policy.mean, rtol=1e-4)


def test_repeated_rows_are_one_piece_of_evidence():
    """Thrice the rows with thrice the noise: the surface, and what m rows of it certify."""
    made, expected = (jax.jit(fit_waves)(logs) for logs in (THRICE, ONCE))
    assert float(made.inflation) == pytest.approx(3 * float(expected.inflation), rel=0.2)
    places = jax.random.normal(jax.random.key(1), (50, 2))
    heights, others = (np.asarray(jax.vmap(x.surface)(places)) for x in (made, expected))
    errors = np.asarray(jax.vmap(expected.surface.error)(places))
    assert np.all(np.abs(heights - others) < errors)
    assert np.corrcoef(heights, others)[0, 1] > 0.99


# What the log knows.


def test_a_log_counts_its_users():
    """Any labels; what `rows` takes is numbered anew; under jit the count is static."""
    logs = dataclasses.replace(ONCE, cluster=np.array(["b", "a", "c"] * 100))
    assert num_units(logs) == logs.num_clusters == 3
    np.testing.assert_array_equal(logs.cluster[:3], [1, 0, 2])
    part = rows(logs, logs.cluster != 1)
    assert num_units(part) == 2
    np.testing.assert_array_equal(np.unique(part.cluster), [0, 1])
    assert num_units(ONCE) == 300
    assert jax.jit(lambda log: jnp.zeros(num_units(log)))(part).shape == (2,)


def test_users_that_are_not_counted_are_refused():
    def estimate(cluster):
        return certify(POLICY, dataclasses.replace(ONCE, cluster=cluster), np.zeros(2))

    with pytest.raises(ValueError, match="expected logs whose users are counted"):
        jax.jit(estimate)(THRICE.cluster[:300])
