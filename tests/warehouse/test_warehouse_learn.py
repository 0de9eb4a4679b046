"""`learn` on a table: a sample of its users is read, all others certify in the engine."""

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from engines import assert_same, columns, engine

import mopl_jax as mopl
from mopl_jax.io import read
from mopl_jax.learning.long_log import certify_in_passes
from mopl_jax.learning.response_surface import fit_surface, moments_of
from mopl_jax.policies import Gaussian

ROLES = {"action": "action_", "reward": "reward", "cluster": "user"}


def test_what_certifies_in_the_engine_is_what_certifies_in_passes():
    """The same policy and quadratic surface on the same rows, taken out of the engine."""
    reader = read.open_log(engine(columns()), **ROLES)
    sample, others = read.halves(reader, 0.4, 0)
    names = [x for x in columns() if x.startswith("action_")]
    rest = read.open_log(others.source.table.to_pyarrow(), **ROLES)
    action = jnp.asarray(sample.action)
    whitening = moments_of(action)
    surface = fit_surface(action, jnp.asarray(sample.reward), whitening)
    policy = Gaussian(whitening.mean + 0.2, 0.8 * whitening.scale)
    asked = [np.zeros(len(names)), whitening.mean]
    found, expected = (certify_in_passes(policy, x, asked, surface=surface) for x in (others, rest))
    for one, other in zip(found, expected, strict=True):
        assert_same(one.to_dict(), other.to_dict())
        assert float(one.gain) != 0


def test_learn_reads_a_sample_only():
    """Nobody is in both parts, and what is said is what `certify` says of the rows left."""
    table = columns(3000, 900)
    made = mopl.learn(engine(table), in_memory=1200, **ROLES)
    n = made.to_dict()["rows"]
    assert n["learning"] + n["certification"] == 3000
    assert n["learning"] <= 1400
    users = made.logs.num_clusters + int(made.certificate.units)
    assert users == len(np.unique(table["user"]))
    assert not made.keep


@pytest.mark.nightly
def test_arms_in_an_engine():
    """The same arm as from the rows in memory."""
    rng, n = np.random.default_rng(0), 4000
    arm = rng.integers(0, 3, n)
    action = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])[arm]
    table = {"action_0": action[:, 0], "action_1": action[:, 1], "propensity": np.full(n, 1 / 3)}
    table |= {"reward": arm + rng.normal(size=n)}
    roles = {"action": "action_", "reward": "reward", "propensity": "propensity"}
    found = mopl.choose_arm(engine(table), **roles).to_dict()
    expected = mopl.choose_arm(pa.table(table), **roles).to_dict()
    assert_same(found, expected, (".log", ".provenance.log"))
    assert found["advice"] == "change to arm 3"
