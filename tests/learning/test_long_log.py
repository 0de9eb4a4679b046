"""A log that is not held in memory: a sample of its users teaches, all others certify in passes."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mopl_jax
from mopl_jax.io import read
from mopl_jax.io.half import Half
from mopl_jax.learning import long_log
from mopl_jax.learning.objective import VALUATIONS
from mopl_jax.learning.response_surface import fit_surface
from mopl_jax.logs import num_units, speaks_for
from mopl_jax.policies import Gaussian
from mopl_jax.policies.mapped_normal import log_normal

N, HELD = 6000, 2500
LOGGING = {"logs": Gaussian.diagonal(np.zeros(2), 1.0), "weights": log_normal(np.zeros(2), 1.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One log twice: of weights, and of their logarithms; three rows a user, in any order."""
    made, rng = tmp_path_factory.mktemp("long"), np.random.default_rng(3)
    z, user = rng.standard_normal((N, 2)), rng.permutation(N) // 3
    reward = z[:, 0] - 0.3 * np.square(z).sum(axis=1) + rng.standard_normal(N // 3)[user]
    for name, action in (("weights", np.exp(z)), ("logs", z)):
        columns = {"w_a": action[:, 0], "w_b": action[:, 1], "kept": reward, "user": user}
        columns["day"] = np.arange(N) % 100
        pq.write_table(pa.table(columns), made / f"{name}.parquet", row_group_size=700)
    return made


def opened(folder, name="logs", **roles):
    roles = {"action": "w_", "reward": "kept", "logging": LOGGING[name]} | roles
    return read.open_log(folder / f"{name}.parquet", **roles)


@pytest.mark.parametrize("cluster", [None, "user"])
def test_halves_are_disjoint_and_all_of_the_log(folder, cluster):
    """By user, each pass alike; another seed takes others."""
    reader = opened(folder, cluster=cluster)
    sample, others = read.halves(reader, 0.3, 0)
    rest = mopl_jax.read_logs(others)
    assert others.source.count() == len(rest.reward) == N - len(sample.reward)
    both = np.sort(np.concatenate([sample.reward, rest.reward]))
    np.testing.assert_array_equal(both, np.sort(mopl_jax.read_logs(reader).reward))
    assert abs(len(sample.reward) / N - 0.3) < 4 * np.sqrt(0.3 * 0.7 / (N / 3))
    np.testing.assert_array_equal(mopl_jax.read_logs(others).reward, rest.reward)
    again, _ = read.halves(reader, 0.3, 1)
    assert not np.array_equal(np.sort(again.reward)[:100], np.sort(sample.reward)[:100])
    if cluster:
        users = [num_units(part) for part in (sample, rest)]
        assert sum(users) == N // 3
        assert len(sample.reward) == 3 * users[0]


def test_a_half_is_a_share_of_all_numbers():
    """Also far out, and of numbers that come in steps."""
    for numbers in (np.arange(10**6), 10**12 + 64 * np.arange(10**6)):
        for seed in (0, 1, 2**40 + 1):
            share = Half(0.1, seed).has(numbers).mean()
            assert abs(share - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 10**6)


@pytest.mark.parametrize(
    ("name", "roles", "estimator"),
    [
        ("logs", {"time": "day", "half_life": 60}, "doubly_robust"),
        ("weights", {"cluster": "user"}, "doubly_robust"),
        ("logs", {"cluster": "user"}, "beta_ips"),
    ],
)
def test_what_certifies_in_passes_is_what_certifies_in_memory(folder, name, roles, estimator):
    """The same policy, and a quadratic reward model of the rows that taught, on the same rows; also
    of rows that speak for fewer the older they are.
    """
    reader, production = opened(folder, name, **roles), np.array([1.2, 0.9])
    made = mopl_jax.learn(reader, in_memory=HELD, production=production, estimator=estimator)
    sample, others = read.halves(reader, HELD / N, 0)
    np.testing.assert_array_equal(made.logs.reward, sample.reward)
    assert made.certifying == others.source.count()
    rest = mopl_jax.read_logs(others)
    unsure = dataclasses.replace(made, certificate=None, certifying=0)
    taught = map(jnp.asarray, (made.logs.action, made.logs.reward))
    surface = fit_surface(*taught, made.whitening, kept=speaks_for(made.logs))
    made_of = VALUATIONS[estimator](surface)
    for found, baseline in ((made.certificate, None), (made.against_production, production)):
        expected = mopl_jax.certify(unsure, rest, baseline, value_estimator=made_of)
        for field in ("value", "bound", "gain", "gain_bound", "ess", "units", "keep"):
            assert float(getattr(found, field)) == pytest.approx(
                float(getattr(expected, field)), rel=1e-6, abs=1e-9
            ), field
        assert int(found.diagnosis.verdict) == int(expected.diagnosis.verdict)
    assert not made.against_production.keep
    assert made.to_dict()["rows"] == {
        "learning": len(sample.reward),
        "certification": N - len(sample.reward),
    }


def test_a_policy_that_stays_gains_nothing(folder):
    reader = opened(folder)
    made = mopl_jax.learn(reader, in_memory=HELD)
    policy = Gaussian(made.whitening.mean, made.proposal.certified.scale)
    (found,) = long_log.certify_in_passes(policy, reader, [policy.mean], surface=made.surface)
    assert float(found.gain) == float(found.gain_bound) == 0
    assert bool(found.keep)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"folds": 4}, "^folds: .*logs.parquet has 6,000 rows.*--in-memory"),
        ({"guardrails": ["kept:-1%"]}, "^guardrails: .*logs.parquet has 6,000 rows"),
        ({"share": 0.1}, "^share: expected a share of 6,000 rows"),
        ({"certificate": "empirical_likelihood"}, "needs rows, not only sums"),
        ({"seed": -1}, "seed"),
        ({"trades": 3}, "^trades: .*logs.parquet has 6,000 rows"),
        ({"in_memory": 0}, "^in_memory: expected 1 to"),
    ],
)
def test_what_cannot_be_had_of_it_is_said_at_once(folder, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        mopl_jax.learn(opened(folder), **({"in_memory": HELD} | options))
