"""`mopl evaluate` as a user meets it: its numbers are the library's, its refusals are one line and
exit code 2.
"""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from command import assert_refused, mopl
from scipy import stats
from worlds import write

from benchmarks import _study, open_bandit
from benchmarks.__main__ import main as benchmarks
from mopl_jax import estimators, intervals
from mopl_jax.estimators import ess

OPEN_BANDIT = Path(__file__).parents[2].parent / "shared" / "data" / "open_bandit"
N = 400
KEYS = [
    "value",
    "estimator",
    "n",
    "units",
    "alpha",
    "ess",
    "mean_weight",
    "pareto_k",
    "unseen",
    "intervals",
    "verdict",
    "reasons",
]
KEYS += ["warnings", "smoothing", "parts", "log", "target", "adjustment", "in_log", "goal", "more"]


def columns(n=N):
    """Actions from N(0, 1), target N(0.5, 0.49), reward = action + noise: value 0.5."""
    rng = np.random.default_rng(1)
    action = rng.normal(size=n)
    p, q = stats.norm.pdf(action), stats.norm.pdf(action, 0.5, 0.7)
    return {
        "reward": action + rng.normal(size=n),
        "p": p,
        "q": q,
        "log_p": np.log(p),
        "log_q": np.log(q),
    }


@pytest.fixture
def log(tmp_path):
    return write(tmp_path / "log.parquet", columns())


def roles(reward="reward", propensity="p", target="q"):
    return "--reward", reward, "--propensity", propensity, "--target-propensity", target


def document(*arguments):
    """What `mopl evaluate --json` says; its exit code follows the verdict."""
    ended = mopl("evaluate", *arguments, "--json")
    said = ended.json
    assert (ended.code, ended.err) == (3 if said["verdict"] == "refuse" else 0, "")
    return said


# The numbers.


@pytest.mark.parametrize("estimator", estimators.NAMED)
def test_json_is_what_the_library_says(log, estimator):
    said = document(log, *roles(), "--estimator", estimator, "--all")
    table = columns()
    log_weight = jnp.asarray(np.log(table["q"]) - np.log(table["p"]))
    estimate = estimators.NAMED[estimator](log_weight, jnp.asarray(table["reward"]))
    assert list(said) == ["mopl_json", "mopl_version", *KEYS]
    assert (said["estimator"], said["n"], said["alpha"]) == (estimator, N, 0.05)
    assert said["value"] == pytest.approx(float(estimate.value), rel=1e-12)
    assert [entry["name"] for entry in said["intervals"] if entry["name"] != "recommended"] == list(
        intervals.WALD
    )
    some = [
        entry
        for entry in said["intervals"]
        if estimator == "snips" or entry["name"] in ("normal", "ess_exact")
    ]
    ends = jax.jit(lambda e: [intervals.bind(entry["name"])(e, 0.05) for entry in some])(estimate)
    for entry, end in zip(some, ends, strict=True):
        assert [entry["lower"], entry["upper"]] == pytest.approx(
            [float(end.lower), float(end.upper)], rel=1e-9
        )
    sizes = {name: getattr(ess, name)(log_weight) for name in ("kish", "max_weight", "perplexity")}
    sizes |= {
        "reward_aware": ess.reward_aware(log_weight, estimate.residual),
        "fraction": sizes["kish"] / N,
    }
    assert said["ess"] == pytest.approx(
        {name: float(size) for name, size in sizes.items()}, rel=1e-12
    )


def test_mean_weight_check_is_the_one_sample_t_statistic(log):
    check = document(log, *roles(), "--interval", "normal")["mean_weight"]
    w = columns()["q"] / columns()["p"]
    assert check["mean"] == pytest.approx(w.mean(), rel=1e-12)
    assert check["standard_error"] == pytest.approx(stats.sem(w), rel=1e-9)
    assert check["z"] == pytest.approx(stats.ttest_1samp(w, 1)[0], rel=1e-9)
    assert check["compatible"] is True


def test_on_policy_is_the_t_interval(log):
    said = document(log, *roles(target="p"), "--interval", "ess_exact")
    reward = columns()["reward"]
    expected = stats.t.interval(0.95, N - 1, reward.mean(), stats.sem(reward))
    assert said["intervals"] == [
        {
            "name": "ess_exact",
            "lower": pytest.approx(expected[0], rel=1e-6),
            "upper": pytest.approx(expected[1], rel=1e-6),
        }
    ]
    assert said["ess"]["kish"] == pytest.approx(N)
    assert said["mean_weight"].pop("rounding") < 1e-13
    assert said["mean_weight"] == {
        "mean": 1,
        "standard_error": 0,
        "z": 0,
        "p_value": 1,
        "compatible": True,
        "verdict": "compatible with 1, as it should be",
    }


def test_log_densities_give_the_same_document(log):
    by_density = document(log, *roles(), "--interval", "normal")
    by_log = document(
        log,
        *roles("reward", "log_p", "log_q"),
        "--log-densities",
        "--interval",
        "normal",
    )
    assert (by_density.pop("target"), by_log.pop("target")) == ("q", "log_q")
    assert by_density == by_log


def test_repeated_intervals_are_said_once_in_the_order_asked(log):
    asked = [word for name in ("ess_safe", "normal", "ess_safe") for word in ("--interval", name)]
    said = document(log, *roles(), *asked)
    assert [entry["name"] for entry in said["intervals"]] == ["ess_safe", "normal"]


def test_the_page_fits_one_hundred_columns(log):
    code, out, err = mopl("evaluate", log, *roles(), "--all")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    assert all(f" {name} " in out for name in intervals.WALD)


# Never manufacture certainty.


def whole_line(said):
    return all(entry["lower"] is None and entry["upper"] is None for entry in said["intervals"])


@pytest.mark.parametrize("estimator", estimators.NAMED)
@pytest.mark.parametrize(("rows", "why"), [([], "no overlap"), ([5], "ESS = 1")])
def test_without_two_rows_of_weight_nothing_is_claimed(tmp_path, estimator, rows, why):
    target = np.zeros(N)
    target[rows] = 0.5
    path = write(tmp_path / "log.parquet", columns() | {"q": target})
    said = document(path, *roles(), "--estimator", estimator)
    assert whole_line(said)
    assert why in said["warnings"][0]
    assert said["ess"]["kish"] == len(rows)


def test_one_row_of_data_claims_nothing(tmp_path):
    said = document(write(tmp_path / "log.parquet", columns(1)), *roles())
    assert whole_line(said)
    assert said["mean_weight"]["compatible"] is None


def test_equal_rewards_claim_nothing(tmp_path):
    path = write(tmp_path / "log.parquet", columns() | {"reward": np.ones(N)})
    said = document(path, *roles(), "--interval", "normal", "--interval", "ess_exact")
    assert whole_line(said)
    assert "all rewards are equal" in said["warnings"][0]


@pytest.mark.parametrize("out_of", ["propensity", "coverage"])
def test_a_wrong_mean_weight_is_said(tmp_path, out_of):
    table = columns()
    factor = {"propensity": np.full(N, 2.0), "coverage": table["p"] < stats.norm.pdf(0.7)}[out_of]
    said = document(
        write(tmp_path / "log.parquet", table | {"q": table["q"] * factor}),
        *roles(),
        "--interval",
        "normal",
    )
    assert said["mean_weight"]["compatible"] is False
    assert abs(said["mean_weight"]["z"]) > 3
    assert any("should be 1 and is not" in text for text in said["warnings"])
    assert ("does not cover" in said["mean_weight"]["verdict"]) == (out_of == "coverage")


@pytest.mark.parametrize(
    ("table", "arguments", "why"),
    [
        ({"q": np.r_[np.ones(3), np.full(N - 3, 1e-6)], "p": np.ones(N)}, (), "few effective rows"),
        (
            {"q": np.r_[np.ones(1), np.full(N - 1, 1e-4)], "p": np.ones(N)},
            (),
            "fewer than two effective rows",
        ),
        ({"reward": np.r_[np.ones(4), np.zeros(N - 4)]}, (), "only 4 rewards differ"),
        ({}, ("--log-densities",), "drop --log-densities"),
        ({"p": np.zeros(N), "q": np.full(N, 800.0)}, ("--log-densities",), "overflow"),
    ],
)
def test_dangers_are_named(tmp_path, table, arguments, why):
    said = document(
        write(tmp_path / "log.parquet", columns() | table),
        *roles(),
        *arguments,
        "--interval",
        "normal",
    )
    assert any(why in text for text in said["warnings"])
    code, out, _ = mopl(
        "evaluate",
        write(tmp_path / "log.parquet", columns() | table),
        *roles(),
        *arguments,
        "--interval",
        "normal",
    )
    assert code == (3 if said["verdict"] == "refuse" else 0)
    assert "warning: " in out


def test_a_good_log_has_no_warnings(log):
    assert document(log, *roles(), "--interval", "normal")["warnings"] == []


# Refusals.


def with_entry(name, row, value):
    table = columns()
    table[name] = pa.array([value if i == row else x for i, x in enumerate(table[name])])
    return table


BAD_TABLES = {
    "null": (with_entry("reward", 6, None), roles(), "column 'reward', row 7", "a missing value"),
    "nan": (with_entry("p", 6, np.nan), roles(), "column 'p', row 7", "got nan"),
    "inf": (with_entry("q", 6, np.inf), roles(), "column 'q', row 7", "got inf"),
    "empty": (
        {name: values[:0] for name, values in columns().items()},
        roles(),
        "expected at least one row",
    ),
    "text": (
        columns() | {"reward": ["good"] * N},
        roles(),
        "column 'reward', row 1",
        "expected a number, got 'good'",
    ),
    "text of numbers": (
        columns() | {"reward": ["1"] * N},
        roles(),
        "column 'reward'",
        "expected numbers, got text",
    ),
    "list": (
        columns() | {"reward": [[1.0]] * N},
        roles(),
        "column 'reward'",
        "expected numbers, got list",
    ),
    "zero propensity": (
        with_entry("p", 6, 0.0),
        roles(),
        "column 'p', row 7",
        "expected a density > 0, got 0.0",
    ),
    "missing column": (
        columns(),
        roles("rewrad"),
        "no column 'rewrad' (--reward); did you mean 'reward'? columns: reward, p, q",
    ),
    "log propensity": (
        columns(),
        roles(propensity="log_p"),
        "column 'log_p', row 1",
        "pass --log-densities",
    ),
    "log target": (
        columns(),
        roles(target="log_q"),
        "column 'log_q'",
        "look like log densities; pass --log-densities",
    ),
    "unknown estimator": (
        columns(),
        (*roles(), "--estimator", "snip"),
        "unknown estimator",
        "did you mean 'snips'?",
    ),
    "unknown interval": (
        columns(),
        (*roles(), "--interval", "ess_exat"),
        "unknown interval",
        "did you mean 'ess_exact'?",
    ),
    "alpha 0": (columns(), (*roles(), "--alpha", 0), "alpha strictly between 0 and 1"),
    "alpha 1.5": (columns(), (*roles(), "--alpha", 1.5), "alpha strictly between 0 and 1"),
    "alpha nan": (columns(), (*roles(), "--alpha", "nan"), "alpha strictly between 0 and 1"),
}

BAD_FILES = {
    "missing.parquet": (None, "no such file"),
    "folder.parquet": ("directory", "got none in this directory"),
    "corrupt.parquet": (b"PAR1 this is not Parquet", "cannot be read as parquet"),
    "empty.parquet": (b"", "cannot be read as parquet"),
    "log.xlsx": (b"", "expected a file ending in .parquet, .pq, .arrow, .feather, .ipc, .csv"),
    "log": (b"", "expected a file ending in .parquet, .pq, .arrow, .feather, .ipc, .csv"),
    "empty.csv": (b"", "cannot be read as csv"),
    "header.csv": (b"reward,p,q\n", "expected at least one row"),
    "torn.csv": (b"reward,p,q\n1,2\n", "line 2"),
    "comma.csv": (b'reward,p,q\n1,"0,5",1\n', "column 'p', row 1"),
    "gap.csv": (b"reward,p,q\n1,1,1\n1,,1\n", "column 'p', row 2"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_and_options_are_one_line_and_exit_2(tmp_path, case):
    table, arguments, *said = BAD_TABLES[case]
    assert_refused(mopl("evaluate", write(tmp_path / "log.parquet", table), *arguments), *said)


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_one_line_and_exit_2(tmp_path, name):
    content, said = BAD_FILES[name]
    path = tmp_path / name
    if content == "directory":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    assert_refused(mopl("evaluate", path, *roles()), said, name)


def test_a_truncated_file_is_one_line_and_exit_2(log):
    log.write_bytes(log.read_bytes()[:-100])
    assert_refused(mopl("evaluate", log, *roles()), "cannot be read as parquet")


def test_a_damaged_file_is_one_line_and_exit_2(log):
    content = bytearray(log.read_bytes())
    content[4:2000] = bytes(1996)
    log.write_bytes(bytes(content))
    assert_refused(mopl("evaluate", log, *roles()), "cannot be read")


# The real data.


def test_wilson_interval_solves_its_equation():
    """The ends are the rates at distance z standard errors of their own from the observed one
    (Wilson 1927).
    """
    rate = open_bandit.on_policy(np.r_[np.ones(46), np.zeros(9954)], 0.05)
    for end in (rate["lower"], rate["upper"]):
        z = (rate["rate"] - end) / math.sqrt(end * (1 - end) / rate["n"])
        assert abs(z) == pytest.approx(stats.norm.isf(0.025), rel=1e-9)


def test_item_share_is_a_distribution_at_each_position():
    log = {"item_id": np.array([1.0, 1, 2, 3]), "position": np.array([1.0, 1, 1, 2])}
    asked = {"item_id": np.array([1.0, 2, 3, 3, 9]), "position": np.array([1.0, 1, 1, 2, 7])}
    assert open_bandit.item_share(log, asked).tolist() == [2 / 3, 1 / 3, 0, 1, 0]


def test_absent_open_bandit_is_one_line_and_exit_2(capsys, tmp_path):
    absent = str(tmp_path / "nowhere")
    assert benchmarks(["open_bandit", "--path", absent, "--out", str(tmp_path)]) == 2
    assert "expected the folder of the Open Bandit logs" in capsys.readouterr().err


@pytest.mark.skipif(not OPEN_BANDIT.is_dir(), reason="the Open Bandit logs are not here")
def test_open_bandit_is_compatible_with_what_bts_earned(tmp_path):
    assert benchmarks(["open_bandit", "--path", str(OPEN_BANDIT), "--out", str(tmp_path)]) == 0
    rows = _study.read("open_bandit", tmp_path)
    assert {row["campaign"]: row["on_policy_rate"] for row in rows} == {
        "men": 0.0069,
        "women": 0.0046,
    }
    assert all(row["compatible"] for row in rows)
    assert all(abs(row["mean_weight"] - 1) < 3 * row["mean_weight_standard_error"] for row in rows)
    table = (tmp_path / "open_bandit.md").read_text()
    assert "| men | 10,000 |" in table
    assert "| women | 10,000 |" in table


def test_clicks_without_a_declared_range_are_said(tmp_path):
    """The range is a fact about the platform: it is asked for, not taken from the sample."""
    clicks = columns() | {"click": (columns()["reward"] > 0.5).astype(int)}
    log = write(tmp_path / "clicks.parquet", clicks)
    text = "all rewards are 0 or 1, and no range is declared"
    said = mopl("evaluate", log, *roles("click")).out
    assert text in " ".join(said.split())
    declared = mopl("evaluate", log, *roles("click"), "--reward-range", "0,1").out
    assert text not in " ".join(declared.split())
    assert text not in " ".join(mopl("evaluate", log, *roles()).out.split())
