"""The verb `plan`: a record whose document is the command's; its designs by the closed forms."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import mopl_jax as mopl
from mopl_jax.logs import Logs
from mopl_jax.planning import precision
from mopl_jax.policies.gaussian import Gaussian

WORLD = {"step": 0.6, "gain": 0.02, "noise": 0.5, "curvature": 0.01, "horizon": 1e6}


@pytest.fixture(scope="module")
def made():
    return mopl.plan(4, **WORLD)


def test_document_is_json_and_leaves_out_what_is_not_known(made):
    document = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    known = {"designs", "assumed", "pilot", "warnings", "objectives", "space", "minimise"}
    assert set(document) == known
    assert document["designs"]["normal"]["ess"] == made.designs[0].ess
    assert document["assumed"]["horizon"] == 1e6
    alone = mopl.plan(4).to_dict()
    assert "power" not in alone["designs"]["normal"]
    assert "gain" not in alone["assumed"]


def test_table_has_a_row_for_each_design(made):
    table = made.to_arrow()
    assert table["name"].to_pylist() == [design.name for design in made.designs]
    assert table["ess"].to_pylist() == [design.ess for design in made.designs]


def test_repr_is_one_line(made):
    assert "normal: ESS 15,582" in repr(made)
    assert len(repr(made)) < 200


def test_numbers_are_those_of_the_closed_forms(made):
    """A vector for every number that the command takes as text; the covariance in full."""
    target, production = (Gaussian.diagonal(np.full(4, mean), 0.5) for mean in (0.3, 0.0))
    full = mopl.plan(covariance=np.eye(4), **(WORLD | {"step": [0.3] * 4}))
    variance = precision.variance(
        Gaussian.full(np.zeros(4), np.eye(4)),
        Gaussian.full(target.mean, target.covariance),
        jnp.full(4, 0.02 * 0.3 / 0.36),
        0.5,
        Gaussian.full(production.mean, production.covariance),
    )
    expected = float(jnp.sqrt(variance / full.assumed.n))
    assert full.designs[0].gain_standard_error == pytest.approx(expected, rel=1e-9)
    assert made.designs[0].gain_standard_error == pytest.approx(expected, rel=1e-9)


def test_pilot_is_a_log():
    """Slope and curvature of a noiseless quadratic surface are exact, and so is the gain."""
    rng = np.random.default_rng(0)
    action = rng.normal(size=(200, 2))
    reward = action @ [0.2, 0.1] - 0.15 * (action**2).sum(1)
    pilot = Logs(jnp.asarray(action), jnp.zeros(200), jnp.asarray(reward))
    told = mopl.plan(pilot=pilot, current=0.0, step=0.2)
    step = 0.2 * np.array([0.2, 0.1]) / np.hypot(0.2, 0.1)
    assert told.assumed.step == pytest.approx(step, rel=1e-8)
    assert told.assumed.gain == pytest.approx(step @ [0.2, 0.1] - 0.15 * step @ step, rel=1e-8)
    assert told.to_dict()["pilot"]["slope"] == pytest.approx([0.2, 0.1], rel=1e-8)
    still = Logs(pilot.action.at[:, 1].set(0.0), pilot.log_propensity, pilot.reward)
    with pytest.raises(ValueError, match="weights of --pilot: expected standard deviations"):
        mopl.plan(pilot=still, current=0.0, step=0.2)
