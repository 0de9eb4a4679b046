"""Rounds that are pooled certify what they taught, and weigh as in `evaluate`."""

import numpy as np
import pytest
from scipy.stats import binom
from worlds import write

from mopl_jax.estimators.divergence import population_d2
from mopl_jax.io.policy_json import write_policy
from mopl_jax.io.read import open_log
from mopl_jax.learning.long_log import certify_in_passes
from mopl_jax.learning.objective import VALUATIONS
from mopl_jax.learning.pipeline import learn
from mopl_jax.logs import Logs, held_out
from mopl_jax.policies import Gaussian

N, MEANS = 200, (0.0, 0.8)  # rows of a round, and the mean that it plays of both weights


def played(folder, k, mean, rng, slope=0.0):
    """The actions and rewards of round k, N(mean, I), which are written with their policy."""
    action = mean + rng.normal(size=(N, 2))
    reward = slope * action.sum(axis=1) + 0.5 * rng.normal(size=N)
    columns = {"w_a": action[:, 0], "w_b": action[:, 1], "reward": reward}
    write(folder / f"{k}.parquet", columns)
    write_policy(folder / f"{k}.json", Gaussian.diagonal(np.broadcast_to(mean, 2), 1.0))
    return action, reward


def described(folder, count, more=""):
    """The description of so many rounds."""
    files = (f'[[files]]\npath = "{k}.parquet"\nlogging = "{k}.json"\n' for k in range(count))
    (folder / "log.toml").write_text(f'action = "w_"\n{more}' + "".join(files))
    return folder / "log.toml"


def snips(policy, action, logged, reward, speaks_for):
    """By hand."""
    scale = np.asarray(policy.scale) if policy.scale.ndim == 1 else None
    factor = np.diag(scale) if scale is not None else np.asarray(policy.scale)
    z = np.linalg.solve(factor, (action - np.asarray(policy.mean)).T)
    log_density = -0.5 * np.square(z).sum(axis=0) - np.log(np.abs(np.diag(factor))).sum()
    weight = np.exp(log_density - logged) * speaks_for
    return weight @ reward / weight.sum()


@pytest.fixture
def two(tmp_path):
    """Two rounds: their actions, rewards, and log densities but for a constant."""
    rng = np.random.default_rng(0)
    rounds = [played(tmp_path, k, mean, rng, 0.3) for k, mean in enumerate(MEANS)]
    action, reward = map(np.concatenate, zip(*rounds, strict=True))
    mean = np.repeat(MEANS, N)[:, None]
    return action, reward, -0.5 * np.square(action - mean).sum(axis=1)


def known(policies):
    """1/d₂ of each round, summed over the policies."""
    rounds = [Gaussian.diagonal([mean] * 2, 1.0) for mean in MEANS]
    d2 = np.array([sum(float(population_d2(x, y)) for y in policies) for x in rounds])
    assert d2.max() / d2.min() > 1.2
    return 1 / d2


def by_hand(policies, rows, part):
    """The gain of the first of the policies over the second, by rows weighed by their round."""
    new, old = (snips(policy, *rows, known(policies)[part]) for policy in policies[:2])
    return new - old


PART = np.repeat([0, 1], N)


def test_a_round_certifies_as_much_as_it_knows(tmp_path, two):
    """Over production, by rows whose rewards are on one level."""
    made = learn(described(tmp_path, 2), estimator="snips", share=0.5, production=[0.0, 0.0])
    assert made.held is not None
    assert made.against_production is not None
    policy = made.proposal.certified
    base, logged = (Gaussian(x, policy.scale) for x in (np.zeros(2), made.whitening.mean))
    action, _, density = two
    kept = held_out(Logs(action, density, density), 0.5, 0)
    np.testing.assert_allclose(np.asarray(made.held.action), action[kept], atol=1e-5)
    rows = action[kept], density[kept], np.asarray(made.held.reward)
    gain = by_hand([policy, base, logged], rows, PART[kept])
    assert float(made.against_production.gain) == pytest.approx(gain, abs=2e-4)


def test_folds_certify_by_the_same_weights(tmp_path, two):
    """One weight a round for the policies of all folds."""
    made = learn(described(tmp_path, 2), estimator="snips", folds=2, production=[0.0, 0.0])
    assert made.held is not None
    assert made.held.sampling_weight is not None
    policies = [proposal.certified for proposal in made.made]
    policies += [Gaussian(x, policies[0].scale) for x in (made.whitening.mean, np.zeros(2))]
    expected = known(policies)[PART]
    found = np.asarray(made.held.sampling_weight)
    np.testing.assert_allclose(found / found.max(), expected / expected.max(), rtol=1e-4)


def test_passes_certify_by_the_same_weights(tmp_path, two):
    """Of a log that is not held."""
    reader, scale = open_log(described(tmp_path, 2)), np.full(2, 0.7)
    policy, base = (Gaussian(np.full(2, mean), scale) for mean in (0.6, -0.2))
    nothing = {"surface": None, "valuation": VALUATIONS["snips"], "certificate": "normal"}
    (made,) = certify_in_passes(policy, reader, [np.full(2, -0.2)], **nothing)  # pyright: ignore[reportArgumentType]
    action, reward, logged = two
    gain = by_hand([policy, base], (action, logged, reward), PART)
    assert float(made.gain) == pytest.approx(gain, abs=2e-4)


def test_rounds_without_a_policy_each_count_alike(tmp_path, two):
    """Where one policy logged all there is nothing to weigh."""
    log = described(tmp_path, 1)
    made = learn(log, estimator="snips", share=0.5)
    assert made.held is not None
    assert made.held.sampling_weight is None


@pytest.mark.nightly
def test_certificates_of_what_rounds_taught_hold(tmp_path):
    """Nothing is to be gained; each round is aimed at what the noise before it made best."""
    rng, hits, logs = np.random.default_rng(5), 0, 150
    for number in range(logs):
        folder = tmp_path / str(number)
        folder.mkdir()
        mean = np.zeros(2)
        for k in range(3):
            action, reward = played(folder, k, mean, rng)
            slope = np.linalg.lstsq(np.c_[np.ones(N), action], reward, rcond=None)[0][1:]
            mean = mean + 0.75 * slope / np.linalg.norm(slope)
        made = learn(described(folder, 3), production=[0.0, 0.0], share=0.5, seed=number)
        assert made.against_production is not None
        hits += float(made.against_production.gain_bound) <= 1e-9
    assert binom.cdf(hits, logs, 0.95) > 1e-3  # too few hold; that all do is no fault
