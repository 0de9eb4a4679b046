"""`mopl example` and `mopl draw`: what is written is what it says, and every command runs on it."""

import csv
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from command import assert_refused, document, mopl
from scipy import stats

from mopl_jax.diagnostics.check import check_log
from mopl_jax.io.draws import draw
from mopl_jax.io.known_before import check_known_before
from mopl_jax.io.policy_json import read_policy, write_policy
from mopl_jax.io.read import open_log, read_logs
from mopl_jax.metrics import metric_json
from mopl_jax.policies import Deterministic, Gaussian
from mopl_jax.policies.policy import sample_with_density
from mopl_jax.simulation.example import (
    BEND,
    FIRST,
    LIFT,
    MEAN,
    NAMES,
    SCALE,
    SIGNALS,
    SLOPE,
    TURN,
    WEB,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("example")
    ended = mopl("example", "--out", made / "ex")
    assert (ended.code, ended.err) == (0, "")
    assert f"mopl evaluate {made}/ex/log.toml --target" in ended.out
    return made / "ex"


def test_the_examples_log_is_what_it_says(folder):
    assert check_log(folder / "log.toml", time="day").verdict == "trust"


def test_its_target_is_worth_what_the_closed_form_says(folder):
    """E 0.4 + bᵀz − ½c|z|² of a normal z, plus habits of mean 0 (hardly any rate is clipped)."""
    policy, _ = read_policy(folder / "target.json")
    mean = (np.asarray(policy.mean) - MEAN) / SCALE
    spread = np.asarray(policy.scale) / SCALE
    value = 0.4 + mean @ SLOPE - 0.5 * BEND * np.sum(mean**2 + spread**2)
    said = document("evaluate", folder / "log.toml", "--target", folder / "target.json")
    ends = said["intervals"][0]
    assert ends["lower"] - 0.003 < value < ends["upper"] + 0.003
    assert said["verdict"] == "trust"
    assert said["log"].endswith("log.parquet")
    assert said["target"].endswith("target.json")


def test_the_same_seed_writes_the_same_log(folder, tmp_path):
    mopl("example", "--out", tmp_path)
    a, b = (open_log(path / "log.toml") for path in (folder, tmp_path))
    for one, other in zip(
        jax.tree.leaves(read_logs(a)), jax.tree.leaves(read_logs(b)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_its_scorecards_make_a_metric_that_watches_the_running_test(folder, tmp_path):
    """The forty tests whose effects are along LIFT: both signals count, and shares most."""
    said = document(
        *("metric", folder / "scorecards.csv", "--north-star", "days"),
        *("--out", tmp_path / "metric.json"),
    )
    assert said["metrics"] == list(SIGNALS)
    assert said["weights"][1] > said["weights"][0] > 0
    running = folder / "running.csv"
    found = document("monitor", running, "--planned", 40_000, "--metric", tmp_path / "metric.json")
    assert [each["outcome"] for each in found["tests"]] == ["days", "learnt_metric"]
    assert [len(each["looks"]) for each in found["tests"]] == [14, 14]
    assert found["tests"][1]["decision"] == "better"


def test_its_log_has_the_signals_of_the_metric(folder, tmp_path):
    """Rates of a visit are 1 and LIFT of what its weights do to retention: so is the metric's mean
    under the logger, whose weights lose BEND/2 each.
    """
    metric, log = tmp_path / "metric.json", folder / "log.parquet"
    document("metric", folder / "scorecards.csv", "--north-star", "days", "--out", metric)
    out = tmp_path / "rewarded.parquet"
    said = document("metric", metric, "--apply", log, "--rewarded", out)
    weights = dict(zip(*metric_json.read_metric(metric), strict=True))
    rates = dict(zip(SIGNALS, 1 - 0.5 * BEND * len(NAMES) * LIFT, strict=True))
    expected = sum(weight * rates[name] for name, weight in weights.items())
    error = said["deviation"] / said["rows"] ** 0.5
    assert abs(said["mean"] - expected) < 4 * error
    assert said["guarded"]


def test_its_platforms_want_other_weights_and_its_countries_do_not(folder):
    """Slopes of retention differ by TURN between web and app, and no weight goes along with what
    was known before; times are in order, each in its day.
    """
    reader = open_log(folder / "log.toml")
    check_known_before(reader, ["platform", "country"], "context")
    table = pq.read_table(folder / "log.parquet")
    z = (np.stack([table[name] for name in NAMES], axis=1) - MEAN) / SCALE
    score = z * (np.asarray(table["retained"]) - 0.4)[:, None]
    web = np.asarray(table["platform"]) == "web"
    of_each = [
        (score[part].mean(axis=0), score[part].var(axis=0) / part.sum()) for part in (web, ~web)
    ]
    (here, own), (there, others) = of_each
    assert (np.abs(here - there - TURN) < 4 * np.sqrt(own + others)).all()
    assert web.mean() == pytest.approx(WEB, abs=0.01)
    time = np.asarray(table["time"]).astype("datetime64[s]")
    assert (np.diff(time) >= np.timedelta64(0)).all()
    day = (time - np.datetime64(FIRST, "s")).astype(int) // 86_400
    np.testing.assert_array_equal(day, table["day"])


# Draws.


def test_draws_are_of_the_policy_with_its_density(folder):
    """Kolmogorov–Smirnov on each weight; densities are those of the policy."""
    table = draw(folder / "target.json", 4000, seed=1)
    policy, _ = read_policy(folder / "target.json")
    action = np.stack([table[name].to_numpy() for name in NAMES], axis=1)
    for k in range(len(NAMES)):
        level = stats.norm.cdf(action[:, k], policy.mean[k], policy.scale[k])
        assert stats.kstest(level, "uniform").pvalue > 1e-3
    expected = jax.vmap(policy.log_density)(jnp.asarray(action))
    np.testing.assert_allclose(table["log_propensity"].to_numpy(), expected, rtol=1e-10)


def test_a_seed_repeats_draws_and_none_makes_new_ones(folder):
    ask = ("draw", folder / "target.json", "--n", 2)
    assert mopl(*ask, "--seed", 3).out == mopl(*ask, "--seed", 3).out
    assert mopl(*ask).out != mopl(*ask).out
    rows = list(csv.DictReader(io.StringIO(mopl(*ask).out)))
    assert list(rows[0]) == [*NAMES, "log_propensity"]
    assert len(rows) == 2


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_drawn_weights_with_rewards_are_a_log(folder, tmp_path, suffix):
    """What a server logs reads back as it is, and is of the policy."""
    out = tmp_path / f"served.{suffix}"
    mopl("draw", folder / "target.json", "--n", 500, "--seed", 1, "--out", out)
    table = open_log(
        tmp_path / f"served.{suffix}",
        action="w_",
        reward="w_click",
        logging=folder / "target.json",
    )
    found = check_log(table)
    assert not [x for x in found.findings if x.level == "refuse"]


def test_what_cannot_be_logged_is_refused(folder, tmp_path):
    write_policy(tmp_path / "point.json", Deterministic(jnp.zeros(2)))
    assert_refused(mopl("draw", tmp_path / "point.json"), "has no density")
    assert_refused(mopl("draw", folder / "target.json", "--n", 0), "--n: expected 1 to 10,000,000")
    for name, shown in (
        ("log_propensity", "'log_propensity'; rename"),
        ("a\x1b[31m", "'a\\x1b[31m'"),
    ):
        odd = Gaussian.diagonal([0.0, 1.0], 1.0)
        write_policy(tmp_path / "odd.json", odd, objectives=["w_a", name])
        assert_refused(mopl("draw", tmp_path / "odd.json"), "odd.json: key 'objectives'", shown)


PAIR = [{"kind": "normal", "mean": [m], "scale": 1} for m in (0, 1)]
REFUSED = {
    "a nan": ({"kind": "dirichlet", "concentration": [1e-300, 1e-300]}, 1, "action_1 nan"),
    "a corner": ({"kind": "dirichlet", "concentration": [1e-3, 1e-3]}, 3, "log_propensity -inf"),
    "wide": ({"kind": "uniform", "low": [-1e308], "high": [1e308]}, 1, "action_1 inf"),
    "far": ({"kind": "log_normal", "mean": [800], "scale": 1}, 1, "action_1 inf"),
    "the second": ({"kind": "normal", "mean": [0], "scale": 1e308}, 2, "action_1 -inf"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_float_holds_is_not_drawn(tmp_path, name):
    policy, row, got = REFUSED[name]
    path, out = tmp_path / "huge.json", tmp_path / "drawn.csv"
    path.write_text(json.dumps({"mopl_policy": 1} | policy))
    ended = mopl("draw", path, "--n", 3, "--seed", 1, "--out", out)
    assert_refused(ended, f"huge.json: draw {row}: expected finite numbers, got {got},", "choose")
    assert not out.exists()


@pytest.mark.parametrize(
    ("shares", "second"),
    [([1e308, 1e308], 0.5), ([1e-320, 1e-320], 0.5), ([1e308, 1e-320], 0), ([1e-320, 1e308], 1)],
)
def test_shares_in_any_unit_are_those_of_their_quotients(tmp_path, shares, second):
    arms = {"kind": "discrete", "actions": [[0], [1]], "probabilities": shares}
    mixture = {"kind": "mixture", "weights": shares, "components": PAIR}
    densities = (
        (arms, lambda x: np.where(x == 0, 1 - second, second)),
        (mixture, lambda x: (1 - second) * stats.norm.pdf(x) + second * stats.norm.pdf(x, loc=1)),
    )
    path = tmp_path / "policy.json"
    for policy, density in densities:
        path.write_text(json.dumps({"mopl_policy": 1} | policy))
        draws = document("draw", path, "--n", 20, "--seed", 1)["draws"]
        x, found = (np.array([row[k] for row in draws]) for k in ("action_1", "log_propensity"))
        np.testing.assert_allclose(np.exp(found), density(x), rtol=1e-12)


def test_one_draw_with_its_density():
    policy = Gaussian.diagonal([0.0, 1.0], 0.5)
    action, log_density = sample_with_density(policy, jax.random.key(0))
    assert float(log_density) == float(policy.log_density(action))


# What is there is not lost.

WRITING = {  # each with the option that names its file, and a file that it reads
    "learn": ("learn log.toml", "--out", "logging.json"),
    "draw": ("draw target.json", "--out", "target.json"),
    "metric": ("metric past.parquet --north-star days", "--out", "past.parquet"),
    "rewarded": (
        "metric past.parquet --north-star days --apply log.parquet",
        "--rewarded",
        "log.parquet",
    ),
}


@pytest.mark.parametrize("name", WRITING)
def test_nothing_that_is_there_is_overwritten(name, tmp_path, monkeypatch):
    """Neither what is read, by --force either, nor another file without it; nothing is computed."""
    words, option, read = WRITING[name]
    monkeypatch.chdir(tmp_path)
    for file in ("log.parquet", "past.parquet", "logging.json", "target.json", "other.json"):
        (tmp_path / file).write_text(file)
    (tmp_path / "log.toml").write_text('path = "log.parquet"\nlogging = "logging.json"\n')
    for out, force, why in (
        (read, (), "which is read"),
        (read, ("--force",), "which is read"),
        ("other.json", (), f"{option}: other.json is there already; --force overwrites it"),
    ):
        assert_refused(mopl(*words.split(), option, out, *force), why)
        assert (tmp_path / out).read_text() == out


def test_a_file_is_overwritten_by_force(folder, tmp_path):
    out = tmp_path / "drawn.csv"
    for force in ((), ("--force",)):
        assert mopl("draw", folder / "target.json", "--out", out, *force).code == 0


def test_an_example_is_not_written_among_other_files(tmp_path):
    (tmp_path / "log.toml").write_text("mine")
    assert_refused(mopl("example", "--out", tmp_path), f"--out: {tmp_path} has files")
    assert (tmp_path / "log.toml").read_text() == "mine"
    assert mopl("example", "--out", tmp_path, "--force").code == 0
