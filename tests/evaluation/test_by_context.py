"""Contextual policies on a log: each row is weighed by the policy of its own context."""

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from command import document, mopl

from mopl_jax.evaluation.comparison import compare
from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.io.draws import draw
from mopl_jax.io.policy_json import write_policy
from mopl_jax.io.read import read_logs
from mopl_jax.policies import Gaussian, Mixture, Segmented

N = 600
RNG = np.random.default_rng(0)
COUNTRY = RNG.choice(["DE", "FR", None], N)
ACTION = RNG.normal(size=(N, 2))
REWARD = np.where(COUNTRY == "DE", 1.0, -1.0) * ACTION[:, 0] + RNG.normal(size=N)
LOGGING = Gaussian.diagonal([0.0, 0.0], 1.0)
LOG = pa.table(
    {
        "w_1": ACTION[:, 0],
        "w_2": ACTION[:, 1],
        "reward": REWARD,
        "country": COUNTRY.tolist(),
        "user": np.arange(N) // 2,
    }
)
ROLES = {"action": "w_", "cluster": "user"}
LEFT, RIGHT = (Gaussian.diagonal([x, 0.1], 0.8) for x in (-0.5, 0.5))
SPLIT = Segmented.of(("country",), [("DE",), (None,)], [RIGHT, LEFT], LEFT)
IN_PASSES = {"in memory": 10_000, "in blocks": 100}


@pytest.mark.parametrize("in_memory", IN_PASSES.values(), ids=IN_PASSES)
def test_a_value_is_that_of_weights_by_row(in_memory):
    """In memory, and in blocks, with users: as a column of the densities by hand."""
    right = COUNTRY == "DE"
    mean = np.where(right, 0.5, -0.5)
    z = (ACTION - np.stack([mean, np.full(N, 0.1)], axis=1)) / 0.8
    density = -0.5 * (z**2).sum(axis=1) - np.log(2 * np.pi) - 2 * np.log(0.8)
    by_hand = LOG.append_column("density", pa.array(density))
    expected = evaluate(
        by_hand, logging=LOGGING, log_target_propensity="density", in_memory=in_memory, **ROLES
    )
    made = evaluate(LOG, SPLIT, logging=LOGGING, in_memory=in_memory, **ROLES)
    assert made.units == N // 2
    np.testing.assert_allclose(made.value, expected.value, rtol=1e-12)
    np.testing.assert_allclose(made.interval.lower, expected.interval.lower, rtol=1e-10)
    assert np.isnan(made.unseen)


def test_the_same_policy_for_all_is_that_policy():
    """And its difference to it is nothing."""
    same = Segmented.of(("country",), [("DE",), ("FR",)], [LEFT, LEFT], LEFT)
    plain, alike, split = compare(LOG, [LEFT, same, SPLIT], logging=LOGGING, **ROLES).policies
    np.testing.assert_allclose((alike.value, alike.ess), (plain.value, plain.ess), rtol=1e-12)
    assert alike.difference.value == pytest.approx(0, abs=1e-12)
    assert split.difference.lower > 0


def test_a_log_may_be_logged_by_context():
    """Rows' log propensities are those of their own policy, and a column of others is refused."""
    logs = read_logs(LOG, logging=SPLIT, **ROLES)
    own = [SPLIT.at(country=x).log_density(jnp.asarray(a)) for x, a in zip(COUNTRY, ACTION)]  # noqa: B905
    np.testing.assert_allclose(logs.log_propensity, np.stack(own), rtol=1e-12)
    evaluated = evaluate(LOG, SPLIT, logging=SPLIT, **ROLES)
    assert evaluated.ess.kish == pytest.approx(N // 2)
    density = pa.array(np.asarray(logs.log_propensity) + 0.3 * (COUNTRY == "DE"))
    wrong = LOG.append_column("log_propensity", density)
    with pytest.raises(ValueError, match="expected the log density of the logging policy"):
        evaluate(wrong, SPLIT, logging=SPLIT, **ROLES)


def test_unknown_values_are_named_and_played_what_all_others_are():
    known = Segmented.of(("country",), [("DE",)], [RIGHT], LEFT)
    made = evaluate(LOG, known, logging=LOGGING, **ROLES)
    np.testing.assert_allclose(made.value, evaluate(LOG, SPLIT, logging=LOGGING, **ROLES).value)
    (said,) = [x for x in made.warnings if x.startswith("country: no weights for ")]
    assert "missing" in said
    assert "FR" in said


@pytest.mark.parametrize("store", ["parquet", "csv"])
def test_what_a_file_says_of_a_number_is_one_level(tmp_path, store):
    """007 is text in a CSV, and 7 a number in both: as the policy names them."""
    import pyarrow.csv
    import pyarrow.parquet

    log = LOG.append_column("tier", pa.array(np.arange(N) % 3))
    path = tmp_path / f"log.{store}"
    {"csv": pyarrow.csv.write_csv, "parquet": pyarrow.parquet.write_table}[store](log, path)
    by_tier = Segmented.of(("tier",), [(0,), ("1",)], [RIGHT, LEFT], LOGGING)
    by_tier = write_policy(tmp_path / "policy.json", by_tier)
    made = evaluate(path, by_tier, logging=LOGGING, **ROLES)
    assert [x for x in made.warnings if "no weights" in x] == [
        "tier: no weights for 2: these rows are played what the policy has for all others"
    ]


def test_what_a_log_cannot_answer_is_refused_in_one_line():
    asked = {"logging": LOGGING, **ROLES}
    with pytest.raises(ValueError, match="target policy depends on country: no column 'country'"):
        evaluate(LOG.drop_columns(["country"]), SPLIT, **asked)
    with pytest.raises(ValueError, match="expected a target whose mean and covariance are known"):
        evaluate(LOG, SPLIT, estimator="doubly_robust", **asked)
    with pytest.raises(ValueError, match="whose weights depend on country"):
        evaluate(LOG, LEFT, logging=Mixture.of([1.0, 1.0], [SPLIT, SPLIT]), **ROLES)
    lists = LOG.set_column(3, "country", pa.array([["DE"]] * N))
    with pytest.raises(ValueError, match="column 'country': expected numbers or text, got list"):
        evaluate(lists, SPLIT, **asked)


def test_draws_are_of_the_policy_of_the_request():
    """With its columns beside them; what the policy does not know is drawn what all others are."""
    asked = {"DE": RIGHT, None: LEFT, "unknown": LEFT}
    for value, policy in asked.items():
        found = draw(SPLIT, 5, seed=3, context={"country": value})
        expected = draw(policy, 5, seed=3)
        assert found.column_names == ["country", *expected.column_names]
        assert found.column("country").to_pylist() == [value] * 5
        assert found.drop_columns(["country"]).equals(expected)


def test_draws_without_a_request_name_the_remedy(tmp_path):
    path = write_policy(tmp_path / "split.json", SPLIT)
    refused = mopl("draw", path)
    assert refused.code == 2
    assert "--context country=…" in refused.err
    assert "policy.at(country=…)" in refused.err
    made = document("draw", path, "--context", "country=DE")
    assert made["draws"][0]["country"] == "DE"
    assert "expected COLUMN=VALUE" in mopl("draw", path, "--context", "DE").err
    plain = write_policy(tmp_path / "plain.json", LEFT)
    assert "same for all requests" in mopl("draw", plain, "--context", "country=DE").err
