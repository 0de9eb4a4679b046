"""What a log looks like: arms, clipping, a simplex, draws that repeat and codes are named; a usual
log shows nothing.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from mopl_jax.diagnostics.appearance import Appearance, findings_of
from mopl_jax.io.precision import decimals_of, precision_of
from mopl_jax.policies import ClippedNormal, Dirichlet, Discrete, Gaussian, Mixture, Uniform
from mopl_jax.policies.support import is_continuous

N = 4000
RNG = np.random.default_rng(4)
ACTION = RNG.normal(size=(N, 2)) * 0.3
REWARD = (RNG.random(N) < 0.3) * 1.0
ARMS = np.array([[1.0, 2.0], [1.2, 2.0], [1.0, 2.5]])[RNG.integers(0, 3, N)]


def seen(reward=REWARD, action=ACTION, clustered=False, continuous=True, chunk=N):
    """Level and words of what is found."""
    made = Appearance()
    for k in range(0, len(reward), chunk):
        made.add(reward[k : k + chunk], None if action is None else action[k : k + chunk])
    return findings_of(made, clustered=clustered, continuous=continuous)


def codes(values, code, rows=20):
    """The values, of which some rows hold a code."""
    return np.where(np.arange(len(values)) % (len(values) // rows) == 0, code, values)


USUAL = {
    "clicks": (REWARD, ACTION),
    "no actions": (REWARD, None),
    "normal rewards": (RNG.normal(size=N), ACTION),
    "watch time": (RNG.lognormal(size=N) * REWARD, ACTION),
    "counts": (RNG.poisson(0.05, N) * 1.0, ACTION),
    "few sales": (RNG.geometric(0.3, N) * (RNG.random(N) < 0.01), ACTION),
    "one loss among gains": (np.r_[-0.1, RNG.gamma(3, size=N - 1)], ACTION),
    "rounded weights": (REWARD, np.round(ACTION, 2)),
    "one rounded weight": (REWARD, np.round(ACTION[:, :1], 3)),
    "single precision": (REWARD, ACTION.astype(np.float32)),
    "uniform": (REWARD, RNG.random((N, 2))),
}


@pytest.mark.parametrize("log", USUAL)
def test_a_usual_log_shows_nothing(log):
    assert seen(*USUAL[log]) == []


ODD = {
    "arms": (REWARD, ARMS, "3 distinct actions in 4,000 rows", "refuse"),
    "one weight of arms": (
        REWARD,
        np.c_[ACTION[:, 0], ARMS[:, 1]],
        "(action[1] of a few values)",
        "refuse",
    ),
    "clipped": (REWARD, np.maximum(ACTION, 0), "exactly 0: clipped?", "refuse"),
    "a simplex": (REWARD, np.c_[ACTION, 1 - ACTION.sum(axis=1)], "add up to 1", "refuse"),
    "users": (REWARD, np.repeat(ACTION[: N // 4], 4, axis=0), "played 4.0 times", "caution"),
    "users, rounded": (
        REWARD,
        np.round(np.repeat(ACTION[: N // 4], 4, axis=0), 2),
        "--cluster",
        "caution",
    ),
    "-1 for a missing click": (codes(REWARD, -1), ACTION, "reward: -1 in 0.005", "caution"),
    "-999 for a missing time": (codes(REWARD * 7.5, -999), ACTION, "reward: -999", "caution"),
    "-1 among counts": (codes(RNG.poisson(3, N) * 1.0, -1), ACTION, "reward: -1", "caution"),
    "9999 among shares": (codes(RNG.random(N), 9999), ACTION, "reward: 9999", "caution"),
    "a slipped decimal": (np.r_[4e5, RNG.normal(size=N - 1)], ACTION, "400000", "caution"),
    "-99 for a weight": (REWARD, np.c_[codes(ACTION[:, 0], -99), ACTION[:, 1]], "-99", "caution"),
}


@pytest.mark.parametrize("log", ODD)
@pytest.mark.parametrize("chunk", [N, 333])
def test_what_is_odd_is_named(log, chunk):
    reward, action, words, level = ODD[log]
    found = seen(reward, action, chunk=chunk)
    assert [(x.level, words in x.found) for x in found] == [(level, True)] * len(found)
    assert found


def test_two_codes_do_not_hide_each_other():
    found = seen(codes(codes(REWARD, -999, 10), 99999, 8))
    assert [x.found.split()[1] for x in found] == ["-999", "99999"]


def test_arms_are_fine_where_probabilities_are_asked_about_and_users_where_they_are_named():
    assert {x.level for x in seen(REWARD, ARMS, continuous=False)} == {"trust"}
    assert seen(REWARD, np.repeat(ACTION[: N // 4], 4, axis=0), clustered=True) == []


def test_only_policies_with_a_density_in_all_weights_are_continuous():
    normal, box = Gaussian.diagonal([0.0], 1.0), Uniform(jnp.zeros(1), jnp.ones(1))
    assert is_continuous(Mixture.of(np.ones(2), [normal, box]))
    assert not is_continuous(object())


# How precisely a column was written.

DENSITY = RNG.lognormal(size=N)


@pytest.mark.parametrize("decimals", [1, 2, 4, 6])
def test_decimals_are_inferred(decimals):
    rounded = np.round(DENSITY, decimals)
    assert decimals_of(rounded) == decimals
    if decimals < 6:  # more than single precision holds
        assert decimals_of(rounded.astype(np.float32).astype(float)) == decimals


@pytest.mark.parametrize(
    ("column", "absolute", "relative"),
    [
        (DENSITY, 0, 0),
        (DENSITY.astype(np.float32), 0, 2.0**-24),
        (np.round(DENSITY, 4), 5e-5, 0),
        (np.array([float(f"{x:.5g}") for x in DENSITY]), 0, 5e-5),
        (np.array([float(str(np.float32(x))) for x in DENSITY]), 0, 2.0**-23),
        (np.full(N, 0.0294), 5e-5, 0),
        (np.array([0.3, 0.1, 0.25]), 5e-4, 0),  # exact, most likely: not taken for one decimal
    ],
)
def test_the_precision_of_a_column_bounds_its_error(column, absolute, relative):
    """The largest error of log p is that of a share, relative + absolute / p, of p."""
    made = precision_of(np.asarray(column, float), column.dtype == np.float32, log=False)
    assert (made.absolute, made.relative) == pytest.approx((absolute, relative))
    if len(column) == N and column[0] != column[1]:
        error = np.asarray(made.error(jnp.asarray(np.log(column, dtype=float))))
        assert np.all(np.abs(np.log(column, dtype=float) - np.log(DENSITY)) <= 1.1 * error + 1e-12)


def test_a_column_of_log_densities_has_the_error_that_it_says():
    made = precision_of(np.round(np.log(DENSITY), 3), False, log=True)
    np.testing.assert_allclose(made.error(jnp.zeros(2)), 5e-4)


CLIPPED = ClippedNormal(Gaussian.diagonal([0.0, 0.0], 1.0), jnp.zeros(2), jnp.full(2, jnp.inf))
DECLARED = {
    "arms": (ARMS, Discrete.of(np.unique(ARMS, axis=0), np.ones(3)), "of kind discrete"),
    "clipped": (np.maximum(ACTION, 0), CLIPPED, "of kind clipped_normal, with the same bounds"),
    "a simplex": (
        np.c_[ACTION, 1 - ACTION.sum(axis=1)],
        Dirichlet(jnp.ones(3)),
        "of kind dirichlet or logistic_normal",
    ),
}


@pytest.mark.parametrize("log", DECLARED)
def test_what_is_declared_is_not_asked_for_and_the_target_is_at_fault(log):
    """A log that is as its policy says is no complaint, and a target of another kind is told to be
    written otherwise; until now both were told to declare what was declared.
    """
    action, policy, remedy = DECLARED[log]
    made = Appearance.of(REWARD, action)
    for asked, level in ((False, "trust"), (True, "refuse")):
        found = findings_of(made, clustered=False, continuous=asked, declared=policy)
        assert {x.level for x in found} == {level}
        for finding in found:
            assert "declare a policy" not in finding.found
            assert ("the target has a density" in finding.found) == asked
            assert (remedy in finding.found) == asked
    (other, *_) = findings_of(made, clustered=False, continuous=True, declared=normal_of(action))
    assert "the target" not in other.found.split("give the target")[0]


def normal_of(action):
    return Gaussian.diagonal(action.mean(axis=0), 1.0)
