"""Logging policies that are estimated from the actions: the family, the densities, the interval;
and refused where no one policy played.
"""

import jax
import numpy as np
import pyarrow as pa
import pytest
from command import mopl
from worlds import sample_rows, standard, write
from yardsticks import KEY, binomial_tail

from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.io.policy_json import write_policy
from mopl_jax.io.read import open_log, read_logs
from mopl_jax.policies import Discrete, Gaussian, Uniform, log_normal
from mopl_jax.policies.fitted import fit_policy

COVARIANCE = np.array([[1.0, 0.4], [0.4, 0.5]])
PLAYED = {
    "normal": Gaussian.diagonal([0.5, -1.0], [0.3, 1.0]),
    "correlated normal": Gaussian.full(np.array([0.5, -1.0]), COVARIANCE),
    "log-normal": log_normal([0.5, -1.0], [0.3, 1.0]),
    "uniform": Uniform(np.array([0.0, -1.0]), np.array([1.0, 3.0])),
    "discrete": Discrete.of([[0.0, 1.0], [0.5, 1.0], [0.5, 2.0]], [0.5, 0.3, 0.2]),
}


def actions(name, n=2000):
    return np.asarray(sample_rows(KEY, PLAYED[name], n))


@pytest.mark.parametrize("name", PLAYED)
def test_the_family_that_played_is_found_with_its_densities(name):
    """Log densities of the actions are those of the policy, to the error of some numbers."""
    action = actions(name)
    found = fit_policy(action)
    assert found.family == name
    gap = jax.vmap(found.policy.log_density)(action) - jax.vmap(PLAYED[name].log_density)(action)
    assert np.sqrt(np.mean(np.square(gap))) < 4 * np.sqrt(found.numbers / len(action))


def test_the_box_holds_all_that_was_played():
    """And is as wide as its width's error."""
    low = np.asarray(fit_policy(actions("uniform")).policy.low)
    assert (low <= actions("uniform").min(axis=0)).all()
    np.testing.assert_allclose(low, [0, -1], atol=5 * 4 / 2000)


def table_of(action, **more):
    columns = {f"w_{k}": column for k, column in enumerate(action.T)}
    return pa.table(columns | {"reward": action[:, 0]} | more)


RNG = np.random.default_rng(0)
FREE = RNG.normal(size=(3000, 2))
SHIFTED = FREE + (np.arange(3000) > 1500)[:, None] * 0.5
CONTEXT = RNG.normal(size=3000)
TARGETED = FREE + 0.3 * CONTEXT[:, None]
OF_USERS = FREE + RNG.normal(size=(300, 2))[np.arange(3000) // 10]
TWO = np.where(RNG.random((3000, 2)) < 0.5, -2, 2) + 0.3 * FREE
REFUSED = {
    "order": (table_of(SHIFTED), {}, r"depend on the order of the rows .*\[\[files\]\]"),
    "time": (table_of(SHIFTED, t=np.arange(3000)), {"time": "t"}, "depend on the time"),
    "context": (table_of(TARGETED, c=CONTEXT), {"context": "c"}, "depend on the context"),
    "user": (table_of(OF_USERS, user=np.arange(3000) // 10), {"cluster": "user"}, "on the user"),
    "shape": (table_of(TWO), {}, "look like no family that is known"),
    "few": (table_of(FREE[:20]), {}, "rows or more to estimate the"),
    "constant": (table_of(FREE * [1, 0]), {}, "expected weights that vary"),
    "densities": (table_of(FREE), {"propensity": "reward"}, "expected a log without densities"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_where_no_one_policy_played_it_is_said(case):
    table, roles, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        open_log(table, action="w_", fit_logging=True, **roles)


@pytest.mark.parametrize("time", [None, "t"])
def test_where_the_policy_changed_is_said(time):
    """By the order of the rows, and by the time of rows in any order: 1,501 are before."""
    order = np.arange(3000) if time is None else np.random.default_rng(1).permutation(3000)
    table = table_of(SHIFTED[order], t=order)
    with pytest.raises(ValueError, match="they change most after about ") as refused:
        open_log(table, action="w_", fit_logging=True, time=time)
    after = str(refused.value).partition("after about ")[2].split()[0]
    assert abs(int(after.replace(",", "")) - 1501) <= 30


def test_what_does_not_depend_is_estimated():
    """A context that says nothing; users who each keep one draw, which count once."""
    user = np.arange(3000) // 10
    table = table_of(FREE[::10][user], user=user, c=CONTEXT)
    roles = {"action": "w_", "fit_logging": True, "cluster": "user"}
    reader = open_log(table, **roles)
    np.testing.assert_allclose(reader.logging.mean, FREE[::10].mean(axis=0), rtol=1e-12)
    assert "was estimated from 3,000 actions" in reader.source.remarks[-1]
    assert open_log(table_of(FREE, c=CONTEXT), action="w_", context="c", fit_logging=True).logging


def test_each_of_several_files_has_its_own(tmp_path):
    for name, part in (("a", FREE[:1500]), ("b", FREE[1500:] + 1)):
        write(tmp_path / f"{name}.parquet", table_of(part).to_pydict())
    files = "".join(f'[[files]]\npath = "{x}.parquet"\n' for x in "ab")
    (tmp_path / "log.toml").write_text('fit_logging = true\naction = "w_"\n' + files)
    logs = read_logs(tmp_path / "log.toml")
    own = [jax.vmap(fit_policy(x).policy.log_density)(x) for x in (FREE[:1500], FREE[1500:] + 1)]
    np.testing.assert_allclose(logs.log_propensity, np.concatenate(own), rtol=1e-9)


@pytest.mark.nightly
def test_the_command_says_it_loudly(tmp_path):
    write(tmp_path / "log.parquet", table_of(FREE).to_pydict())
    target = write_policy(tmp_path / "new.json", Gaussian.diagonal([0.2, 0.0], 0.9))
    log = tmp_path / "log.parquet", "--action", "w_", "--fit-logging"
    shown = mopl("evaluate", *log, "--target", target)
    assert shown.code == 0
    assert "warning: the logging policy was estimated" in shown.out


@pytest.mark.nightly
@pytest.mark.parametrize("n", [200, 1000])
def test_intervals_with_estimated_densities_cover(n):
    """At least as often as with the true ones, to chance; and values vary no more."""
    target, hits, values = Gaussian.diagonal([0.3, 0.0], 0.8), np.zeros(2), np.zeros((2, 400))
    for seed in range(400):
        action = np.random.default_rng(seed).normal(size=(n, 2))
        noise = np.random.default_rng(10_000 + seed).normal(size=n)
        table = table_of(action).set_column(2, "reward", pa.array(action.sum(axis=1) + noise))
        for k, known in enumerate(({"logging": standard(2)}, {"fit_logging": True})):
            made = evaluate(table, target, action="w_", interval="ess_exact", **known)
            hits[k] += made.interval.lower <= 0.3 <= made.interval.upper
            values[k, seed] = made.value
    assert hits[1] >= hits[0] - 12
    assert binomial_tail(int(hits[1]), 400, 0.95) > 0.001 or hits[1] > 380
    assert values[1].std() <= 1.05 * values[0].std()
