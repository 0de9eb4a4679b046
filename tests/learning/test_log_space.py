"""A log of log-normal weights: all that is learnt is learnt of the logarithms."""

import dataclasses

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import document, mopl

import mopl_jax
from mopl_jax.learning.constraints import Bounds
from mopl_jax.learning.log_space import has_log_normal_densities
from mopl_jax.policies import Gaussian
from mopl_jax.policies.mapped_normal import log_normal

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
