"""What platforms really play: log-normal, bounded, on a simplex, arms, products; their densities,
draws, documents, and their way through the verbs.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from scipy import optimize, special, stats
from worlds import sample_rows, write
from yardsticks import KEY, standard_errors

from mopl_jax.diagnostics.check import check_log
from mopl_jax.estimators.weight_facts import weight_facts
from mopl_jax.evaluation.comparison import compare
from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.intervals.facts import policy_facts
from mopl_jax.io.draws import draw
from mopl_jax.io.policy_json import parse, read_policy, write_policy
from mopl_jax.policies import (
    ClippedNormal,
    Dirichlet,
    Discrete,
    Gaussian,
    Mixture,
    Product,
    Transformed,
    TruncatedNormal,
    log_normal,
    logistic_normal,
    soft_clipped_normal,
)

MEAN, SCALE = np.array([0.5, -1.0]), np.array([0.3, 1.0])
LOW, HIGH = np.array([0.0, 0.5]), np.array([1.0, np.inf])
NORMAL = Gaussian.diagonal(MEAN, SCALE)
ARMS = np.array([[0.1, 1.0], [0.2, 1.0], [0.3, 0.5]])
SHARE = np.array([0.5, 0.3, 0.2])
SOFT = np.array([0.3, 0.2])
POLICIES = {
    "log_normal": log_normal(MEAN, SCALE),
    "logistic_normal": logistic_normal(MEAN, SCALE),
    "truncated": TruncatedNormal(NORMAL, jnp.asarray(LOW), jnp.asarray(HIGH)),
    "clipped": ClippedNormal(NORMAL, jnp.array([0.3, -1.5]), jnp.array([0.9, 0.0])),
    "dirichlet": Dirichlet(jnp.array([2.0, 0.7, 3.0])),
    "arms": Discrete.of(ARMS, SHARE),
    "soft_clipped": soft_clipped_normal(MEAN, SCALE, [0.2, -np.inf], [1.0, 0.1], SOFT),
}
POLICIES["product"] = Product((POLICIES["log_normal"], POLICIES["arms"]))
every_policy = pytest.mark.parametrize("name", POLICIES)


def _truncated(actions):
    ends = (LOW - MEAN) / SCALE, (HIGH - MEAN) / SCALE
    return stats.truncnorm.logpdf(actions, *ends, loc=MEAN, scale=SCALE).sum(axis=1)


def _clipped(actions):
    low, high = np.asarray(POLICIES["clipped"].low), np.asarray(POLICIES["clipped"].high)
    between = stats.norm.logpdf(actions, MEAN, SCALE)
    at_low, at_high = stats.norm.logcdf(low, MEAN, SCALE), stats.norm.logsf(high, MEAN, SCALE)
    return np.where(actions <= low, at_low, np.where(actions >= high, at_high, between)).sum(axis=1)


def _shares(actions):
    ratios = np.log(actions[:, :-1] / actions[:, -1:])
    return stats.norm.logpdf(ratios, MEAN, SCALE).sum(axis=1) - np.log(actions).sum(axis=1)


def _bent(z, low, high, s, action=0.0):
    return z + s * (np.logaddexp(0, (low - z) / s) - np.logaddexp(0, (z - high) / s)) - action


def _soft_clipped(actions):
    """By a root of the map, and its slope there."""
    numbers = np.array([0.2, -np.inf]), np.array([1.0, 0.1]), SOFT
    root = np.vectorize(lambda *x: optimize.brentq(_bent, -30, 30, x, xtol=1e-14))
    z, (low, high, s) = root(*numbers, actions), numbers
    slope = special.expit((z - low) / s) - special.expit((z - high) / s)
    return (stats.norm.logpdf(z, MEAN, SCALE) - np.log(slope)).sum(axis=1)


def _arms(actions):
    return np.log(SHARE)[np.argmin(np.abs(actions[:, :1] - ARMS[:, 0]), axis=1)]


DENSITIES = {
    "log_normal": lambda a: stats.lognorm.logpdf(a, SCALE, scale=np.exp(MEAN)).sum(axis=1),
    "logistic_normal": _shares,
    "truncated": _truncated,
    "clipped": _clipped,
    "dirichlet": lambda a: np.array([stats.dirichlet.logpdf(x, [2.0, 0.7, 3.0]) for x in a]),
    "arms": _arms,
    "soft_clipped": _soft_clipped,
    "product": lambda a: DENSITIES["log_normal"](a[:, :2]) + _arms(a[:, 2:]),
}
OUTSIDE = {
    "log_normal": [-1.0, 1.0],
    "logistic_normal": [0.3, 0.3, 0.3],
    "truncated": [1.1, 1.0],
    "clipped": [0.2, -1.0],
    "dirichlet": [0.5, 0.6, -0.1],
    "arms": [0.1, 0.5],
    "soft_clipped": [0.5, 0.2],
    "product": [1.0, 1.0, 0.1, 0.5],
}


@functools.cache
def drawn(name, n=20_000):
    return np.asarray(sample_rows(KEY, POLICIES[name], n))


def densities(name, actions):
    return np.asarray(jax.vmap(POLICIES[name].log_density)(jnp.asarray(actions)))


@every_policy
def test_densities_are_scipys_and_nothing_outside(name):
    actions = drawn(name)[:200]
    assert POLICIES[name].dim == actions.shape[1]
    np.testing.assert_allclose(densities(name, actions), DENSITIES[name](actions), rtol=1e-9)
    assert np.isneginf(densities(name, [OUTSIDE[name]])[0])
    gradient = jax.grad(POLICIES[name].log_density)(jnp.asarray(actions[0]))
    assert np.isfinite(gradient).all()


MOMENTS = {
    "log_normal": (
        stats.lognorm.mean(SCALE, scale=np.exp(MEAN)),
        np.diag(stats.lognorm.var(SCALE, scale=np.exp(MEAN))),
    ),
    "truncated": tuple(
        f(stats.truncnorm((LOW - MEAN) / SCALE, (HIGH - MEAN) / SCALE, MEAN, SCALE))
        for f in (lambda x: x.mean(), lambda x: np.diag(x.var()))
    ),
    "dirichlet": (stats.dirichlet.mean([2, 0.7, 3]), stats.dirichlet([2, 0.7, 3]).cov()),
    "arms": (SHARE @ ARMS, np.cov(ARMS.T, aweights=SHARE, bias=True)),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_means_and_covariances_are_scipys_and_the_draws(name):
    mean, covariance = MOMENTS[name]
    np.testing.assert_allclose(POLICIES[name].mean, mean, rtol=1e-9)
    np.testing.assert_allclose(POLICIES[name].covariance, covariance, rtol=1e-8, atol=1e-12)
    assert standard_errors(drawn(name), mean).max() < 4.5


@every_policy
def test_draws_follow_the_density(name):
    """E of the weights of another policy of the kind is 1, at 4.5 standard errors; see `OTHERS`."""
    action = jnp.asarray(drawn(name))
    weight = np.exp(jax.vmap(OTHERS[name].log_density)(action) - densities(name, action))
    assert standard_errors(weight[:, None], np.ones(1)).max() < 4.5
    assert 0.01 < weight.std() < 3


NEAR = Gaussian.diagonal(MEAN + 0.1, 0.9 * SCALE)
OTHERS = {
    "log_normal": log_normal(MEAN + 0.1, 0.9 * SCALE),
    "logistic_normal": logistic_normal(MEAN + 0.1, 0.9 * SCALE),
    "truncated": TruncatedNormal(NEAR, POLICIES["truncated"].low, POLICIES["truncated"].high),
    "clipped": ClippedNormal(NEAR, POLICIES["clipped"].low, POLICIES["clipped"].high),
    "dirichlet": Dirichlet(jnp.array([2.2, 0.8, 3.1])),
    "arms": Discrete.of(ARMS, [0.3, 0.3, 0.4]),
    "soft_clipped": Transformed(NEAR, POLICIES["soft_clipped"].map),
}
OTHERS["product"] = Product((OTHERS["log_normal"], OTHERS["arms"]))


def test_clipped_policies_know_their_moments_and_their_weights():
    """By quadrature between the bounds and the probabilities at them, also without a bound."""
    bounds = jnp.array([0.3, -jnp.inf]), jnp.array([0.9, 0.0])
    logging, target = (ClippedNormal(x, *bounds) for x in (NORMAL, NEAR))
    mean, square, d2, w_max = np.zeros(2), np.zeros(2), 1.0, 1.0
    for k, (low, high) in enumerate(np.array(bounds).T):
        p, q = (stats.norm(float(x.mean[k]), float(x.scale[k])) for x in (NEAR, NORMAL))
        atoms = [(end, p.cdf(end) if sign < 0 else p.sf(end), q.cdf(end) if sign < 0 else q.sf(end))
                 for sign, end in ((-1, low), (1, high)) if np.isfinite(end)]  # fmt: skip
        between = np.linspace(max(low, MEAN[k] - 12 * SCALE[k]), high, 200_001)

        def whole(f, g, between=between, atoms=atoms):
            return np.trapezoid(f(between), between) + sum(g(*each) for each in atoms)

        mean[k] = whole(lambda x, p=p: x * p.pdf(x), lambda x, p, q: x * p)
        square[k] = whole(lambda x, p=p: x * x * p.pdf(x), lambda x, p, q: x * x * p)
        d2 *= whole(lambda x, p=p, q=q: p.pdf(x) ** 2 / q.pdf(x), lambda x, p, q: p * p / q)
        ratios = p.pdf(between) / q.pdf(between)
        w_max *= max(ratios.max(), *(p / q for _, p, q in atoms))
    np.testing.assert_allclose(target.mean, mean, rtol=1e-8)
    np.testing.assert_allclose(np.diagonal(target.covariance), square - mean**2, rtol=1e-7)
    found = weight_facts(logging, target)
    assert float(found.d2) == pytest.approx(d2, rel=1e-8)
    assert float(found.w_max) == pytest.approx(w_max, rel=1e-6)
    with pytest.raises(TypeError, match="one kind"):
        weight_facts(logging, POLICIES["clipped"])


@pytest.mark.parametrize("far", [8, 20, 36, 38, 45, 300])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("width", [0.05, np.inf])
def test_far_out_a_truncated_normal_keeps_its_digits(far, sign, width):
    """Standard deviations from the mean, on both sides: scipy's density and mean, draws inside.

    Of log Φ, jax keeps 4 · 10⁻⁹ at 20.
    """
    ends = np.sort(sign * np.array([far, far + width]))
    policy = TruncatedNormal(Gaussian.diagonal([0.0], [1.0]), *jnp.asarray(ends)[:, None])
    at, truth = sign * (far + 0.01), stats.truncnorm(far, far + width)
    found = policy.log_density(jnp.array([at]))
    assert found == pytest.approx(truth.logpdf(far + 0.01), rel=1e-9, abs=5e-9)
    assert policy.mean[0] == pytest.approx(sign * truth.mean(), rel=5e-9)
    actions = np.asarray(sample_rows(KEY, policy, 2000))
    assert ((actions >= ends[0]) & (actions <= ends[1])).all()
    assert standard_errors(actions, sign * truth.mean()).max() < 4.5
    level = np.asarray(jax.vmap(policy.levels)(jnp.asarray(actions)))[:, 0]
    assert stats.kstest(level, "uniform").pvalue > 1e-3
    below = truth.cdf(actions[:, 0]) if sign > 0 else truth.sf(-actions[:, 0])
    np.testing.assert_allclose(level, below, atol=1e-7)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    ("low", "high", "above", "variance"),
    [
        (0.0, np.inf, 0.79788456080286536, 0.36338022763241866),
        (3.0, np.inf, 0.28309865493043651, 0.070559186785268117),
        (30.0, np.inf, 0.033259667433677037, 0.001103771511890091),
        (1000.0, np.inf, 0.00099999800000999993, 9.9999400004999948e-7),
        (0.0, 2.0**-20, 4.7683715820308886e-7, 7.5791225147741722e-14),
        (8.0, 8 + 2.0**-20, 4.7683655187328768e-7, 7.5791225147521141e-14),
        (1000.0, 1000 + 2.0**-20, 4.7676136697908998e-7, 7.5791221701155958e-14),
    ],
)
def test_moments_of_a_truncated_normal_far_out_or_between_near_bounds(
    sign, low, high, above, variance
):
    """The mean above the nearer bound and the variance, to 80 digits by mpmath from φ and Φ."""
    ends = np.sort(sign * np.array([low, high]))[:, None]
    policy = TruncatedNormal(Gaussian.diagonal([0.0], [1.0]), *jnp.asarray(ends))
    assert policy.covariance[0, 0] == pytest.approx(variance, rel=2e-14)
    assert sign * policy.mean[0] == pytest.approx(low + above, rel=3e-16, abs=1e-13 * above)
    assert ends[0] <= policy.mean[0] <= ends[1]


def test_a_truncated_normal_without_bounds_that_matter_is_normal():
    ends = jnp.array([[-50.0, -np.inf], [np.inf, 60.0]])
    policy = TruncatedNormal(NORMAL, *ends)
    np.testing.assert_allclose(policy.mean, MEAN, rtol=1e-14)
    np.testing.assert_allclose(policy.covariance, np.diag(SCALE**2), rtol=1e-14)


@pytest.mark.parametrize("shares", [[1.0, 1e-320, 2.0], [1e-320, 1e280], [1e-300, 3e-300]])
def test_shares_of_any_size_come_back(tmp_path, shares):
    """Of arms and of components: to every digit that a float has of them."""
    k = len(shares)
    arms = Discrete.of(np.arange(k)[:, None], shares)
    mixed = Mixture.of(shares, [Gaussian.diagonal([1.0 * x], [1.0]) for x in range(k)])
    logs = np.log(shares) - np.log(np.max(shares)) - np.log(np.sum(shares / np.max(shares)))
    for policy, name in ((arms, "log_probability"), (mixed, "log_weight")):
        read, _ = read_policy(write_policy(tmp_path / "policy.json", policy))
        np.testing.assert_allclose(getattr(read, name), logs, rtol=1e-12)


@every_policy
def test_documents_come_back(tmp_path, name):
    path = write_policy(tmp_path / "policy.json", POLICIES[name])
    read, _ = read_policy(path)
    assert jax.tree.structure(read) == jax.tree.structure(POLICIES[name])
    for left, right in zip(*map(jax.tree.leaves, (read, POLICIES[name])), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "truncated_normal", "mean": [0], "scale": 1, "low": 1, "high": 0}, "low < high"),
        (
            {"kind": "truncated_normal", "mean": [0, 0], "scale": 1, "low": [0, 1001]},
            "expected bounds within 1000 standard deviations of the mean, got 1001 in entry 2; wi",
        ),
        (
            {"kind": "truncated_normal", "mean": [0], "scale": 0.01, "high": [-10.1]},
            "expected bounds within 1000 standard deviations of the mean, got 1010 in entry 1; wi",
        ),
        ({"kind": "dirichlet", "concentration": [1, 0]}, "'concentration': expected numbers > 0"),
        ({"kind": "discrete", "actions": [1, 2], "probabilities": [1, 1]}, "k lists of d numbers"),
        ({"kind": "discrete", "actions": [[1], [1]], "probabilities": [1, 1]}, "got one twice"),
        ({"kind": "discrete", "actions": [[1], [2]], "probabilities": [1]}, "expected 2 numbers"),
        ({"kind": "product", "parts": []}, "'parts': expected a list of policies"),
        (
            {"kind": "product", "parts": [{"kind": "deterministic", "action": [1]}]},
            "part 1: expected a policy with a density",
        ),
    ],
)
def test_bad_documents_are_refused(content, message):
    with pytest.raises(ValueError, match=message):
        parse({"mopl_policy": 1} | content)


def test_objectives_in_another_order():
    """Arms move with their names; what cannot be moved says so."""
    arms = {"kind": "discrete", "actions": [[1, 2], [3, 4]], "probabilities": [1, 3]}
    moved = parse({"mopl_policy": 1, "objectives": ["a", "b"], **arms}, ["w_b", "w_a"])
    np.testing.assert_array_equal(moved.actions, [[2, 1], [4, 3]])
    np.testing.assert_allclose(np.exp(moved.log_probability), [0.25, 0.75])
    shares = {"kind": "logistic_normal", "mean": [0.0], "scale": 1}
    with pytest.raises(ValueError, match="'objectives': expected the order of the log's weights"):
        parse({"mopl_policy": 1, "objectives": ["a", "b"], **shares}, ["w_b", "w_a"])


# Through the verbs: logs of each kind, whose reward is linear in what is played.


def log_of(name, n=4000):
    action = drawn(name, n)
    rng = np.random.default_rng(1)
    reward = action @ np.arange(1, action.shape[1] + 1) + rng.normal(size=n)
    columns = {f"w_{k}": column for k, column in enumerate(action.T)}
    return pa.table(columns | {"reward": reward})


def true_value(name):
    """The mean reward of 200,000 draws, and its error."""
    action = np.asarray(sample_rows(jax.random.key(9), OTHERS[name], 200_000))
    reward = action @ np.arange(1, action.shape[1] + 1)
    return reward.mean(), reward.std() / np.sqrt(len(reward))


EVALUATED = [x if x == "clipped" else pytest.param(x, marks=pytest.mark.nightly) for x in POLICIES]


@pytest.mark.parametrize("name", EVALUATED)
def test_logs_of_every_kind_are_checked_and_answered(tmp_path, name):
    table = log_of(name)
    logging = write_policy(tmp_path / "logging.json", POLICIES[name])
    report = check_log(table, action="w_", logging=logging)
    assert report.verdict != "refuse"
    made = evaluate(table, OTHERS[name], action="w_", logging=logging, interval="ess_exact")
    assert made.verdict == "trust"
    value, error = true_value(name)
    half = 0.5 * (made.interval.upper - made.interval.lower)
    assert abs(made.value - value) < 2 * half + 4 * error


TESTED = ["log_normal", "logistic_normal", "truncated", "arms"]


@pytest.mark.parametrize("name", TESTED)
def test_a_log_of_another_policy_is_refused_by_check(name):
    logging = OTHERS[name]
    if name == "arms":
        logging = Discrete.of(ARMS, [0.4, 0.3, 0.3])
    report = check_log(log_of(name), action="w_", logging=logging)
    assert report.verdict == "refuse"


SEEN = {
    "clipped": "kind clipped_normal",
    "dirichlet": "kind dirichlet or logistic_normal",
    "arms": "kind discrete",
}


@pytest.mark.parametrize("name", SEEN)
def test_a_log_says_what_it_looks_like(name):
    """Under a normal policy it is refused, with the kind that declares it."""
    table, d = log_of(name), POLICIES[name].dim
    wide = Gaussian.diagonal(np.zeros(d), 5.0)
    report = check_log(table, action="w_", logging=wide)
    assert report.verdict == "refuse"
    assert any(SEEN[name] in finding.found for finding in report.findings)


@pytest.mark.nightly
def test_arms_are_compared(tmp_path):
    """The difference of two ways to share traffic, in closed form."""
    paths = [
        write_policy(tmp_path / f"{x}.json", policy)
        for x, policy in (("old", POLICIES["arms"]), ("new", OTHERS["arms"]))
    ]
    change = compare(log_of("arms"), paths, action="w_", logging=paths[0]).policies[1].difference
    truth = (np.array([0.3, 0.3, 0.4]) - SHARE) @ (ARMS @ [1, 2])
    assert change.lower < truth < change.upper


def test_through_a_map_the_weights_are_those_behind_it():
    facts = policy_facts(log_normal(MEAN, SCALE), OTHERS["log_normal"])
    behind = policy_facts(NORMAL, NEAR)
    assert (facts.d2, facts.w_max) == (behind.d2, behind.w_max)
    assert policy_facts(NORMAL, OTHERS["log_normal"]).d2 is None


@pytest.mark.parametrize("name", ["arms", "dirichlet", "product"])
def test_moments_of_weights_are_those_of_the_draws(name):
    """E w² at 4.5 standard errors of 20,000 draws, no weight above the largest, some near it."""
    facts = policy_facts(POLICIES[name], OTHERS[name])
    action = jnp.asarray(drawn(name))
    weight = np.exp(jax.vmap(OTHERS[name].log_density)(action) - densities(name, action))
    assert standard_errors(weight[:, None] ** 2, float(facts.d2)).max() < 4.5
    if np.isfinite(facts.w_max):
        assert 0.9 * facts.w_max < weight.max() <= facts.w_max * (1 + 1e-9)


def test_weights_that_have_no_bound_have_none():
    """Dirichlet policies that play near an edge more often; arms that were not logged."""
    near, far = Dirichlet(jnp.array([1.0, 1.0])), Dirichlet(jnp.array([2.0, 0.4]))
    assert np.isinf(policy_facts(near, far).w_max)
    assert np.isinf(policy_facts(near, far).d2)
    other = Discrete.of(ARMS + 1, SHARE)
    assert np.isinf(policy_facts(POLICIES["arms"], other).d2)


@pytest.mark.parametrize("name", ["clipped", "product"])
def test_draws_are_served_with_their_density(tmp_path, name):
    path = write_policy(tmp_path / "policy.json", POLICIES[name])
    made = draw(path, 50, seed=1)
    action = np.stack([made[f"action_{k + 1}"] for k in range(POLICIES[name].dim)], axis=1)
    np.testing.assert_allclose(made["log_propensity"], densities(name, action), rtol=1e-12)


@pytest.mark.nightly
def test_arms_of_a_file_with_two_decimals(tmp_path):
    """Actions as a CSV holds them are the arms that they were."""
    table = log_of("arms", 500)
    rounded = {f"w_{k}": np.round(np.asarray(table[f"w_{k}"]), 2) for k in range(2)}
    path = write(tmp_path / "log.csv", rounded | {"reward": np.asarray(table["reward"])})
    made = evaluate(path, OTHERS["arms"], action="w_", logging=POLICIES["arms"])
    assert made.unseen == 0
    assert made.mean_weight.compatible


def test_bounds_far_from_what_is_drawn_and_open_ends_have_moments():
    """All is played at a bound a hundred deviations away; a ratio is endless at an open end alone
    where it grows.
    """
    above = jnp.array([2.0]), jnp.array([np.inf])
    far = ClippedNormal(Gaussian.diagonal(np.array([-5.0]), 0.1), *above)
    assert far.mean.tolist() == [2.0]
    assert far.covariance.tolist() == [[0.0]]
    ends = jnp.array([-np.inf]), jnp.array([2.0])
    logging, target = (
        ClippedNormal(Gaussian.diagonal(np.array([mean]), 1.0), *ends) for mean in (0.0, 0.5)
    )
    atom = stats.norm.sf(1.5) / stats.norm.sf(2.0)
    density = np.exp(0.5 * 2.0 - 0.125)
    assert float(weight_facts(logging, target).w_max) == pytest.approx(max(atom, density))
    assert float(weight_facts(target, logging).w_max) == np.inf
