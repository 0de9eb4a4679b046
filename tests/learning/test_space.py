"""Logs whose weights are a function of normal ones: log-normal, shares, truncated, clipped; all is
learnt of what is normal.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import document, mopl
from scipy import stats
from scipy.special import digamma, polygamma
from worlds import sample_rows
from yardsticks import binomial_tail

import mopl_jax
from mopl_jax.learning.constraints import Bounds
from mopl_jax.learning.space import LOG_RATIOS
from mopl_jax.learning.space_bounds import projection_of
from mopl_jax.learning.which_space import has_log_normal_densities, space_of
from mopl_jax.policies import (
    ClippedNormal,
    Dirichlet,
    Discrete,
    Gaussian,
    Mixture,
    Product,
    TruncatedNormal,
    log_normal,
    logistic_normal,
)

N, MEAN, SCALE = 1500, np.array([0.0, 0.5]), 0.3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One log twice: of weights, and of their logarithms."""
    made, rng = tmp_path_factory.mktemp("logs"), np.random.default_rng(0)
    z = MEAN + SCALE * rng.standard_normal((N, 2))
    reward = z[:, 0] - np.square(z[:, 1] - 0.8) + 0.3 * rng.standard_normal(N)
    user = np.arange(N) // 3
    for name, action in (("weights", np.exp(z)), ("logs", z)):
        columns = {"w_a": action[:, 0], "w_b": action[:, 1], "kept": reward, "user": user}
        pq.write_table(pa.table(columns), made / f"{name}.parquet")
    mopl_jax.write_policy(made / "weights.json", log_normal(MEAN, SCALE))
    mopl_jax.write_policy(made / "logs.json", Gaussian.diagonal(MEAN, SCALE))
    return made


def learnt(folder, name, **options):
    roles = {"action": "w_", "reward": "kept", "cluster": "user"}
    logging = folder / f"{name}.json"
    return mopl_jax.learn(
        folder / f"{name}.parquet", logging=logging, share=0.5, **roles, **options
    )


def test_it_is_what_is_learnt_of_the_logarithms(folder):
    """Bounds and production included; what is served is the exponential."""
    production, high = np.array([1.0, 1.5]), 2.5
    made = learnt(folder, "weights", production=production, constraints=Bounds(high=high))
    same = learnt(
        folder, "logs", production=np.log(production), constraints=Bounds(high=np.log(high))
    )
    assert float(made.deciding.gain_bound) == pytest.approx(float(same.deciding.gain_bound))
    assert float(made.deciding.gain_bound) > 0
    assert made.outside == pytest.approx(same.outside, abs=1e-3)
    np.testing.assert_allclose(made.policy.mean, same.policy.mean, rtol=1e-9)
    assert made.names.labels == ("log w_a", "log w_b")
    assert made.to_dict()["production"] == pytest.approx(production.tolist())
    explored = made.to_dict()["explore_next"]
    assert explored["kind"] == "log_normal"
    assert explored["mean"] == pytest.approx(same.exploration.policy.mean.tolist())
    assert max(explored["mean"]) <= np.log(high) + 1e-9
    keys = jax.random.split(jax.random.key(0), 400)
    served, normal = (jax.vmap(x.sample)(keys) for x in (made.played, same.policy))
    np.testing.assert_allclose(served, np.exp(normal), rtol=1e-6)


@pytest.mark.parametrize("decimals", [None, 4])
def test_densities_tell_it_without_a_policy(folder, decimals):
    """A column of densities, exact or as text with four decimals; those of the logarithms, which
    are normal, do not.
    """
    for name in ("weights", "logs"):
        logs = mopl_jax.read_logs(
            folder / f"{name}.parquet", action="w_", reward="kept", logging=folder / f"{name}.json"
        )
        density = np.exp(np.asarray(logs.log_propensity))
        written = np.log(density if decimals is None else np.maximum(density.round(decimals), 1e-4))
        known = dataclasses.replace(logs, log_propensity=written)
        assert has_log_normal_densities(known) == (name == "weights")
        if decimals is None:
            made = mopl_jax.learn(known, share=0.5)
            assert made.names.logarithms == (name == "weights")
            expected = learnt(folder, name).policy.mean
            if name == "weights":
                assert float(made.deciding.gain_bound) > 0
                np.testing.assert_allclose(made.policy.mean, expected, atol=0.2)


def test_other_densities_do_not():
    """Of positive weights: a uniform box, a normal far from zero, a mixture of normals, arms."""
    rng, n = np.random.default_rng(0), 3000
    action = 10 + rng.standard_normal((n, 2))
    normal = -0.5 * np.square(action - 10).sum(axis=1)
    either = np.logaddexp(normal, -0.5 * np.square(action - 9).sum(axis=1))
    for density in (np.zeros(n), normal, either, np.log(rng.choice([0.3, 0.7], n))):
        assert not has_log_normal_densities(mopl_jax.Logs(action, density, rng.normal(size=n)))


def test_it_is_certified_on_other_rows_of_weights(folder):
    """`certify` takes the logarithms by itself."""
    rows = mopl_jax.read_logs(
        folder / "weights.parquet", action="w_", reward="kept", logging=folder / "weights.json"
    )
    plain = mopl_jax.read_logs(
        folder / "logs.parquet", action="w_", reward="kept", logging=folder / "logs.json"
    )
    roles = {"action": "w_", "reward": "kept", "share": 0.5}
    made, same = (
        mopl_jax.learn(folder / f"{name}.parquet", logging=folder / f"{name}.json", **roles)
        for name in ("weights", "logs")
    )
    baseline = np.array([1.1, 1.6])
    found = mopl_jax.certify(made, rows, baseline=baseline)
    expected = mopl_jax.certify(same, plain, baseline=np.log(baseline))
    assert float(found.gain_bound) == pytest.approx(float(expected.gain_bound))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"production": [1.0, -0.5]}, "production: expected weights above 0"),
        (
            {"production": Gaussian.diagonal(MEAN, 1.0)},
            "production: expected weights or a log-normal",
        ),
        ({"constraints": Bounds(total=1.0)}, "sum: logarithms of weights have no bound"),
        ({"constraints": Bounds(high=[1.0, 0.0])}, "high: expected bounds above 0"),
        ({"production": [1.0, 0.5, 0.1]}, "production: expected 2 weights"),
    ],
)
def test_what_has_no_logarithm_is_refused(folder, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        learnt(folder, "weights", **options)


def test_the_artifact_is_evaluated_and_drawn(folder, monkeypatch):
    """Log-normal, or a mixture of log-normals where folds taught it."""
    monkeypatch.chdir(folder)
    roles = ("--action", "w_", "--reward", "kept", "--cluster", "user", "--logging", "weights.json")
    said = document("learn", "weights.parquet", *roles, "--share", "0.5", "--out", "new.json")
    assert (said["kind"], said["space"]) == ("log_normal", "logarithms")
    found = document("evaluate", "weights.parquet", *roles, "--target", "new.json")
    assert found["verdict"] != "refuse"
    shown = mopl("learn", "weights.parquet", *roles, "--share", "0.5", "--out", "new2.json")
    assert "log w_a" in shown.out
    drawn = document("draw", "new.json", "--n", "50")
    assert min(min(row["w_a"], row["w_b"]) for row in drawn["draws"]) > 0


# Shares, truncated and clipped weights, in worlds whose optimum is known.

NORMAL, ENDS = Gaussian.diagonal([0.5, 0.5], 0.3), (jnp.zeros(2), jnp.array([1.0, jnp.inf]))


class World(NamedTuple):
    """A logging policy, and the weights at which the reward is highest."""

    logging: object
    best: list[float]
    space: str
    kind: str

    def value(self, action):
        return 1 - 4 * np.square(action - np.array(self.best)).sum(axis=1)

    def table(self, seed):
        action = np.asarray(sample_rows(jax.random.key(seed), self.logging, N))
        noise = 0.3 * np.random.default_rng(seed).standard_normal(N)
        weights = {f"w_{k}": column for k, column in enumerate(action.T)}
        return pa.table(weights | {"kept": self.value(action) + noise, "user": np.arange(N) // 3})

    def truth(self, policy):
        """The value of a policy, by draws."""
        return self.value(np.asarray(sample_rows(jax.random.key(99), policy, 40_000))).mean()


SHARES = [0.5, 0.3, 0.2]
WORLDS = {
    "truncated": World(
        TruncatedNormal(NORMAL, *ENDS), [0.2, 0.2], "soft bounds", "soft_clipped_normal"
    ),
    "clipped": World(ClippedNormal(NORMAL, *ENDS), [0.0, 0.9], "unclipped", "clipped_normal"),
    "dirichlet": World(Dirichlet(jnp.full(3, 3.0)), SHARES, "log ratios", "logistic_normal"),
    "shares": World(logistic_normal([0.0, 0.0], 0.6), SHARES, "log ratios", "logistic_normal"),
}
every_world = pytest.mark.parametrize("name", WORLDS)
ROLES = {"action": "w_", "reward": "kept", "cluster": "user", "share": 0.5}


@pytest.mark.parametrize(
    "name", ["truncated", "clipped", "dirichlet", pytest.param("shares", marks=pytest.mark.nightly)]
)
def test_each_family_is_learnt_in_its_space(tmp_path, monkeypatch, name):
    """A gain over what is played is found and is no more than the true one; what is served is of
    the kind, and is evaluated and drawn from its artifact.
    """
    monkeypatch.chdir(tmp_path)
    world = WORLDS[name]
    mopl_jax.write_policy("logging.json", world.logging)
    pq.write_table(world.table(1), "log.parquet")
    roles = ("--action", "w_", "--reward", "kept", "--cluster", "user", "--logging", "logging.json")
    asked = "--production", "logging.json", "--share", "0.5", "--out", "new.json"
    said = document("learn", "log.parquet", *roles, *asked)
    assert (said["kind"], said["space"]) == (world.kind, world.space)
    assert said["explore_next"]["kind"] == world.kind
    assert said["advice"] == "change to the learnt weights"
    policy, _ = mopl_jax.read_policy("new.json")
    truth, logged = world.truth(policy), world.truth(world.logging)
    assert logged + 0.1 < said["certified_lower_bound"] < truth
    assert 0 < said["certified_gain_over_production"]
    found = document("evaluate", "log.parquet", *roles, "--target", "new.json")
    assert found["value"] == pytest.approx(truth, abs=0.1)
    drawn = document("draw", "new.json", "--n", "200")["draws"]
    weights = np.array([[row[f"w_{k}"] for k in range(len(world.best))] for row in drawn])
    expected = jax.vmap(policy.log_density)(jnp.asarray(weights))
    np.testing.assert_allclose([row["log_propensity"] for row in drawn], expected, rtol=1e-6)
    assert weights.min() >= 0
    assert weights[:, 0].max() <= 1


@pytest.mark.nightly
@every_world
def test_bounds_hold_in_each_space(tmp_path, name):
    """Of 60 logs at most as many bounds are above the truth as one in twenty allows."""
    world, logs = WORLDS[name], 60
    logging = mopl_jax.write_policy(tmp_path / "logging.json", world.logging)
    made = [mopl_jax.learn(world.table(k), logging=logging, **ROLES) for k in range(logs)]
    missed = sum(float(x.certificate.bound) > world.truth(x.played) for x in made)
    assert binomial_tail(missed, logs, 0.05) > 1e-3 or missed <= 0.05 * logs
    assert sum(not x.keep for x in made) >= 0.9 * logs


def test_clipped_draws_are_completed_as_they_were_drawn():
    """What stands for a draw beyond a bound has its law: all draws are those of the normal policy,
    clip to what was logged, and have its densities.
    """
    world = WORLDS["clipped"]
    action = np.asarray(sample_rows(jax.random.key(0), world.logging, 4000))
    density = np.asarray(jax.vmap(world.logging.log_density)(jnp.asarray(action)))
    logs = mopl_jax.Logs(action, density, world.value(action))
    made = space_of(world.logging, logs, "log").rows(logs)
    np.testing.assert_array_equal(np.clip(made.action, *ENDS), action)
    for k in range(2):
        assert stats.kstest(made.action[:, k], "norm", (0.5, 0.3)).pvalue > 1e-3
    assert abs(np.corrcoef(made.action.T)[0, 1]) < 4 / np.sqrt(4000)
    expected = jax.vmap(NORMAL.log_density)(jnp.asarray(made.action))
    np.testing.assert_allclose(made.log_propensity, expected, rtol=1e-9)
    with pytest.raises(ValueError, match="row 0: expected the density of the clipped policy"):
        space_of(world.logging, logs, "log").rows(
            dataclasses.replace(logs, log_propensity=density + 0.1)
        )


def test_bounds_of_shares_are_of_shares():
    """What is learnt is moved to shares between the bounds; a sum of one is no news."""
    now = np.array([0.3, 0.3, 0.4])
    bounds = Bounds(low=0.26, high=[0.4, 1, 1], total=1.0, max_change=0.08)
    project = projection_of(bounds, LOG_RATIOS, 3, np.asarray(LOG_RATIOS.place(now)))
    for z in ([0.0, 0.0], [3.0, -2.0], [-9.0, 9.0], [40.0, 40.0]):
        weights = LOG_RATIOS.weights(np.asarray(project(jnp.array(z))))
        assert weights.sum() == pytest.approx(1)
        assert np.abs(weights - now).max() <= 0.08 + 1e-6
        assert weights.min() >= 0.26 - 1e-6
    np.testing.assert_allclose(project(jnp.array([-0.1, -0.2])), [-0.1, -0.2], atol=1e-9)
    with pytest.raises(ValueError, match="sum: expected 1, as shares"):
        projection_of(Bounds(total=2.0), LOG_RATIOS, 3, None)


def test_production_in_each_space():
    """Weights at their place; a policy of the kind as what is normal of it; others by their draws;
    what the log's policy does not play is refused.
    """
    made = {name: space_of(world.logging, None, "log") for name, world in WORLDS.items()}
    weights = {"truncated": [0.2, 3.0], "clipped": [0.0, 3.0], "shares": [0.2, 0.3, 0.5]}
    for name, point in weights.items():
        at = made[name].place(point)
        np.testing.assert_allclose(made[name].weights(at), point, rtol=1e-12)
    assert made["clipped"].place(WORLDS["clipped"].logging).mean.tolist() == [0.5, 0.5]
    moved = made["dirichlet"].place(Dirichlet(jnp.array([4.0, 2.0, 3.0])))
    expected = digamma([4.0, 2.0]) - digamma(3.0), polygamma(1, [4.0, 2.0]) + polygamma(1, 3.0)
    np.testing.assert_allclose(moved.mean, expected[0], atol=0.03)
    np.testing.assert_allclose(np.diagonal(moved.covariance), expected[1], rtol=0.05)
    strange = {"truncated": [0.0, 1.0], "clipped": [1.1, 1.0], "shares": [0.2, 0.2, 0.2]}
    for name, point in strange.items():
        for given in (point, Gaussian.diagonal(point, 0.5)):
            with pytest.raises(ValueError, match="production: expected weights"):
                made[name].place(given)


STRANGE = {
    "arms beside a normal": Product((NORMAL, Discrete.of([[0.0], [1.0]], np.ones(2)))),
    "shares beside a normal": Product((NORMAL, WORLDS["dirichlet"].logging)),
    "several clipped": Mixture.of(np.ones(2), [WORLDS["clipped"].logging] * 2),
}


@pytest.mark.parametrize("logging", STRANGE.values(), ids=STRANGE)
def test_policies_beside_which_what_is_learnt_has_no_density(logging):
    """Refused by their kind, with what to do; products of normals, truncated or clipped are not."""
    with pytest.raises(ValueError, match="place: expected a log of normal.*mopl compare"):
        space_of(logging, None, "place")
    spaces = {
        "weights": Product((NORMAL, NORMAL)),
        "soft bounds": Product((NORMAL, WORLDS["truncated"].logging)),
        "unclipped": Product((NORMAL, WORLDS["clipped"].logging)),
    }
    for name, policy in spaces.items():
        assert space_of(policy, None, "place").name == name
