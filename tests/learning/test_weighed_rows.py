"""Rows that speak for others: what is learnt and certified is that of all they speak for."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from worlds import standard

from mopl_jax.learning.certification import certify
from mopl_jax.learning.proposal import propose
from mopl_jax.learning.response_surface import fit_surface, moments_of
from mopl_jax.learning.waves import inflation_of
from mopl_jax.logs import Logs, log_weights, speaks_for
from mopl_jax.policies.gaussian import Gaussian

N = 300
RNG = np.random.default_rng(8)
COUNT = RNG.integers(1, 5, N)
ACTION = RNG.normal(size=(N, 2))
REWARD = ACTION @ [0.3, -0.2] - 0.1 * (ACTION**2).sum(axis=1) + RNG.normal(size=N)
DENSITY = -0.5 * (ACTION**2).sum(axis=1) - np.log(2 * np.pi)
AGAIN = np.repeat(np.arange(N), COUNT)
WEIGHED = Logs(ACTION, DENSITY, REWARD, sampling_weight=7.0 * COUNT)  # in any unit
REPEATED = Logs(ACTION[AGAIN], DENSITY[AGAIN], REWARD[AGAIN], cluster=AGAIN)
NEW = Gaussian.diagonal([0.2, -0.1], 0.8)


def close(one, other):
    return pytest.approx(np.asarray(one), rel=1e-9) == np.asarray(other)


def test_a_surface_is_that_of_the_rows_repeated():
    each = speaks_for(WEIGHED)
    assert close(each.mean(), 1.0)
    found, expected = moments_of(jnp.asarray(ACTION), each), moments_of(jnp.asarray(ACTION[AGAIN]))
    assert close(found.mean, expected.mean)
    assert close(found.scale, expected.scale)
    one = fit_surface(jnp.asarray(ACTION), jnp.asarray(REWARD), standard(2), kept=each)
    all_rows = fit_surface(jnp.asarray(ACTION[AGAIN]), jnp.asarray(REWARD[AGAIN]), standard(2))
    assert close(one.coefficients, all_rows.coefficients)


def test_rows_that_are_not_kept_have_no_say_in_the_unit():
    kept = np.arange(N) < 100
    each = np.asarray(speaks_for(WEIGHED, jnp.asarray(kept, float)))
    assert close(each[:100].mean(), 1.0)
    assert not each[100:].any()
    assert close(each[:100] / each[0], COUNT[:100] / COUNT[0])


def test_noise_is_that_of_users_who_say_the_same():
    """A row that speaks for four is four rows of one user: its score is four times as large."""
    slopes, left = RNG.normal(size=(N, 3)), RNG.normal(size=N)
    one = inflation_of(WEIGHED, *map(jnp.asarray, (slopes, left, 1.0 * COUNT)))
    columns = slopes[AGAIN], left[AGAIN], np.ones(len(AGAIN))
    assert close(one, inflation_of(REPEATED, *map(jnp.asarray, columns)))
    assert one > 2  # E s² / E s


def test_a_certificate_is_that_of_users_who_say_the_same():
    """Value, both bounds, effective sample size: of the rows repeated, each a user of its own."""
    one, all_rows = (certify(NEW, logs, jnp.zeros(2)) for logs in (WEIGHED, REPEATED))
    for name in ("value", "bound", "ess", "gain", "gain_bound", "units"):
        assert close(getattr(one, name), getattr(all_rows, name)), name


def test_weights_are_times_the_rows_and_plain_where_there_are_none():
    plain = dataclasses.replace(WEIGHED, sampling_weight=None)
    found = log_weights(NEW, WEIGHED) - log_weights(NEW, plain)
    assert close(jnp.exp(found), COUNT / COUNT.mean())


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan])
def test_rows_that_stand_for_none_are_refused(wrong):
    weight = np.where(np.arange(N) == 3, wrong, 1.0)
    with pytest.raises(ValueError, match="sampling.weight.*row 3") as error:
        certify(NEW, dataclasses.replace(WEIGHED, sampling_weight=weight), jnp.zeros(2))
    assert "\n" not in str(error.value)


@pytest.mark.nightly
def test_rows_that_say_nothing_do_not_point_the_way():
    """A log in the order of time, whose first 20,000 rows are of another world, long gone."""
    rng = np.random.default_rng(5)
    n = 24_000
    action = rng.normal(size=(n, 2))
    density = -0.5 * (action**2).sum(axis=1) - np.log(2 * np.pi)
    late = np.arange(n) >= 20_000
    reward = np.where(late, action[:, 0], -5.0 * action[:, 1]) + 0.3 * rng.normal(size=n)
    each = np.where(late, 1.0, 1e-200)
    made = propose(Logs(action, density, reward, sampling_weight=each), 4000.0)
    plain = propose(Logs(action[late], density[late], reward[late]), 4000.0)
    assert np.isfinite(np.asarray(made.guess.mean)).all()
    assert close(made.whitening.mean, plain.whitening.mean)
    np.testing.assert_allclose(made.guess.mean, plain.guess.mean, atol=0.2)
    # rows are counted: 24,000 that know as much as 4,000, but for the freedom that fitting took
    assert float(made.noise) == pytest.approx(6 * float(plain.noise), rel=0.1)
