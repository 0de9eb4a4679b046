"""`mopl check`: a clean log is ok at the stated level, and every flaw is found and named."""

import json

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from command import assert_refused, mopl
from scipy import stats
from worlds import write
from yardsticks import binomial_tail

from mopl_jax.diagnostics import log_checks, sketch
from mopl_jax.diagnostics.check import check_log
from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.io.policy_json import write_policy
from mopl_jax.io.pooling import pool
from mopl_jax.io.read import open_log
from mopl_jax.policies import Gaussian, Mixture, Uniform

N = 4000
MEAN, COVARIANCE = np.array([0.5, -1.0]), np.array([[1.0, 0.4], [0.4, 2.0]])
LOGGING = Gaussian.full(MEAN, COVARIANCE)
BOX = Uniform(jnp.array([0.0, -1.0]), jnp.array([1.0, 3.0]))


def columns(seed=0, n=N):
    rng = np.random.default_rng(seed)
    action = rng.multivariate_normal(MEAN, COVARIANCE, n)
    density = stats.multivariate_normal(MEAN, COVARIANCE).logpdf(action)
    return {
        "action_0": action[:, 0],
        "action_1": action[:, 1],
        "reward": action.sum(axis=1) + rng.normal(size=n),
        "log_propensity": density,
        "user": np.arange(n) // 2,
        "when": np.arange(n) * 1.0,
    }


def examined(table, logging=LOGGING, **roles):
    return report(table, logging, **roles).findings


def report(table, logging=LOGGING, **roles):
    return check_log(table, logging=logging, **({"log_propensity": "log_propensity"} | roles))


def level(findings, check):
    return next(finding.level for finding in findings if finding.check == check)


def test_a_clean_log_is_trusted():
    found = report(columns(), time="when")
    findings = found.findings
    assert found.verdict == "trust", [x for x in findings if x.level != "trust"]
    assert {"action means", "action distribution", "declared density", "drift of the reward"} <= {
        x.check for x in findings
    }


@pytest.mark.nightly
def test_the_tests_have_their_level():
    """Over 300 clean logs, as many false alarms as the level allows: all tests of the actions taken
    together.
    """
    alarms = 0
    for seed in range(300):
        table = columns(seed + 1, 500)
        findings = examined(table)
        alarms += any(x.level != "trust" for x in findings if x.check.startswith("action "))
    assert binomial_tail(alarms, 300, log_checks.LEVEL) > 1e-3 or alarms < 300 * log_checks.LEVEL


@pytest.mark.parametrize(("r", "level_of"), [(0.1, "trust"), (0.16, "caution"), (0.2, "refuse")])
def test_a_log_is_refused_at_the_level_of_other_refusals(r, level_of):
    """Of 500 rows with this sample correlation: |z| = √n·r has p = 0.025, 3e-4 and 8e-6, times the
    seven tests. Until 0.01 refused, so did one good log of five hundred rows in a hundred.
    """
    z = np.random.default_rng(5).normal(size=(500, 2))
    z = np.linalg.qr(z - z.mean(axis=0))[0] * np.sqrt(500)
    z = z @ np.linalg.cholesky([[1, r], [r, 1]]).T
    unit = Gaussian.diagonal(jnp.zeros(2), 1.0)
    table = {"action_0": z[:, 0], "action_1": z[:, 1], "reward": z[:, 0]}
    found = check_log(table, logging=unit).findings
    assert level(found, "action correlations") == level_of


def test_a_shifted_mean_is_no_wrong_variance():
    """One standard deviation off: means are refused, and what is about the means is not."""
    found = examined(columns(), Gaussian.full(MEAN + 1, COVARIANCE), log_propensity=None)
    wrong = {x.check for x in found if x.level == "refuse" and x.check.startswith("action ")}
    assert wrong == {"action means", "action distribution"}


RNG = np.random.default_rng(9)


def flawed(**change):
    return columns() | change


ONE = columns()


def test_a_report_says_it_all_in_every_form(tmp_path):
    """The same findings from a path, a table and a reader; as a record, plain Python and Arrow."""
    write(tmp_path / "log.parquet", columns())
    options = {"logging": LOGGING, "cluster": "user", "time": "when"}
    by_table = check_log(columns(), **options)
    reader = open_log(tmp_path / "log.parquet", **options)
    for other in (check_log(tmp_path / "log.parquet", **options), check_log(reader)):
        assert other.findings[1:] == by_table.findings[1:]  # the first has the name of the log
        assert (other.n, other.clusters, other.tested_rows) == (N, N // 2, N // 2)
    said = json.loads(json.dumps(by_table.to_dict()))
    assert list(said) == [
        *("log", "verdict", "findings", "n", "ranges"),
        *("repeated_rows", "tested_rows", "clusters"),
    ]
    assert said["ranges"]["action"]["low"] == [ONE["action_0"].min(), ONE["action_1"].min()]
    assert said["findings"] == by_table.to_arrow().to_pylist()
    assert repr(by_table) == f"LogReport('dict', n=4,000: trust, {len(by_table.findings)} findings)"


FLAWS = {
    "shifted": (flawed(action_0=ONE["action_0"] + 0.2), "action means", "refuse"),
    "scaled": (
        flawed(action_0=MEAN[0] + 1.2 * (ONE["action_0"] - MEAN[0])),
        "action variances",
        "refuse",
    ),
    "uncorrelated": (
        flawed(action_0=RNG.permutation(ONE["action_0"])),
        "action correlations",
        "refuse",
    ),
    "clipped": (
        flawed(action_0=np.clip(ONE["action_0"], -0.5, 1.5)),
        "action distribution",
        "refuse",
    ),
    "wrong density": (
        flawed(log_propensity=ONE["log_propensity"] * 1.2),
        "declared density",
        "refuse",
    ),
    "unnormalised": (
        flawed(log_propensity=ONE["log_propensity"] + 1),
        "declared density",
        "refuse",
    ),
    "constant reward": (flawed(reward=np.ones(N)), "reward", "refuse"),
    "stuck weight": (flawed(action_1=np.full(N, 0.3)), "action", "refuse"),
    "drifting reward": (
        flawed(reward=ONE["reward"] + np.linspace(0, 1, N)),
        "drift of the reward",
        "caution",
    ),
    "drifting logger": (
        flawed(action_0=ONE["action_0"] + np.linspace(-0.3, 0.3, N)),
        "drift of the action",
        "caution",
    ),
    "exported twice": (
        {name: np.concatenate([x, x[:200]]) for name, x in ONE.items()},
        "repeated rows",
        "caution",
    ),
    "users unnamed": (
        {name: np.repeat(x, 3) for name, x in ONE.items()} | {"reward": RNG.normal(size=3 * N)},
        "repeated actions",
        "caution",
    ),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_every_flaw_is_found(flaw):
    table, check, expected = FLAWS[flaw]
    assert level(examined(table, time="when"), check) == expected


def test_rounds_whose_policies_were_moved_are_no_drift_of_the_logger():
    """Each of two logs has its own policy; where both say the same one, the logger has changed."""
    shift = np.array([0.5, 0.0])
    moved = columns(1) | {"action_0": columns(1)["action_0"] + 0.5, "when": N + np.arange(N)}
    logs = [pa.table(each) for each in (columns(), moved)]
    other = Gaussian.full(MEAN + shift, COVARIANCE)
    roles = {"time": "when", "action": "action_", "reward": "reward"}
    own, one = (
        check_log(pool(logs, policies, **roles)).findings
        for policies in ([LOGGING, other], [LOGGING] * 2)
    )
    assert level(own, "drift of the action") == "trust"
    assert any(x.found.endswith("of 2 logging policies") for x in own)
    assert level(one, "drift of the action") == "caution"


def test_a_single_action_is_refused():
    table = columns() | {"action_0": np.zeros(N), "action_1": np.zeros(N)}
    assert any(
        "single distinct action" in x.found for x in examined(table, None) if x.level == "refuse"
    )


def test_users_are_tested_by_their_first_rows():
    """Rows of one user that repeat its action would fail every test as if independent; by user they
    pass.
    """
    table = {name: np.repeat(x, 40) for name, x in columns(3, 200).items()}
    table["user"] = np.repeat(np.arange(200), 40)
    table["reward"] = table["reward"] + RNG.normal(size=8000)
    by_user = examined(table, cluster="user")
    assert all(x.level == "trust" for x in by_user if x.check.startswith("action "))
    alone = examined(table)
    assert any(x.level != "trust" for x in alone if x.check.startswith("action "))
    assert level(examined(columns() | {"user": np.zeros(N)}, cluster="user"), "users") == "refuse"


def test_uniform_logging_is_tested_and_a_mixture_said_not_to_be():
    rng = np.random.default_rng(1)
    action = rng.uniform([0, -1], [1, 3], (N, 2))
    table = {"action_0": action[:, 0], "action_1": action[:, 1], "reward": rng.normal(size=N)}
    assert report(table, BOX, log_propensity=None).verdict == "trust"
    squeezed = table | {"action_0": np.square(action[:, 0])}
    assert level(examined(squeezed, BOX, log_propensity=None), "action distribution") == "refuse"
    mixture = Mixture.of(np.ones(2), [BOX, LOGGING])
    assert "not tested" in next(
        x.found
        for x in examined(table, mixture, log_propensity=None)
        if x.check == "declared policy"
    )


def test_chunks_do_not_matter(monkeypatch):
    whole = examined(columns(), cluster="user", time="when")
    monkeypatch.setattr(log_checks, "CHUNK", 333)
    assert [x[:2] for x in examined(columns(), cluster="user", time="when")] == [
        x[:2] for x in whole
    ]


def test_the_sketch_counts_repeats_beyond_its_size(monkeypatch):
    """Exact while it holds every row; afterwards within four standard errors of the share of the
    rows it kept.
    """
    rows = np.random.default_rng(0).integers(0, 2**63, 30_000).astype(np.uint64) * np.uint64(2)
    twice = np.concatenate([rows, rows[:6000]])
    exact, small = sketch.Sketch(), sketch.Sketch()
    for part in np.array_split(twice, 7):
        exact.add(part)
    assert exact.repeated == pytest.approx(6000 / 36_000)
    monkeypatch.setattr(sketch, "SKETCH", 4096)
    for part in np.array_split(twice, 7):
        small.add(part)
    assert len(small.hashes) <= 4096
    share = 6000 / 36_000
    assert abs(small.repeated - share) < 4 * np.sqrt(share / len(small.hashes))
    assert abs(small.distinct / 30_000 - 1) < 4 / np.sqrt(len(small.hashes))


@pytest.mark.parametrize(
    ("change", "code"), [({}, 0), ({"reward": np.ones(N)}, 3), ({"reward": ["x"] * N}, 2)]
)
def test_the_command_and_its_exit_codes(tmp_path, change, code):
    write(tmp_path / "log.parquet", columns() | change)
    write_policy(tmp_path / "logging.json", LOGGING)
    options = [
        "--logging",
        tmp_path / "logging.json",
        "--log-propensity",
        "log_propensity",
        "--cluster",
        "user",
    ]
    for form in ([], ["--json"]):
        ended = mopl("check", tmp_path / "log.parquet", *options, *form)
        assert ended.code == code
        if code == 2:
            assert_refused(ended)
        elif form:
            assert ended.json["verdict"] == ("refuse" if code else "trust")
            assert ended.json["n"] == N
        else:
            assert max(map(len, ended.out.splitlines())) <= 100


@pytest.mark.parametrize("decimals", [3, 4, None])
def test_rounded_densities_do_not_contradict_their_policy(decimals):
    """Densities from 1e-6 to 0.12, the small ones off by a half: no finding of theirs, neither here
    nor where the log is evaluated; wrong ones are found all the same.
    """
    density = np.exp(ONE["log_propensity"])
    stored = density.astype(np.float32) if decimals is None else np.round(density, decimals)
    kept = stored > 0
    table = {name: column[kept] for name, column in ONE.items()} | {"p": stored[kept]}
    findings = examined(table, log_propensity=None, propensity="p")
    assert level(findings, "declared density") == "trust"
    made = evaluate(table, LOGGING, logging=LOGGING, propensity="p", interval=["normal"])
    assert made.mean_weight.compatible
    wrong = table | {"p": table["p"] * 1.5}
    assert (
        level(examined(wrong, log_propensity=None, propensity="p"), "declared density") == "refuse"
    )


def test_arms_are_refused_where_a_policy_with_a_density_is_asked_about(tmp_path):
    """As `learn` asks, whether or not the log names its logging policy."""
    rng = np.random.default_rng(3)
    arm = rng.integers(0, 8, 2000)
    table = {"w_a": arm / 8.0, "w_b": (arm % 3) / 3.0, "reward": rng.normal(size=2000)}
    table |= {"propensity": np.full(2000, 0.125)}
    reader = open_log(write(tmp_path / "arms.parquet", table), action="w_")
    asked = Gaussian.diagonal(np.full(2, 0.5), 0.2)
    assert log_checks.check_rows(reader, target=asked).verdict == "refuse"
    assert log_checks.check_rows(reader).verdict != "refuse"
