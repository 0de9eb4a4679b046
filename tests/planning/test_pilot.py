"""The pilot's family and names: log-normal, truncated and clipped weights and shares are planned in
the space that is learnt in, other kinds are refused with a way out, and weights have the names of
the log.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from command import assert_refused, document, mopl
from worlds import write

from mopl_jax.io.policy_json import write_policy
from mopl_jax.learning.which_space import told_by_policy
from mopl_jax.policies import (
    ClippedNormal,
    Dirichlet,
    Discrete,
    Gaussian,
    Mixture,
    Product,
    TruncatedNormal,
)
from mopl_jax.policies.transformed import EXP, SHARES, Transformed

N, DRAWS, SCALE = 400, 400_000, np.array([0.2, 0.4])
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


BETWEEN = Gaussian.diagonal([0.2, 0.6], [0.3, 0.5])
KINDS = {
    "unclipped": (ClippedNormal(BETWEEN, *BOX), "0.3,0.5", (0.2, 0.3)),
    "soft bounds": (TruncatedNormal(BETWEEN, *BOX), "0.3,0.5", (0.2, 0.3)),
    "log ratios": (Transformed(Gaussian.diagonal([0.3], 0.5), SHARES), "0.6,0.4", (0.3,)),
}
DIRICHLET = Dirichlet(jnp.array([4.0, 3.0]))


@pytest.mark.parametrize("space", KINDS)
def test_other_kinds_are_planned_in_the_space_that_is_learnt_in(tmp_path, space):
    """Effective rows, errors and gain are those of draws of what is planned, as they are played;
    clipped weights have a slope as they are played, others before their map.
    """
    policy, current, step = KINDS[space]
    path, logging, *_ = pilot(tmp_path, policy)
    roles = ("--pilot", path, "--action", "w_", "--logging", logging, "--current", current)
    asked = ("--step", ",".join(map(str, step)), "--noise", "0.3", "--n", "1000")
    said = document("plan", *roles, *asked, "--gain", "0.1")
    assert said["space"] == space
    known, names = said["assumed"], ("current", "step", "target_scale")
    at, moved, scale = (np.array(known[name]) for name in names)
    plays = told_by_policy(policy)
    assert plays.weights(at) == pytest.approx([float(x) for x in current.split(",")])
    slope = np.array(said["pilot"]["slope"])
    design = said["designs"]["normal"]
    assert ("uniform" in said["designs"]) == (space != "unclipped")
    of = design["scale"] * np.ones(len(at))
    if space == "unclipped":
        of = np.asarray(BETWEEN.scale)
        assert design["scale"] == pytest.approx(np.sqrt(np.mean(of**2)))
    else:
        drawn = np.asarray(plays.backward(np.asarray(_weights_of(path))))
        of = drawn.std(axis=0)
    played = [
        plays.served(Gaussian.diagonal(mean, width))
        for mean, width in ((at, of), (at + moved, scale), (at, scale))
    ]
    action = np.asarray(jax.vmap(played[0].sample)(jax.random.split(jax.random.key(9), DRAWS)))
    seen = action if space == "unclipped" else np.asarray(plays.backward(action))
    reward = seen @ slope + 0.3 * np.random.default_rng(2).normal(size=DRAWS)
    density = [np.asarray(jax.vmap(x.log_density)(action)) for x in played]
    weight = [np.exp(x - density[0]) for x in density[1:]]
    value = [w @ reward / w.sum() for w in weight]
    influence = [w * (reward - v) for w, v in zip(weight, value, strict=True)]
    assert design["ess_share"] == pytest.approx(1 / np.mean(weight[0] ** 2), rel=0.03)
    error = np.sqrt(np.mean((influence[0] - influence[1]) ** 2) / 1000)
    assert design["gain_standard_error"] == pytest.approx(error, rel=0.03)
    alone = np.sqrt(np.mean(influence[0] ** 2) / 1000)
    assert design["standard_error"] == pytest.approx(alone, rel=0.03)


def _weights_of(path):
    table = pq.read_table(path)
    return np.stack([table["w_a"].to_numpy(), table["w_b"].to_numpy()], axis=1)


def test_a_gain_and_a_cost_of_clipped_weights_are_those_of_what_is_played(tmp_path):
    """Of a surface 2a₁ − ½a₁², by draws: what is beyond a bound gains nothing, and costs nothing
    but what it takes from the mean.
    """
    keys = jax.random.split(jax.random.key(0), 2000)
    policy = ClippedNormal(BETWEEN, *BOX)
    action = np.asarray(jax.vmap(policy.sample)(keys))
    reward = 2 * action[:, 0] - 0.5 * action[:, 0] ** 2
    columns = {"w_a": action[:, 0], "w_b": action[:, 1], "reward": reward}
    path = write(tmp_path / "pilot.parquet", columns)
    logging = write_policy(tmp_path / "logging.json", policy)
    roles = ("--pilot", path, "--action", "w_", "--logging", logging, "--step", "0.4,0")
    said = document("plan", *roles, "--current", "0.1,0.5")
    at, scale = (np.array(said["assumed"][name]) for name in ("current", "target_scale"))
    drawn = np.random.default_rng(4).normal(size=(DRAWS, 2))

    def earns(mean, width):
        weight = np.clip(mean + width * drawn, 0, 1)[:, 0]
        return np.mean(2 * weight - 0.5 * weight**2)

    expected = earns(at + [0.4, 0], scale) - earns(at, scale)
    assert said["assumed"]["gain"] == pytest.approx(expected, abs=0.002)
    lost = 2 * 0.1 - 0.5 * 0.1**2 - earns(at, np.asarray(BETWEEN.scale))
    assert said["designs"]["normal"]["cost"] == pytest.approx(lost, abs=0.003)


def test_dirichlet_shares_are_planned_as_log_ratios(tmp_path):
    """Around the mean log ratio, ψ(4) − ψ(3) = 1/3, and as widely, √(ψ′(4) + ψ′(3))."""
    path, logging, *_ = pilot(tmp_path, DIRICHLET)
    said = document("plan", "--pilot", path, "--action", "w_", "--logging", logging)
    assert said["space"] == "log ratios"
    assert said["assumed"]["current"] == pytest.approx([1 / 3], abs=0.12)
    assert said["designs"]["normal"]["scale"] == pytest.approx(0.8238, rel=0.1)
    refused = mopl(
        "plan", "--pilot", path, "--action", "w_", "--logging", logging, "--current", "2,1"
    )
    assert_refused(refused, "--current: expected weights above 0 that add up to one")


def test_arms_are_refused_with_a_way_out(tmp_path):
    """Until now a normal exploration was planned of them."""
    arms = Discrete.of(np.array([[0.1, 0.2], [0.3, 0.1]]), np.array([0.5, 0.5]))
    path, logging, *_ = pilot(tmp_path, arms)
    refused = mopl("plan", "--pilot", path, "--action", "w_", "--logging", logging)
    assert_refused(refused, "policy of kind discrete; drop --pilot and give --d")


def test_a_product_of_such_is_refused(tmp_path):
    arms = Discrete.of(np.array([[0.1], [0.3]]), np.array([0.5, 0.5]))
    path, logging, *_ = pilot(tmp_path, Product((Gaussian.diagonal([1.0], 0.2), arms)))
    refused = mopl("plan", "--pilot", path, "--action", "w_", "--logging", logging)
    assert_refused(refused, "policy of kind discrete beside others; drop --pilot")


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
