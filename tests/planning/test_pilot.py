"""The pilot's family and names: log-normal weights are planned in their logarithms, other kinds are
refused with a way out, and weights have the names of the log.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import assert_refused, document, mopl
from worlds import write

from mopl_jax.io.policy_json import write_policy
from mopl_jax.policies import (
    ClippedNormal,
    Dirichlet,
    Discrete,
    Gaussian,
    Mixture,
    Product,
    TruncatedNormal,
)
from mopl_jax.policies.transformed import EXP, Transformed

N, SCALE = 400, np.array([0.2, 0.4])
LATENT = Gaussian.diagonal([0.0, 1.0], SCALE)
LOG_NORMAL = Transformed(LATENT, EXP)
BOX = jnp.zeros(2), jnp.ones(2)


def pilot(folder, policy, name="pilot.parquet"):
    """A log of the policy, whose reward grows with the logarithm of the first weight."""
    keys = jax.random.split(jax.random.key(0), N)
    action = np.asarray(jax.vmap(policy.sample)(keys))
    noise = np.random.default_rng(1).normal(size=N)
    reward = np.log(np.maximum(action[:, 0], 1e-9)) + 0.1 * noise
    path = write(folder / name, {"w_a": action[:, 0], "w_b": action[:, 1], "reward": reward})
    return path, write_policy(folder / "logging.json", policy), action, reward


def test_a_log_normal_pilot_is_planned_in_its_logarithms(tmp_path):
    """By the same numbers as a normal pilot of the logarithms; `current` are weights."""
    path, logging, action, reward = pilot(tmp_path, LOG_NORMAL)
    roles = ("--action", "w_", "--logging", logging)
    said = document("plan", "--pilot", path, *roles, "--current", "1,2.7182818284590451")
    columns = {"w_a": np.log(action[:, 0]), "w_b": np.log(action[:, 1]), "reward": reward}
    normal = write(tmp_path / "logs.parquet", columns)
    latent = write_policy(tmp_path / "latent.json", LATENT)
    same = document(
        "plan", "--pilot", normal, "--action", "w_", "--logging", latent, "--current", "0,1"
    )
    assert said["designs"]["normal"] == pytest.approx(same["designs"]["normal"])
    assert (said["space"], same["space"]) == ("logarithms", "weights")
    assert said["objectives"] == same["objectives"] == ["w_a", "w_b"]
    assert said["pilot"]["slope"][0] == pytest.approx(1, abs=0.1)
    assert_refused(mopl("plan", "--pilot", path, *roles, "--current", "0,1"), "weights above 0")
    wide = ("--covariance", latent)
    assert_refused(mopl("plan", "--pilot", path, *roles, *wide), "kind 'log_normal'")
    shaped = document("plan", "--pilot", path, *roles, "--covariance", logging)
    assert shaped["designs"]["normal"]["scale"] == pytest.approx(np.sqrt(np.mean(SCALE**2)))


def test_the_table_has_the_names_of_the_log(tmp_path):
    path, logging, *_ = pilot(tmp_path, LOG_NORMAL)
    shown = mopl("plan", "--pilot", path, "--action", "w_", "--logging", logging).out
    assert "of the logarithms of the weights" in shown
    rows = [line.split("   ")[0].strip() for line in shown.splitlines()]
    assert {"log w_a", "log w_b"} <= set(rows)


@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        (TruncatedNormal(LATENT, *BOX), "truncated_normal"),
        (ClippedNormal(LATENT, *BOX), "clipped_normal"),
        (Dirichlet(jnp.array([2.0, 3.0])), "dirichlet"),
        (Discrete.of(np.array([[0.1, 0.2], [0.3, 0.1]]), np.array([0.5, 0.5])), "discrete"),
    ],
)
def test_other_kinds_are_refused_with_a_way_out(tmp_path, policy, kind):
    """By themselves and within a mixture; until now a normal exploration was planned of them."""
    path, logging, *_ = pilot(tmp_path, policy)
    refused = mopl("plan", "--pilot", path, "--action", "w_", "--logging", logging)
    assert_refused(refused, f"policy of kind {kind}; drop --pilot and give --d")


def test_a_product_of_such_is_refused(tmp_path):
    arms = Discrete.of(np.array([[0.1], [0.3]]), np.array([0.5, 0.5]))
    path, logging, *_ = pilot(tmp_path, Product((Gaussian.diagonal([1.0], 0.2), arms)))
    refused = mopl("plan", "--pilot", path, "--action", "w_", "--logging", logging)
    assert_refused(refused, "policy of kind discrete; drop --pilot")


def test_a_pilot_whose_kind_is_not_declared_is_looked_at(tmp_path):
    """Densities in a column: log-normal ones are recognised, and arms are refused."""
    path, _, action, reward = pilot(tmp_path, LOG_NORMAL)
    density = np.asarray(jax.vmap(LOG_NORMAL.log_density)(action))
    log = {"w_a": action[:, 0], "w_b": action[:, 1], "reward": reward, "log_propensity": density}
    named = ("--action", "w_")
    said = document("plan", "--pilot", write(tmp_path / "a.csv", log), *named)
    assert said["space"] == "logarithms"
    rounded = log | {"w_a": np.round(action[:, 0]), "log_propensity": np.zeros(N) - 1.0}
    refused = mopl("plan", "--pilot", write(tmp_path / "b.csv", rounded), *named)
    assert_refused(refused, "distinct actions")


def test_a_mixture_of_normals_is_a_pilot(tmp_path):
    both = Mixture.of([0.5, 0.5], [LATENT, Gaussian.diagonal([0.5, 1.5], SCALE)])
    path, logging, *_ = pilot(tmp_path, both)
    assert document("plan", "--pilot", path, "--action", "w_", "--logging", logging)


@pytest.mark.parametrize(("noise", "warned"), [(0.1, False), (30.0, True)])
def test_a_gain_that_the_pilot_does_not_know_is_said(tmp_path, noise, warned):
    """Along the slope of noise every pilot expects a gain; named by `--gain` it is a hope."""
    rng = np.random.default_rng(3)
    action = rng.normal(size=(N, 2))
    reward = action[:, 0] + noise * rng.normal(size=N)
    columns = {"w_a": action[:, 0], "w_b": action[:, 1], "reward": reward}
    path = write(tmp_path / "pilot.parquet", columns)
    logging = write_policy(tmp_path / "logging.json", Gaussian.diagonal([0.0, 0.0], 1.0))
    roles = ("--pilot", path, "--action", "w_", "--logging", logging, "--step", "0.05")
    warnings = document("plan", *roles)["warnings"]
    assert any("which may be none" in text for text in warnings) == warned
    hoped = document("plan", *roles, "--gain", "0.1")["warnings"]
    assert not any("which may be none" in text for text in hoped)
