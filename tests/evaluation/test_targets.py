"""Target policies from JSON against a log: `mopl evaluate --target`, `mopl compare`, in memory and
in passes.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from command import assert_refused, mopl
from scipy import stats
from worlds import standard, write
from yardsticks import binomial_tail

from mopl_jax import estimators, intervals
from mopl_jax.diagnostics.check import check_log
from mopl_jax.estimators.divergence import population_d2, product
from mopl_jax.evaluation.comparison import compare
from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.evaluation.parts import Part, p_value_of_one_value
from mopl_jax.evaluation.weighed_logs import second_moment
from mopl_jax.intervals.simultaneous import simultaneous_alpha
from mopl_jax.io import read
from mopl_jax.io.policy_json import write_policy
from mopl_jax.io.read import open_log, read_logs
from mopl_jax.learning.pipeline import learn
from mopl_jax.logs import Logs, log_weights
from mopl_jax.policies import Deterministic, Gaussian, Mixture, Uniform, smooth
from mopl_jax.policies.discrete import Discrete

N, D = 2000, 2
RNG = np.random.default_rng(3)
LOGGING = standard(D)
ACTION = RNG.normal(size=(N, D))
RATE = 1 / (1 + np.exp(-ACTION.sum(axis=1)))
TABLE = pa.table(
    {
        "w_like": ACTION[:, 0],
        "w_share": ACTION[:, 1],
        "click": (RNG.random(N) < RATE) * 1.0,
        "user": np.arange(N) // 4,
    }
)
TARGETS = {
    "normal": Gaussian.diagonal(np.array([0.3, 0.2]), 0.7),
    "box": Uniform(jnp.array([-0.5, -0.5]), jnp.array([0.7, 0.9])),
    "point": Deterministic(jnp.array([0.4, 0.4])),
    "mixture": Mixture.of(np.ones(2), [Gaussian.diagonal(np.array([0.3, 0.2]), 0.7), LOGGING]),
    "edge": Gaussian.diagonal(np.full(D, 1.5), 0.4),
    "far": Gaussian.diagonal(np.full(D, 4.0), 0.5),
}
ROLES = {"action": "w_", "reward": "click"}
FEW = ["ess_exact", "recommended"]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "log.parquet", TABLE)
    write_policy(tmp_path / "logging.json", LOGGING)
    for name, policy in TARGETS.items():
        write_policy(tmp_path / f"{name}.json", policy)
    return tmp_path


def evaluated_log(table, **options):
    return evaluate(table, **options).to_dict()


def evaluated(name, **options):
    asked = {"interval": FEW} | ROLES | options
    return evaluated_log(TABLE, target=TARGETS[name], logging=LOGGING, **asked)


@pytest.mark.parametrize("name", ["normal", "box", "mixture"])
def test_the_value_and_its_interval_are_the_librarys(name):
    said = evaluated(name)
    logs = read.read_logs(TABLE, logging=LOGGING, **ROLES)
    estimate = jax.jit(estimators.snips)(log_weights(TARGETS[name], logs), jnp.asarray(logs.reward))
    end = jax.jit(intervals.ess_exact)(estimate, 0.05)
    assert said["value"] == pytest.approx(float(estimate.value), rel=1e-12)
    assert said["intervals"][0] == {
        "name": "ess_exact",
        "lower": pytest.approx(float(end.lower), rel=1e-9),
        "upper": pytest.approx(float(end.upper), rel=1e-9),
    }


@pytest.mark.parametrize(
    "options", [{}, {"reward_range": (0, 1)}, {"cluster": "user"}, {"estimator": "beta_ips"}]
)
def test_a_log_read_in_passes_says_the_same(options):
    """Word for word, numbers to rounding."""
    one, other = (evaluated("normal", in_memory=rows, **options) for rows in (N, 10))
    flat = [json.dumps(said, default=str) for said in (one, other)]
    numbers = [[x for x in jax.tree.leaves(said) if isinstance(x, float)] for said in (one, other)]
    np.testing.assert_allclose(*numbers, rtol=1e-7, atol=1e-9)
    assert len(flat[0].split()) == len(flat[1].split())
    assert one["verdict"] == other["verdict"] == "trust"


def test_users_widen_the_interval_and_are_the_units():
    """Rewards that are the same for all rows of a user: the interval by row is too narrow by √4."""
    table = TABLE.set_column(2, "click", pa.array(np.repeat(RNG.normal(size=N // 4), 4)))
    same_action = np.repeat(ACTION[::4], 4, axis=0)
    table = table.set_column(0, "w_like", pa.array(same_action[:, 0])).set_column(
        1, "w_share", pa.array(same_action[:, 1])
    )
    options = {"target": TARGETS["normal"], "logging": LOGGING, "interval": ["normal"], **ROLES}
    by_row, by_user = (
        evaluated_log(table, **options),
        evaluated_log(table, cluster="user", **options),
    )
    assert (by_row["units"], by_user["units"], by_user["n"]) == (N, N // 4, N)
    widths = [
        said["intervals"][0]["upper"] - said["intervals"][0]["lower"] for said in (by_row, by_user)
    ]
    small_sample = (N // 4) / (N // 4 - 1) * (N - 1) / N
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(4 * small_sample), rel=1e-9)


def test_facts_come_in_closed_form_from_two_normal_policies():
    """Cantelli's interval needs d₂, Hoeffding's the largest weight: known without being given."""
    names = ["cantelli", "hoeffding", "ess_wilson"]
    known = evaluated("normal", interval=names, reward_range=(0, 1))
    facts = intervals.policy_facts(LOGGING, TARGETS["normal"], (0, 1))
    given = evaluated(
        "normal", interval=names, reward_range=(0, 1), w_max=float(facts.w_max), d2=float(facts.d2)
    )
    assert known == given
    assert all(0 <= x["lower"] < known["value"] < x["upper"] <= 1 for x in known["intervals"])
    with pytest.raises(ValueError, match="needs w_max"):
        evaluated("box", interval=["hoeffding"], reward_range=(0, 1))


def test_a_deterministic_target_is_its_smoothed_policy():
    smoothed = evaluated_log(
        TABLE,
        target=smooth(TARGETS["point"].action, 0.5),
        logging=LOGGING,
        interval=["ess_exact"],
        **ROLES,
    )
    assert evaluated("point", bandwidth=0.5, interval=["ess_exact"])["value"] == smoothed["value"]


def bowl(h, n=20_000, rows_seed=7):
    """A log of −½(a₁² + 4a₂²) with noise, and the evaluation of (0.3, −0.2) smoothed by h."""
    rng = np.random.default_rng(rows_seed)
    action = rng.normal(size=(n, D))
    reward = -0.5 * (action[:, 0] ** 2 + 4 * action[:, 1] ** 2) + 0.5 * rng.normal(size=n)
    table = {"w_like": action[:, 0], "w_share": action[:, 1], "click": reward}
    point = Deterministic(jnp.array([0.3, -0.2]))
    return evaluate(table, point, bandwidth=h, logging=LOGGING, **ROLES)


@pytest.mark.parametrize("h", [(0.6, 0.3), "0.6,0.3", 0.5])
def test_what_smoothing_adds_is_the_curvatures(h):
    """E V(a + hZ) − V(a) = −½(h₁² + 4h₂²) exactly, and the interval covers the smoothed value."""
    widths = np.broadcast_to([float(x) for x in h.split(",")] if isinstance(h, str) else h, D)
    made = bowl(h)
    exact = -0.5 * (widths[0] ** 2 + 4 * widths[1] ** 2)
    assert abs(made.smoothing.bias - exact) < 4 * made.smoothing.bias_error
    value = -0.5 * (0.3**2 + 4 * 0.2**2)
    assert made.interval.lower < value + exact < made.interval.upper < value
    assert made.smoothing.bandwidth == pytest.approx(tuple(widths))
    assert made.verdict == "caution"
    assert any("not of the weights" in text for text in made.reasons)


def test_a_smoothing_that_hardly_matters_is_no_reason():
    made = bowl(0.1, 3000)
    assert not any("smoothing" in text for text in made.reasons)
    assert bowl(0.3, 10).verdict == "refuse"  # and too few rows tell nothing of its bias
    assert np.isnan(bowl(0.3, 10).smoothing.bias)


def test_smoothed_values_are_called_so(folder):
    said = compare(
        TABLE, ["logging", folder / "point.json"], bandwidth=0.4, logging=LOGGING, **ROLES
    )
    assert [x.policy for x in said.policies] == ["logging", "point, smoothed"]
    command = ("evaluate", folder / "log.parquet", "--target", folder / "point.json")
    roles = ("--logging", folder / "logging.json", "--action", "w_", "--reward", "click")
    out = mopl(*command, *roles, "--bandwidth", "0.4,0.3").out
    assert "value of the smoothed target" in out
    assert "smoothed by bandwidth 0.4, 0.3; that adds about" in out
    with pytest.raises(ValueError, match="one for each weight"):
        evaluated("point", bandwidth="0.1,0.2,0.3")


def test_equal_rewards_and_no_overlap_are_refused():
    table = TABLE.set_column(2, "click", pa.array(np.zeros(N)))
    options = {"target": TARGETS["normal"], "logging": LOGGING, "interval": ["ess_exact"], **ROLES}
    assert evaluated_log(table, **options)["verdict"] == "refuse"
    assert evaluated_log(table, reward_range=(0, 1), **options)["verdict"] == "caution"
    assert evaluated("far")["verdict"] == "refuse"
    assert evaluated("edge")["verdict"] == "caution"


@pytest.mark.parametrize("in_memory", [10, 10 * N])
def test_a_reward_outside_the_declared_range_is_named(in_memory):
    """A bound that uses the range would not be one: no number is given."""
    first = int(np.argmax(np.asarray(TABLE["click"]) > 0)) + 1
    with pytest.raises(
        ValueError, match=rf"row {first} .*: expected a reward in \[0, 0.5\], got 1.0; declare"
    ):
        evaluated("normal", reward_range=(0, 0.5), in_memory=in_memory)


@pytest.mark.parametrize("named", [{}, {"log_propensity": "log_propensity"}])
def test_propensities_that_contradict_the_logging_policy_are_refused(named):
    """Whether the column is named or found by its name; one that agrees changes nothing."""
    density = np.asarray(jax.vmap(LOGGING.log_density)(jnp.asarray(ACTION)))
    options = (
        {"target": TARGETS["normal"], "logging": LOGGING, "interval": ["normal"]} | ROLES | named
    )
    agreeing = TABLE.append_column("log_propensity", pa.array(density))
    assert evaluated_log(agreeing, **options)["value"] == pytest.approx(
        evaluated("normal")["value"], rel=1e-9
    )
    with pytest.raises(
        ValueError, match="row 1 .* expected the log density of the logging policy, got"
    ):
        evaluated_log(TABLE.append_column("log_propensity", pa.array(density + 0.5)), **options)


def test_a_largest_weight_that_the_log_exceeds_is_refused():
    """And one of rows says nothing of users."""
    options = {"reward_range": (0, 1), "interval": ["hoeffding"]}
    with pytest.raises(ValueError, match=r"weights up to w_max = 1, got .* in row \d+"):
        evaluated("normal", w_max=1.0, **options)
    with pytest.raises(ValueError, match="--w-max, --d2: expected a log without --cluster"):
        evaluated("normal", w_max=100.0, cluster="user", **options)


# Comparisons.


def compared(*names, **options):
    policies = ["logging" if name == "logging" else TARGETS[name] for name in names]
    return compare(TABLE, policies, logging=LOGGING, **ROLES, **options).to_dict()


def test_differences_are_those_of_the_estimators_and_hold_together():
    said = compared("logging", "normal", "box")
    logs = read.read_logs(TABLE, logging=LOGGING, **ROLES)
    reward = jnp.asarray(logs.reward)
    base = estimators.snips(jnp.zeros(N), reward)
    estimate = estimators.difference(
        estimators.snips(log_weights(TARGETS["normal"], logs), reward), base
    )
    change = said["policies"][1]["difference"]
    assert change["value"] == pytest.approx(float(estimate.value), rel=1e-10)
    assert 0.025 < said["alpha_each"] < 0.05
    assert change["lower"] < change["alone"]["lower"] < change["alone"]["upper"] < change["upper"]
    passes = compared("logging", "normal", "box", in_memory=10)
    for one, other in zip(jax.tree.leaves(said), jax.tree.leaves(passes), strict=True):
        assert one == (
            pytest.approx(other, rel=1e-8, abs=1e-10) if isinstance(one, float) else other
        )


def test_the_same_policy_twice_claims_nothing():
    """No variation between them: the whole line, not a point at zero."""
    made = compared("normal", "normal")
    said = made["policies"][1]["difference"]
    assert (said["value"], said["lower"], said["upper"]) == (0, -np.inf, np.inf)
    assert any("no range is declared" in text for text in made["warnings"])


@pytest.mark.nightly
def test_a_declared_range_serves_the_values_that_are_compared():
    """Each value has the interval of `evaluate`, and clicks without a range are not said."""
    declared = compared("normal", "normal", reward_range=(0, 1))
    assert not declared["warnings"]
    own = evaluated("normal", reward_range=(0, 1))["intervals"][1]
    row = declared["policies"][0]
    assert (row["lower"], row["upper"]) == pytest.approx((own["lower"], own["upper"]), rel=1e-9)


def test_policies_of_one_file_name_are_told_apart(folder):
    (folder / "new").mkdir()
    for name in ("box.json", "new/box.json"):
        write_policy(folder / name, TARGETS["box"])
    paths = [folder / name for name in ("normal.json", "box.json", "new/box.json", "normal.json")]
    said = compare(TABLE, paths, logging=LOGGING, **ROLES).to_dict()["policies"]
    own = f"{folder.name}/box"
    assert [x["policy"] for x in said][1:3] == [own, "new/box"]
    assert len({x["policy"] for x in said}) == 4


def test_users_without_a_heavy_weight_have_no_heavy_tail():
    """The tail is of weights a row: how many rows users have is no tail of the weights."""
    rows = 1 + np.random.default_rng(0).poisson(2.5, N)
    user = np.repeat(np.arange(N), rows)[:N]
    table = TABLE.set_column(3, "user", pa.array(user))
    for options in ({}, {"in_memory": 10}):
        said = compare(
            table,
            ["logging", TARGETS["normal"]],
            logging=LOGGING,
            cluster="user",
            **ROLES,
            **options,
        )
        assert said.policies[0].verdict == "trust"
    told = evaluate(
        table, LOGGING, logging=LOGGING, cluster="user", **ROLES, interval=["ess_exact"]
    )
    assert told.pareto_k == -np.inf
    assert (told.mean_weight.mean, told.mean_weight.p_value) == (1, 1)


SEASONS = (0.3, 0.4, 0.5)  # the reward's mean while each logger played; weights change nothing
LOGGERS = (
    Gaussian.diagonal([0.0, 0.0], 1.0),
    Gaussian.diagonal([0.5, 0.3], 1.0),
    Gaussian.diagonal([1.0, 0.6], 0.9),
)


def seasons(folder, seed=0, users=False, **keys):
    """Three logs of loggers that moved while rewards rose for other reasons."""
    rng = np.random.default_rng(seed)
    text = "".join(f"{key} = {str(value).lower()}\n" for key, value in keys.items())
    for k, (rate, policy) in enumerate(zip(SEASONS, LOGGERS, strict=True)):
        action = np.asarray(policy.mean) + np.asarray(policy.scale) * rng.normal(size=(N, D))
        table = {"w_like": action[:, 0], "w_share": action[:, 1]}
        table |= {"click": (rng.random(N) < rate) * 1.0, "user": np.arange(N) // 4 + k * N}
        write(folder / f"season{k}.parquet", table)
        write_policy(folder / f"season{k}.json", policy)
        text += f'[[files]]\npath = "season{k}.parquet"\nlogging = "season{k}.json"\n'
    (folder / "seasons.toml").write_text('action = "w_"\nreward = "click"\n' + text)
    return folder / "seasons.toml"


@pytest.mark.parametrize("options", [{}, {"cluster": "user"}, {"in_memory": 10}])
def test_what_changed_between_logs_favours_no_policy(tmp_path, options):
    """The true difference is 0; the weights of the mixture see a gain that the seasons made."""
    pair = Gaussian.diagonal([0.2, 0.1], 0.6), Gaussian.diagonal([0.8, 0.5], 0.6)
    said = compare(seasons(tmp_path), pair, **options)
    change = said.policies[1].difference
    assert change.lower < 0 < change.upper
    assert any("not one in all logs" in text for text in said.warnings)
    for candidate in said.policies:
        for part, rate in zip(candidate.parts, SEASONS, strict=True):
            assert abs(part.value - rate) < 4 * part.standard_error
    alone = evaluate(tmp_path / "seasons.toml", pair[0], **options)
    assert alone.verdict == "caution"
    assert any("not one in all logs" in text for text in alone.reasons)
    mixed = compare(seasons(tmp_path, mixture=True), pair)
    assert mixed.policies[1].difference.lower > 0
    assert {each.verdict for each in mixed.policies} == {"refuse"}
    assert mixed.decisions[1] == "not answerable"
    assert all("drop mixture = true" in each.reasons[0] for each in mixed.policies)


def two_periods(at_once):
    """The North Star rises by 1 between two periods and so do the weights, which do nothing; or the
    same rows in any order.
    """
    rng = np.random.default_rng(0)
    period = np.arange(2000) // 1000
    if at_once:
        rng.shuffle(period)
    action = period[:, None] + rng.normal(size=(2000, 2))
    season = np.arange(2000) // 1000
    return {"w_a": action[:, 0], "w_b": action[:, 1], "reward": season + rng.normal(size=2000)}


LOW, HIGH = (Gaussian.diagonal([x, x], 1.0) for x in (0.0, 1.0))


def test_a_season_between_the_policies_of_a_mixture_is_refused(tmp_path):
    """By every verb: its weights take the season, 1, for the work of the policies, 0. A mixture
    whose policies play at one time has no such doubt, and is right.
    """
    roles = {"action": "w_", "logging": Mixture.of([0.5, 0.5], [LOW, HIGH])}
    log = write(tmp_path / "log.parquet", two_periods(at_once=False))
    made = compare(log, [LOW, HIGH], **roles)
    assert made.policies[1].difference.lower > 0.2
    assert made.decisions == (None, "not answerable")
    assert compare(log, ["logging", HIGH], **roles).policies[0].verdict == "trust"
    said = [evaluate(log, HIGH, **roles), check_log(log, **roles)]
    learnt = learn(log, estimator="snips", certificate="normal", share=0.5, **roles)
    assert {each.verdict for each in (*said, learnt)} == {"refuse"}
    assert learnt.keep
    assert any("played at different times" in text for text in said[0].reasons)
    fair = write(tmp_path / "fair.parquet", two_periods(at_once=True))
    right = compare(fair, [LOW, HIGH], **roles)
    change = right.policies[1].difference
    assert change.lower < 0 < change.upper
    assert {each.verdict for each in right.policies} == {"trust"}
    assert not any("mixture" in text for text in right.warnings)


ARMS = np.array([[0.0], [1.0]])
PAIR = [Discrete.of(ARMS, np.array(p)) for p in ([0.9, 0.1], [0.1, 0.9])]
EVEN = {"logging": Discrete.of(ARMS, np.array([0.5, 0.5])), "action": "w", "reward": "r"}


@pytest.mark.parametrize("in_memory", [1000, 50])
def test_users_who_play_both_policies_in_balance_are_pairs(in_memory):
    """Their weights are the same under both; the interval is that of Student's paired t test."""
    rng = np.random.default_rng(0)
    user, arm = np.repeat(np.arange(30), 4), np.arange(120) % 2
    reward = arm + rng.normal(size=30)[user] + rng.normal(size=120)
    log = pa.table({"user": user, "w": 1.0 * arm, "r": reward})
    asked = {"cluster": "user", "interval": "ess_exact", "in_memory": in_memory}
    change = compare(log, PAIR, **EVEN, **asked).policies[1].difference
    shape = reward.reshape(30, 2, 2).mean(axis=1)
    paired = 0.8 * (shape[:, 1] - shape[:, 0])
    ends = stats.t.interval(0.95, 29, paired.mean(), stats.sem(paired))
    np.testing.assert_allclose((change.lower, change.upper), ends, rtol=1e-4)
    assert change.ess == pytest.approx(30, rel=1e-5)


def test_what_was_logging_differs_by_its_policies_alone(tmp_path):
    """Of pooled logs without a season nothing is said of the logged values, which differ."""
    text, rng = 'action = "w_"\n', np.random.default_rng(0)
    for k, policy in enumerate((LOW, HIGH)):
        action = k + rng.normal(size=(2000, 2))
        reward = action[:, 0] + 0.3 * rng.normal(size=2000)
        columns = {"w_a": action[:, 0], "w_b": action[:, 1], "reward": reward}
        write(tmp_path / f"{k}.parquet", columns)
        write_policy(tmp_path / f"{k}.json", policy)
        text += f'[[files]]\npath = "{k}.parquet"\nlogging = "{k}.json"\n'
    (tmp_path / "log.toml").write_text(text)
    made = compare(tmp_path / "log.toml", ["logging", Gaussian.diagonal([0.5, 0.5], 0.8)])
    assert not any("not one in all logs" in text for text in made.warnings)


def test_a_log_that_has_not_seen_the_target_has_no_say(tmp_path):
    """The target is where the second logger hardly plays. Beside what was logging, the value of all
    logs, its rows count: of its half all is unseen.
    """
    far = Gaussian.diagonal([0.0, 0.0], 0.5), Gaussian.diagonal([8.0, 8.0], 0.5)
    text = 'action = "w_"\nreward = "click"\n'
    for k, policy in enumerate(far):
        action = np.asarray(policy.mean) + 0.5 * np.random.default_rng(k).normal(size=(500, D))
        write(
            tmp_path / f"{k}.parquet",
            {"w_like": action[:, 0], "w_share": action[:, 1], "click": action[:, 0]},
        )
        write_policy(tmp_path / f"{k}.json", policy)
        text += f'[[files]]\npath = "{k}.parquet"\nlogging = "{k}.json"\n'
    target, log = Gaussian.diagonal([0.1, 0.0], 0.4), tmp_path / "far.toml"
    for mixture in (False, True):
        log.write_text(f"mixture = {str(mixture).lower()}\n" + text)
        said = evaluate(log, target)
        assert said.unseen == pytest.approx(0, abs=0.02)
        assert said.verdict == "trust"
        assert abs(said.value - 0.1) < 0.1
    log.write_text(text)
    assert compare(log, [LOGGING, target]).policies[1].verdict == "refuse"


def test_a_policy_that_this_log_taught_is_flattered_by_it(tmp_path):
    """Learnt from the second of three logs: said of all and of that one, not of the third."""
    log, new = seasons(tmp_path), tmp_path / "new.json"
    write_policy(new, TARGETS["normal"], provenance={"log": str(tmp_path / "season1.parquet")})
    roles = {"action": "w_", "reward": "click"}
    for path, options, doubted in (
        (log, {}, True),
        (tmp_path / "season1.parquet", {**roles, "logging": LOGGERS[1]}, True),
        (tmp_path / "season2.parquet", {**roles, "logging": LOGGERS[2]}, False),
    ):
        for given in (path, open_log(path, **options)):  # as in Python, and as the command does
            more = options if given is path else {}
            warnings = evaluate(given, new, **more).warnings
            assert any("was learnt from season1.parquet" in text for text in warnings) == doubted
    warnings = compare(log, ["logging", new]).warnings
    assert any("was learnt from season1.parquet" in text for text in warnings)
    pooled = " + ".join(str(tmp_path / f"season{k}.parquet") for k in (1, 2))
    write_policy(tmp_path / "pooled.json", TARGETS["normal"], provenance={"log": pooled})
    warnings = evaluate(log, tmp_path / "pooled.json").warnings
    assert any("was learnt from season1.parquet" in text for text in warnings)


def test_logs_weigh_by_what_they_know_of_the_target(tmp_path):
    """Rows by w/d₂ of their own log, in memory and in passes: value, ESS, and each log's share."""
    target, log = TARGETS["normal"], seasons(tmp_path)
    said, passes = evaluate(log, target), evaluate(log, target, in_memory=10)
    w, reward = [], []
    for k, policy in enumerate(LOGGERS):
        rows = read_logs(
            tmp_path / f"season{k}.parquet", action="w_", reward="click", logging=policy
        )
        d2 = float(population_d2(policy, target))
        w.append(np.exp(np.asarray(log_weights(target, rows))) / d2)
        reward.append(np.asarray(rows.reward))
    total = np.concatenate(w)
    assert said.value == pytest.approx(total @ np.concatenate(reward) / total.sum(), rel=1e-9)
    assert said.ess.kish == pytest.approx(total.sum() ** 2 / (total @ total), rel=1e-9)
    for part, own in zip(said.parts, w, strict=True):
        assert part.share == pytest.approx(own.sum() / total.sum(), rel=1e-9)
    assert passes.value == pytest.approx(said.value, rel=1e-9)
    assert passes.unseen == pytest.approx(said.unseen, abs=1e-9)
    bounded = evaluate(log, target, w_max=1e6)  # which bounds the weights of rows as they are
    assert sum(part.share * part.value for part in bounded.parts) == pytest.approx(bounded.value)
    assert bounded.value != said.value


def test_the_second_moment_of_a_mixture_is_that_of_its_pairs():
    """d₂ of a mixture: Σ ωₐ ω_b E w_a w_b, which draws of it find."""
    parts, share = [Gaussian.diagonal([x, 0.0], 0.6) for x in (0.0, 0.8)], np.array([0.3, 0.7])
    pairs = np.array([[float(product(LOGGERS[1], a, b).size) for a in parts] for b in parts])
    found = float(second_moment(LOGGERS[1], Mixture.of(share, parts)))
    assert found == pytest.approx(share @ pairs @ share, rel=0.05)


def test_the_rows_of_a_user_do_not_make_logs_differ(tmp_path):
    """Rewards that a user repeats: over 40 pairs of logs of one value, hardly any doubt."""
    doubts = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        text = 'action = "w_"\nreward = "click"\ncluster = "user"\n'
        for k, policy in enumerate(LOGGERS[:2]):
            action = np.asarray(policy.mean) + rng.normal(size=(400, D))
            reward = np.repeat(rng.random(40) < 0.4, 10) * 1.0
            table = {"w_like": action[:, 0], "w_share": action[:, 1], "click": reward}
            write(tmp_path / f"{k}.parquet", table | {"user": np.arange(400) // 10 + 40 * k})
            write_policy(tmp_path / f"{k}.json", policy)
            text += f'[[files]]\npath = "{k}.parquet"\nlogging = "{k}.json"\n'
        (tmp_path / "two.toml").write_text(text)
        said = evaluate(tmp_path / "two.toml", TARGETS["normal"], interval=["normal"])
        doubts += any("not one in all logs" in text for text in said.reasons)
    assert doubts <= 2  # P(more of 40 at 1 %) = 0.008


def test_logs_that_tell_one_value_are_as_often_doubted_as_the_level_says():
    """Cochran's Q on normal values of one mean."""
    rng = np.random.default_rng(5)
    error = np.array([0.1, 0.2, 0.4])
    values = rng.normal(1.0, error, (2000, 3))
    found = [
        p_value_of_one_value([Part("", 9, 0.5, *x) for x in zip(row, error, strict=True)])
        for row in values
    ]
    assert binomial_tail(int(np.sum(np.array(found) < 0.05)), 2000, 0.05) > 1e-3


@pytest.mark.parametrize("correlation", [0.0, 0.6, 1.0])
def test_the_simultaneous_level_is_that_of_the_largest_normal(correlation):
    """Independent: 1 − (1−α)^{1/k}; perfectly correlated: α; by simulation with another seed in
    between.
    """
    matrix = np.full((4, 4), correlation) + (1 - correlation) * np.eye(4)
    level = simultaneous_alpha(matrix, 0.1)
    exact = {0.0: (1 - 0.9**0.25, 0.25 * 0.9**-0.75), 1.0: (0.1, 1.0)}  # and its slope in α
    if correlation in exact:
        expected, slope = exact[correlation]
        assert level == pytest.approx(expected, abs=3 * slope * np.sqrt(0.1 * 0.9 / 100_000))
    draws = np.random.default_rng(8).multivariate_normal(np.zeros(4), matrix, 20_000, method="eigh")

    hits = int((np.abs(draws).max(axis=1) <= stats.norm.isf(level / 2)).sum())
    assert binomial_tail(hits, 20_000, 0.9) > 1e-3
    assert simultaneous_alpha(np.eye(1), 0.1) == 0.1


# The commands.


OPTIONS = ("--logging", "logging.json", "--action", "w_", "--reward", "click")


def test_pages_fit_one_hundred_columns_and_exit_codes_follow_the_verdict(monkeypatch, folder):
    monkeypatch.chdir(folder)
    evaluate = ("evaluate", "log.parquet", "--interval", "ess_exact")
    for arguments, expected in (
        ((*evaluate, "--target", "normal.json", "--cluster", "user"), 0),
        ((*evaluate, "--target", "edge.json"), 0),
        ((*evaluate, "--target", "far.json"), 3),
        (("compare", "log.parquet", "logging", "normal.json", "box.json"), 0),
        (("compare", "log.parquet", "normal.json", "far.json"), 3),
    ):
        code, out, err = mopl(*arguments, *OPTIONS)
        assert (code, err) == (expected, "")
        assert max(map(len, out.splitlines())) <= 100
        ended = mopl(*arguments, *OPTIONS, "--json")
        assert (ended.code, ended.err) == (expected, "")
        assert ended.json["n"] == N


BAD = {
    "no target": ((), "expected a target"),
    "two targets": (
        ("--target", "normal.json", "--target-propensity", "click"),
        "expected a target",
    ),
    "no file": (("--target", "none.json"), "none.json: cannot be read"),
    "no density": (("--target", "point.json"), "give --bandwidth"),
    "a density": (
        ("--target", "normal.json", "--bandwidth", "1"),
        "--bandwidth is for a deterministic target",
    ),
    "bandwidth 0": (
        ("--target", "point.json", "--bandwidth", "0"),
        "expected a standard deviation > 0",
    ),
    "bandwidth x": (
        ("--target", "point.json", "--bandwidth", "x"),
        "expected a standard deviation > 0",
    ),
    "dimension": (
        ("--target", "three.json"),
        "the target policy has 3 weights, the log's action 2 (w_like, w_share)",
    ),
    "names": (("--target", "names.json"), "its objectives are share, watch, the log's weights w_"),
    "stale": (("--target", "stale.json"), "expected policy format 1, got 0"),
    "range": (
        ("--target", "normal.json", "--reward-range", "1,0"),
        "--reward-range: expected LOW,HIGH",
    ),
    "facts": (
        ("--target", "normal.json", "--interval", "ess_wilson"),
        "'ess_wilson' needs reward_range",
    ),
    "memory": (
        ("--target", "normal.json", "--interval", "bca", "--in-memory", "9"),
        "interval 'bca' needs all rows in memory",
    ),
    "w_max": (
        ("--target", "normal.json", "--w-max", "0.5"),
        "--w-max: expected a number of at least 1",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_targets_are_one_line_and_exit_2(monkeypatch, folder, case):
    monkeypatch.chdir(folder)
    write_policy(folder / "three.json", Gaussian.diagonal(np.zeros(3), 1.0))
    write_policy(folder / "names.json", TARGETS["normal"], objectives=["share", "watch"])
    (folder / "stale.json").write_text('{"mopl_policy": 0, "kind": "normal"}')
    arguments, message = BAD[case]
    assert_refused(mopl("evaluate", "log.parquet", *arguments, *OPTIONS), message)


NAMES = {"objectives": ["w_like", "w_share"]}
SWAPPED = {"objectives": ["share", "like"]}
TWO = Gaussian.diagonal(np.array([0.1, -0.2]), np.array([1.0, 1.2]))
SHIFTED = Gaussian.diagonal(np.array([0.3, 0.1]), np.array([0.7, 0.8]))
DOORS = {
    "evaluate": ("evaluate", "log.parquet", "--target", "new.json", "--logging", "old.json"),
    "compare": ("compare", "log.parquet", "logging", "new.json", "--logging", "old.json"),
    "pool": ("evaluate", "pool.toml", "--target", "new.json"),
    "check": ("check", "log.parquet", "--logging", "old.json"),
    "plan": ("plan", "--pilot", "log.parquet", "--logging", "old.json", "--covariance", "new.json"),
}


@pytest.mark.parametrize("door", DOORS)
def test_weights_are_matched_by_name_at_every_door(door, folder, monkeypatch):
    """Documents in another order say the same, whichever of the policies they are of."""
    monkeypatch.chdir(folder)
    files = "".join(
        f'[[files]]\npath = "log.parquet"\nlogging = "{x}.json"\n' for x in ("old", "new")
    )
    (folder / "pool.toml").write_text(f'action = "w_"\nreward = "click"\n{files}')
    roles = () if door == "pool" else ("--action", "w_", "--reward", "click")
    found = []
    for order, objectives in (([0, 1], NAMES), ([1, 0], SWAPPED)):
        for name, policy in (("old", TWO), ("new", SHIFTED)):
            columns = np.asarray(policy.mean)[order], np.asarray(policy.scale)[order]
            write_policy(folder / f"{name}.json", Gaussian.diagonal(*columns), **objectives)
        found.append(mopl(*DOORS[door], *roles, "--json"))
    assert found[0].code in (0, 3)
    assert found[0].json == found[1].json


@pytest.mark.parametrize("where", ["file of lists", "memory"])
def test_a_target_of_another_dimension_is_refused(tmp_path, where):
    """Also where the log's action is one column of lists: by the command and by the verb."""
    action = np.random.default_rng(1).normal(size=(60, 3))
    density = stats.norm.logpdf(action).sum(axis=1)
    logs = Logs(action, density, action[:, 0])
    if where == "memory":
        with pytest.raises(ValueError, match="target policy has 2 weights, the log's action 3"):
            evaluate(logs, standard(2))
        return
    table = pa.table({"action": list(action), "log_propensity": density, "reward": action[:, 0]})
    pa.parquet.write_table(table, tmp_path / "log.parquet")
    write_policy(tmp_path / "target.json", standard(2))
    ended = mopl("evaluate", tmp_path / "log.parquet", "--target", tmp_path / "target.json")
    assert_refused(ended)
    assert "target policy has 2 weights, the log's action 3" in ended.err


# Decisions.


def worlds_apart(gap, n=4000, seed=11):
    """A log of one weight, whose reward rises by `gap` a unit, and two policies a unit apart."""
    rng = np.random.default_rng(seed)
    action = rng.normal(size=(n, 1))
    table = {"w_like": action[:, 0], "click": gap * action[:, 0] + rng.normal(size=n)}
    pair = Gaussian.diagonal([-0.5], 0.7), Gaussian.diagonal([0.5], 0.7)
    return table, pair


@pytest.mark.parametrize("minimise", [False, True])
def test_what_is_better_depends_on_whether_less_is(minimise):
    table, pair = worlds_apart(0.5)
    said = compare(table, pair, logging=standard(1), minimise=minimise, **ROLES)
    assert said.decisions == (None, "worse" if minimise else "better")
    assert said.to_dict()["policies"][1]["decision"] == said.decisions[1]
    assert said.policies[1].difference.more == 0


def test_a_refused_policy_answers_nothing():
    said = compare(TABLE, [TARGETS["normal"], TARGETS["far"]], logging=LOGGING, **ROLES)
    assert said.decisions[1] == "not answerable"
    assert compare(TABLE, [TARGETS["far"], TARGETS["normal"]], logging=LOGGING, **ROLES).decisions[
        1
    ] == ("not answerable")


def test_so_many_more_rows_tell_the_difference_with_the_power_that_is_said():
    """Of logs with n + more rows, about 80 % tell a difference as large as was estimated."""
    table, pair = worlds_apart(0.03)
    change = compare(table, pair, logging=standard(1), **ROLES).policies[1].difference
    assert change.lower < 0 < change.upper
    n, gap = round(4000 + change.more), change.value  # the policies are a unit apart
    told = 0
    for seed in range(60):
        larger, _ = worlds_apart(gap, n, 100 + seed)
        found = compare(larger, pair, logging=standard(1), **ROLES).policies[1].difference
        told += not found.lower < 0 < found.upper
    assert binomial_tail(told, 60, 0.8) > 1e-3


def test_the_screen_answers_in_one_line(folder):
    asked = ("compare", folder / "log.parquet", "logging", folder / "normal.json")
    roles = ("--logging", folder / "logging.json", "--action", "w_", "--reward", "click")
    assert "normal: better than logging, by at least 0." in mopl(*asked, *roles).out
    assert "normal: worse than logging" in mopl(*asked, *roles, "--minimise").out
