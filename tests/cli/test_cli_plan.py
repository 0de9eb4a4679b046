"""`mopl plan` as a user meets it: its numbers are the library's, its refusals are one line and exit
code 2.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import assert_refused, document, mopl
from worlds import write

from mopl_jax import planning
from mopl_jax.io import policy_json
from mopl_jax.policies import Gaussian, Uniform

variance, ess_share, surface = (
    jax.jit(planning.variance),
    jax.jit(planning.ess_share),
    jax.jit(planning.surface),
)
PLAN = (
    "--d",
    "4",
    "--step",
    "0.6",
    "--gain",
    "0.02",
    "--noise",
    "0.5",
    "--curvature",
    "0.01",
    "--horizon",
    "1e6",
)


@pytest.fixture
def pilot(tmp_path):
    """A log of 2,000 rows around (1, 0) on a quadratic surface, and its logging policy."""
    rng = np.random.default_rng(0)
    policy = Gaussian.diagonal(np.array([1.0, 0.0]), 0.5)
    action = np.asarray(policy.mean) + 0.5 * rng.normal(size=(2000, 2))
    x = action - np.asarray(policy.mean)
    reward = 1 + x @ [0.2, 0.1] - 0.5 * 0.3 * (x**2).sum(1) + 0.1 * rng.normal(size=2000)
    columns = {"action_a": action[:, 0], "action_b": action[:, 1], "reward": reward}
    write(tmp_path / "pilot.parquet", columns)
    policy_json.write_policy(tmp_path / "logging.json", policy)
    return tmp_path / "pilot.parquet", tmp_path / "logging.json", action, reward


def test_json_is_what_the_library_says():
    """Every design by the library's closed forms; the best of each kind is at least as good as the
    one asked for.
    """
    said = document("plan", *PLAN, "--n", 50_000)
    target, production = (
        Gaussian.diagonal(np.full(4, 0.3), 0.5),
        Gaussian.diagonal(np.zeros(4), 0.5),
    )
    slope = jnp.full(4, 0.02 * 0.3 / 0.36)
    edge = jnp.full(4, np.sqrt(3))
    loggers = {"normal": Gaussian.diagonal(np.zeros(4), 1.0), "uniform": Uniform(-edge, edge)}
    assert list(said["designs"]) == [
        "normal",
        "uniform",
        "normal, most ESS",
        "normal, least regret",
    ]
    for name, logging in loggers.items():
        facts, v = said["designs"][name], variance(logging, target, slope, 0.5, production)
        assert facts["gain_standard_error"] == pytest.approx(float(jnp.sqrt(v / 50_000)), rel=1e-9)
        assert facts["power"] == pytest.approx(
            float(planning.power(0.02, jnp.sqrt(v / 50_000), 0.05)), rel=1e-9
        )
        assert facts["rows_for_power"] == np.ceil(float(planning.rows_needed(0.02, v, 0.05, 0.8)))
        assert facts["cost"] == pytest.approx(0.5 * 4 * 0.01, rel=1e-9)
    densest, thriftiest = (
        said["designs"][f"normal, {which}"] for which in ("most ESS", "least regret")
    )
    assert densest["scale"] == pytest.approx(float(planning.densest_scale(4, 0.6, 0.5)), rel=1e-5)
    assert densest["ess"] == max(facts["ess"] for facts in said["designs"].values())
    assert thriftiest["certified_regret"] == min(
        facts["certified_regret"] for facts in said["designs"].values()
    )
    assert said["assumed"]["step"] == pytest.approx([0.3] * 4)


def test_pilot_tells_slope_noise_and_curvature(pilot):
    """The pilot's surface is the library's; a step's length goes along its slope, and its gain is
    slope less curvature.
    """
    path, logging, action, reward = pilot
    options = (
        "--pilot",
        path,
        "--logging",
        logging,
        "--current",
        "1,0",
        "--scale",
        "1",
        "--step",
        "0.2",
        "--target-scale",
        "0.3",
    )
    said = document("plan", *options)
    found = surface(jnp.asarray(action), jnp.asarray(reward), jnp.array([1.0, 0.0]))
    assert said["pilot"]["slope"] == pytest.approx(np.asarray(found.slope).tolist(), rel=1e-9)
    step = np.asarray(said["assumed"]["step"])
    assert np.linalg.norm(step) == pytest.approx(0.2)
    gain = found.slope @ step - 0.5 * step @ found.curvature @ step
    assert said["assumed"]["gain"] == pytest.approx(float(gain), rel=1e-9)
    error = np.linalg.norm(np.diag(said["pilot"]["curvature_se"]))  # of the curvature's trace
    assert said["designs"]["normal"]["cost"] == pytest.approx(0.3, abs=4 * 0.5 * error)
    assert said["assumed"]["noise"] == pytest.approx(0.1, rel=4 / np.sqrt(2 * (2000 - 6)))


def test_full_covariance(tmp_path):
    """A policy's covariance is explored around the current weights; boxes have no correlations and
    are left out.
    """
    covariance = np.array([[1.0, 0.3], [0.3, 0.5]])
    policy_json.write_policy(tmp_path / "p.json", Gaussian.full(np.array([9.0, 9.0]), covariance))
    said = document(
        "plan",
        "--covariance",
        tmp_path / "p.json",
        "--gain",
        "0.02",
        "--step",
        "0.2,0.1",
    )
    target = Gaussian.diagonal(np.array([0.2, 0.1]), 0.5 * np.sqrt([1.0, 0.5]))
    expected = float(ess_share(Gaussian.full(np.zeros(2), covariance), target))
    assert said["designs"]["normal"]["ess_share"] == pytest.approx(expected, rel=1e-9)
    assert list(said["designs"]) == ["normal", "normal, most ESS"]


def test_table_and_warnings():
    """At most 100 columns; few effective rows are flagged; what is not known is not printed."""
    code, out, err = mopl("plan", *PLAN)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    assert "power to certify the gain" in out
    code, out, _ = mopl("plan", "--d", "4", "--n", "100")
    assert code == 0
    assert "power to certify" not in out
    assert "certified regret" not in out
    assert "effective rows; widths and power are asymptotic" in out


def test_what_is_not_given_is_the_pilots(pilot):
    """The weights that it explored and how widely; columns are named as in every command."""
    path, logging, action, _ = pilot
    told = document("plan", "--pilot", path, "--action", "action_a,action_b", "--logging", logging)
    width = np.std(action, axis=0)
    assert told["assumed"]["current"] == pytest.approx(action.mean(axis=0).tolist())
    assert told["assumed"]["target_scale"] == pytest.approx((0.5 * width).tolist())
    length = np.linalg.norm(told["assumed"]["step"])
    assert length == pytest.approx(0.5 * np.sqrt(np.mean(width**2)))
    assert told["designs"]["normal"]["scale"] == pytest.approx(np.sqrt(np.mean(width**2)))


@pytest.mark.parametrize("unit", [0.01, 1.0, 100.0])
def test_a_plan_does_not_depend_on_the_unit_of_the_weights(unit):
    """Weights in another unit: the same effective rows and power."""
    base = document("plan", "--d", 3, "--gain", "0.05")["designs"]
    other = document("plan", "--d", 3, "--gain", "0.05", "--scale", unit)["designs"]
    for name in ("normal", "uniform"):
        for field in ("ess", "power", "in_box", "rows_for_power"):
            assert other[name][field] == pytest.approx(base[name][field], rel=1e-6)


def test_a_box_promises_nothing_of_a_target_that_leaves_it():
    ended = mopl("plan", "--d", 3, "--gain", "0.05", "--target-scale", 1.5)
    assert "only " in ended.out
    said = document("plan", "--d", 3, "--gain", "0.05", "--target-scale", 1.5)["designs"]["uniform"]
    assert said["in_box"] < 0.95
    assert not {"power", "rows_for_power", "gain_width", "standard_error"} & said.keys()
    row = next(line for line in ended.out.splitlines() if "power to certify" in line)
    assert "unknown" in row


def test_users_of_a_pilot_count_once(pilot, tmp_path):
    """Every row four times as another row of its user: the errors are those of the rows alone, and
    the noise counts four times.
    """
    _, logging, action, reward = pilot
    columns = {"action_a": action[:, 0], "action_b": action[:, 1], "reward": reward}
    columns |= {"user": np.arange(2000)}
    for name, times in (("once", 1), ("four", 4)):
        table = {key: np.repeat(column, times) for key, column in columns.items()}
        write(tmp_path / f"{name}.parquet", table)
    once, four = (
        document("plan", "--pilot", tmp_path / f"{name}.parquet", "--logging", logging, *by)
        for name, by in (("once", ()), ("four", ("--cluster", "user")))
    )
    np.testing.assert_allclose(four["pilot"]["slope_se"], once["pilot"]["slope_se"], rtol=0.1)
    assert four["assumed"]["noise"] / once["assumed"]["noise"] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "expected the number of weights, got none"),
        ("--d 3 --step 0", "expected a step that is not zero"),
        ("--d 3 --step 1,2", "2 by --step, 3 by --d"),
        ("--d 2 --scale one", "--scale: expected numbers separated by commas, got 'one'"),
        ("--d 2 --scale 0", "--scale: expected standard deviations > 0"),
        ("--d 2 --gain -1", "--gain: expected a number > 0"),
        ("--d 2 --noise nan", "--noise: expected a number > 0"),
        ("--d 2 --power 80", "--power: expected a probability"),
        ("--d 2 --alpha 5", "expected alpha strictly between 0 and 1"),
        ("--d 0", "--d: expected a number > 0"),
        ("--d 2 --n 0", "--n: expected a number > 0"),
        ("--pilot nowhere.parquet", "nowhere.parquet: no such file"),
        ("--d 2 --covariance nowhere.json", "nowhere.json: cannot be read"),
        ("--d two", "Invalid value for '--d'"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(options, expected):
    assert_refused(mopl("plan", *options.split()), expected)


def test_a_step_the_pilot_expects_to_lose_by_is_refused(pilot):
    path, logging, *_ = pilot
    options = ("--pilot", path, "--logging", logging, "--current", "1,0", "--step", "-0.3,-0.3")
    assert_refused(mopl("plan", *options), "the pilot expects a loss")
